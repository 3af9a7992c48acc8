//! Choosing another password by a mailed link.

use serde_json::json;

use crate::app::App;
use crate::domain::accounts::{record, withdraw_mails};
use crate::domain::links::{account_of, digests_of, wrong_link};
use crate::domain::passwords::hash_for;
use crate::domain::{mails, unproven};
use crate::error::Result;
use crate::model::account::Holdings;
use crate::model::audit::{EventType, Trail};
use crate::model::mail::{Notice, Purpose};
use crate::model::password::NewPassword;
use crate::model::secret::Secret;
use crate::repo::{account_holdings, accounts, email_tokens, sessions, users};

const PURPOSE: Purpose = Purpose::ResetPassword;

/// Sets a new password for whoever followed a mailed link. Every session ends. Whoever reads the
/// mailbox knows the password then, so the address is proven; where it was not before, what the
/// account made ends: see [`unproven`]. Where they are to go on to.
///
/// # Errors
/// Unauthenticated where the link's token is unknown, expired or used; invalid where the password
/// is the e-mail address.
pub async fn reset(
    app: &App,
    token: &Secret,
    password: NewPassword,
    trail: &Trail,
) -> Result<Option<String>> {
    let account = account_of(app, PURPOSE, token).await?;
    let digests = digests_of(app, token)?;
    let hash = hash_for(app, account, password).await?;
    app.db
        .transaction(async |tx| {
            let account = accounts::lock(tx, account).await.map_err(|_| wrong_link())?;
            withdraw_mails(tx, &account.email).await?;
            let spent = email_tokens::spend(tx, (account.id, PURPOSE), &digests).await?;
            let callback_url = spent.ok_or_else(wrong_link)?;
            accounts::set_password(tx, account.id, &hash).await?;
            accounts::prove(tx, account.id, trail.at).await?;
            // Held before sessions, as everywhere.
            let seats = users::lock_seats(tx, account.id).await?;
            email_tokens::remove_all(tx, account.id).await?;
            let mut detail = json!({
                "was_verified": account.is_verified,
                "was_proven": account.is_proven,
            });
            if account.is_proven {
                let ended = sessions::revoke_all(tx, account.id, None, trail.at).await?;
                detail["sessions_ended"] = json!(ended);
            } else {
                unproven::end(tx, account.id, &seats, trail).await?.add_to(&mut detail);
            }
            let target = account.id.to_string();
            record(tx, account.id, EventType::PasswordReset, &target, detail, trail).await?;
            mails::queue_notice(app, tx, (Notice::PasswordChanged, account.id), trail.at).await?;
            app.mail_waker.notify_one();
            Ok(callback_url)
        })
        .await
}

/// What the account has of which setting a new password by this link ends some; `None` where the
/// link is not good.
///
/// # Errors
/// The database's own.
pub async fn holdings(app: &App, token: &Secret) -> Result<Option<Holdings>> {
    let Ok(digests) = digests_of(app, token) else { return Ok(None) };
    app.db
        .run(async |db| match email_tokens::find(db, PURPOSE, &digests).await? {
            Some(account) => account_holdings::count(db, account).await.map(Some),
            None => Ok(None),
        })
        .await
}
