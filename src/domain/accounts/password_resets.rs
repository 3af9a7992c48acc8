//! Password resets by a mailed link.

use serde_json::json;

use crate::app::App;
use crate::domain::accounts::cancel_link_mails;
use crate::domain::accounts::events::record_account_event;
use crate::domain::accounts::passwords::hash_new_password;
use crate::domain::accounts::unproven;
use crate::domain::links::{self, candidate_digests, find_account};
use crate::domain::mail;
use crate::error::Result;
use crate::model::account::AccountAccess;
use crate::model::account_reach::AccountReach;
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::mail::{LinkPurpose, SecurityNotice};
use crate::model::password::NewPassword;
use crate::model::secret::Secret;
use crate::repo::{account_access, accounts, email_tokens, memberships, sessions};

const PURPOSE: LinkPurpose = LinkPurpose::ResetPassword;

/// Sets a new password by a mailed link, and revokes every session. A reader of the mailbox knows
/// the password then, so the address is proven; if it was not before, the account's personal access
/// tokens, app grants, keys and open invitations are revoked, too: see [`unproven`]. Returns the
/// link's callback URL.
///
/// # Errors
/// Unauthenticated if the link's token is unknown, expired or used; invalid if the password is the
/// e-mail address; unavailable if too many passwords are waiting to be hashed.
pub async fn reset(
    app: &App,
    token: &Secret,
    password: NewPassword,
    audit: &AuditContext,
) -> Result<Option<String>> {
    let account = find_account(app, PURPOSE, token).await?;
    let hash = hash_new_password(app, account, password).await?;
    app.db
        .transaction(async |tx| {
            let account =
                accounts::lock(tx, account).await.map_err(links::not_found_to_invalid_link)?;
            cancel_link_mails(tx, &account.email).await?;
            let callback_url = links::consume(app, tx, (account.id, PURPOSE), token).await?;
            accounts::set_password(tx, account.id, &hash).await?;
            accounts::mark_email_proven(tx, account.id, audit.at).await?;
            // Organizations are locked before sessions, as everywhere.
            let memberships = memberships::lock_of_account(tx, account.id).await?;
            email_tokens::remove_all(tx, account.id).await?;
            let mut detail = json!({
                "was_verified": account.is_verified,
                "was_proven": account.is_proven,
            });
            if account.is_proven {
                let ended =
                    sessions::revoke_all(tx, AccountReach::all_of(account.id), None, audit.at)
                        .await?;
                detail["sessions_ended"] = json!(ended);
            } else {
                let revoked = unproven::revoke_access(tx, account.id, &memberships, audit).await?;
                revoked.add_to(&mut detail);
            }
            let target = account.id.to_string();
            record_account_event(
                tx,
                account.id,
                AuditEventType::PasswordReset,
                &target,
                detail,
                audit,
            )
            .await?;
            mail::queue_notice(app, tx, (SecurityNotice::PasswordChanged, account.id), audit.at)
                .await?;
            app.mail_waker.notify_one();
            Ok(callback_url)
        })
        .await
}

/// Returns the numbers of credentials and invitations of the link's account. A reset ends the
/// sessions, and if the address is not proven, all of them. `None` if the link is not valid.
pub async fn find_access(app: &App, token: &Secret) -> Result<Option<AccountAccess>> {
    let Some(digests) = candidate_digests(app, token) else { return Ok(None) };
    app.db
        .run(async |db| match email_tokens::find(db, PURPOSE, &digests).await? {
            Some(account) => account_access::count(db, account).await.map(Some),
            None => Ok(None),
        })
        .await
}
