//! E-mail verification: needs the token of a mailed link, and a proof of the account's password.
//!
//! The link alone proves only that a reader of the mailbox followed it. The account may have been
//! created by a stranger who waits for the owner of the mailbox to press the button.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::events::record_account_event;
use crate::domain::accounts::verified_password::VerifiedPassword;
use crate::domain::links::{self, not_found_to_invalid_link};
use crate::domain::mail;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::ids::{AccountId, SessionId};
use crate::model::mail::{LinkPurpose, MailKind};
use crate::model::secret::Secret;
use crate::repo::accounts::AccountCredentials;
use crate::repo::{account_callers, accounts, email_tokens};

const PURPOSE: LinkPurpose = LinkPurpose::VerifyEmail;

/// The proof, beside the link, that the client knows the account's password.
pub enum PasswordProof {
    /// A session of the account.
    Session(SessionId),
    /// The password itself.
    Password(VerifiedPassword),
}

impl PasswordProof {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Password(_) => "password",
        }
    }

    /// Locks the account until the transaction ends, and checks that the proof is still valid.
    async fn lock_account(
        &self,
        tx: &mut PgConnection,
        account: AccountId,
    ) -> Result<AccountCredentials> {
        match self {
            Self::Password(verified) => verified.lock_account(tx).await,
            Self::Session(session) => {
                let account =
                    accounts::lock(tx, account).await.map_err(not_found_to_invalid_link)?;
                account_callers::lock_and_confirm_session(tx, None, *session).await?;
                Ok(account)
            }
        }
    }
}

/// Marks the account's address as proven and changes nothing else. Returns the link's callback URL.
///
/// # Errors
/// Unauthenticated if the link's token is unknown, expired or used, or if the session ended or the
/// password was changed meanwhile; the link remains valid then.
pub async fn verify(
    app: &App,
    account: AccountId,
    token: &Secret,
    proof: &PasswordProof,
    audit: &AuditContext,
) -> Result<Option<String>> {
    app.db
        .transaction(async |tx| {
            let account = proof.lock_account(tx, account).await?;
            let callback_url = links::consume(app, tx, (account.id, PURPOSE), token).await?;
            if accounts::mark_email_proven(tx, account.id, audit.at).await? {
                let (event, target) = (AuditEventType::EmailVerified, account.id.to_string());
                let detail = json!({ "proof": proof.as_str() });
                record_account_event(tx, account.id, event, &target, detail, audit).await?;
            }
            Ok(callback_url)
        })
        .await
}

/// Returns the error for a link that is presented without a proof of the password.
#[must_use]
pub fn password_required() -> Error {
    let message = "`password` is required without a session of the account";
    Error::unauthenticated(AuthFailure::MissingCredential, message)
}

/// Mails an account's link again, but only if the last one has expired: a client that knows the
/// password could otherwise choose the moment at which one is mailed. Beyond the rate limit no mail
/// is sent, and no error is returned.
pub async fn resend_link(
    app: &App,
    account: &AccountCredentials,
    callback_url: Option<&str>,
    audit: &AuditContext,
) -> Result<()> {
    let (link, to) = ((account.id, PURPOSE), account.email.as_str());
    if app.db.run(async |db| email_tokens::is_pending(db, link, to).await).await? {
        return Ok(());
    }
    let mailing = app.db.transaction(async |tx| {
        // Locked, so that of two concurrent requests one mails.
        let account = accounts::lock(tx, account.id).await?;
        if account.is_proven || email_tokens::is_pending(tx, link, to).await? {
            return Ok(());
        }
        mail::queue(app, tx, (MailKind::Link(PURPOSE), to), callback_url, audit.at).await
    });
    let mail = (PURPOSE.as_str(), to);
    let mailed =
        mail::with_rate_limits(app, audit.address, mail, |decision| decision.require(), mailing)
            .await;
    app.mail_waker.notify_one();
    match mailed {
        Err(error) if matches!(error.kind(), ErrorKind::RateLimited | ErrorKind::NotFound) => {
            Ok(())
        }
        result => result,
    }
}
