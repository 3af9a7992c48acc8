//! Sign-up where an address must be verified before the account can sign in. The response is the
//! same for every address, so that it does not disclose which are registered; the mail reports the
//! outcome.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::events::record_account_event;
use crate::domain::accounts::unproven;
use crate::domain::accounts::{
    HashedSignUp, MAX_ATTEMPTS, SignUpDetails, SignUpOptions, hash_password, sign_up_hashed,
};
use crate::domain::mail;
use crate::error::{Error, ErrorKind, Result};
use crate::model::account::AccountHandle;
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::leak::LeakPolicy;
use crate::model::mail::{LinkPurpose, MailKind};
use crate::model::organization::OrganizationChanges;
use crate::model::role::Role;
use crate::model::session::SessionClient;
use crate::repo::accounts::AccountCredentials;
use crate::repo::{accounts, email_tokens, mails, memberships, organizations, pending_sign_ups};

/// The outcome of a sign-up for an address that is taken.
enum TakenAddress {
    /// The sign-up replaced a pending account, or a mail to the address states that it is
    /// registered.
    Handled,
    /// No account has the address any more.
    Free,
}

/// Creates an account that cannot sign in before its address is verified. If the address belongs
/// to an account that is not verified, the newer sign-up replaces the older one: otherwise a
/// stranger who signed up first would have chosen the password. A verified or inactive account is
/// not changed, and its owner is notified by mail.
///
/// # Errors
/// Conflict if every generated handle was taken; unavailable if too many passwords are waiting to
/// be hashed, or if the address was repeatedly taken and freed meanwhile.
pub async fn sign_up(
    app: &App,
    details: SignUpDetails,
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<()> {
    let details = hash_password(app, details).await?;
    let options = SignUpOptions { creates_key: false, starts_session: false, is_remembered: false };
    for attempt in 1..=MAX_ATTEMPTS {
        match sign_up_hashed(app, &details, options, client, audit).await {
            Err(error) if *error.kind() == ErrorKind::EmailTaken => {}
            result => return result.map(|_| ()),
        }
        let handle = AccountHandle::suggest(details.name.as_ref(), attempt > 1, &*app.entropy);
        let handled = app
            .db
            .transaction(async |tx| handle_taken_address(app, tx, &details, &handle, audit).await);
        match handled.await {
            Ok(TakenAddress::Handled) => {
                app.mail_waker.notify_one();
                return Ok(());
            }
            Ok(TakenAddress::Free) => {}
            Err(error) if attempt < MAX_ATTEMPTS && *error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::unavailable("the address was repeatedly taken and freed"))
}

/// Handles a sign-up for an address that belongs to an account. The account is locked until the
/// transaction ends, so that a verification or password reset happens before or after.
async fn handle_taken_address(
    app: &App,
    tx: &mut PgConnection,
    details: &HashedSignUp,
    handle: &AccountHandle,
    audit: &AuditContext,
) -> Result<TakenAddress> {
    let address = details.email.as_str();
    let Some(account) = accounts::lock_by_email(tx, address).await? else {
        return Ok(TakenAddress::Free);
    };
    // An account that was verified before proofs were recorded may be in use by the owner of the
    // mailbox; a stranger's sign-up must not end that.
    if account.is_verified || !account.is_active {
        // This mail must not contain a verification link: the account has another password.
        let mail = (MailKind::AlreadyRegistered, address);
        mail::queue(app, tx, mail, None, audit.at).await?;
    } else {
        replace_pending_account(app, tx, &account, (details, handle), audit).await?;
    }
    Ok(TakenAddress::Handled)
}

/// Replaces a pending account by the newer sign-up: its password, name and link become those of the
/// new one, and everything that was created with the account is revoked. A link to reset the
/// password stays valid, because it was mailed to the owner of the mailbox.
async fn replace_pending_account(
    app: &App,
    tx: &mut PgConnection,
    account: &AccountCredentials,
    (details, handle): (&HashedSignUp, &AccountHandle),
    audit: &AuditContext,
) -> Result<()> {
    let (id, link) = (account.id, MailKind::Link(LinkPurpose::VerifyEmail));
    // Before the token is removed, so that this waits for a worker that is rendering the mail.
    mails::cancel(tx, link, &account.email).await?;
    email_tokens::remove(tx, (id, LinkPurpose::VerifyEmail)).await?;
    let memberships = memberships::lock_of_account(tx, id).await?;
    let revoked = unproven::revoke_access(tx, id, &memberships, audit).await?;
    let (name, at) = (details.name.as_ref(), audit.at);
    let home =
        pending_sign_ups::replace(tx, id, (name, handle), &details.password_hash, at).await?;
    let is_own = memberships.iter().any(|membership| {
        membership.organization == home && membership.role == Role::Owner && !membership.is_shared
    });
    if is_own {
        let changes = OrganizationChanges {
            name: details.organization_name(),
            allowed_origins: Some(Vec::new()),
            leak_policy: Some(LeakPolicy::default()),
        };
        organizations::update(tx, home, &changes, at).await?;
    }
    let mut detail = json!({});
    revoked.add_to(&mut detail);
    record_account_event(tx, id, AuditEventType::SignUpReplaced, &id.to_string(), detail, audit)
        .await?;
    let mail = (link, account.email.as_str());
    mail::queue(app, tx, mail, details.callback_url.as_deref(), at).await
}
