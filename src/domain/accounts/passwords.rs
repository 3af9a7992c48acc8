//! Passwords: sign-in, password change, and the request of a link to reset the password.
//!
//! No password is hashed inside a transaction. The transaction checks that the password has not
//! changed since it was verified.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::app::rejections::SignInFailureReason;
use crate::domain::accounts::email_verification::resend_link;
use crate::domain::accounts::events::record_account_event;
use crate::domain::accounts::find as find_account;
use crate::domain::accounts::sessions::{StartedSession, start_session};
use crate::domain::accounts::verified_password::{
    VerifiedPassword, reauthenticate, verify_password,
};
use crate::domain::mail;
use crate::error::{AuthFailure, Error, ErrorKind, Issue, Result};
use crate::model::ValidationError;
use crate::model::account::Account;
use crate::model::account_reach::AccountReach;
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::caller::Person;
use crate::model::email::Email;
use crate::model::ids::{AccountId, SessionId};
use crate::model::mail::{LinkPurpose, MailKind, SecurityNotice};
use crate::model::password::NewPassword;
use crate::model::rate_limit::client_network;
use crate::model::secret::Secret;
use crate::model::session::{KNOWN_NETWORK_LIFETIME, SessionClient};
use crate::repo::{accounts, email_tokens, mails, sessions};

/// Verifies the password and starts a session. The flag in `client` states whether the browser
/// keeps the session's cookie when it is closed.
///
/// # Errors
/// Unauthenticated for an unknown address and for a wrong password, with the same message and after
/// the same work; unauthenticated also if the account is not active; e-mail not verified if
/// verification is required and missing.
pub async fn sign_in(
    app: &App,
    (email, password): (&Email, Secret),
    callback_url: Option<&str>,
    client: (&SessionClient, bool),
    audit: &AuditContext,
) -> Result<(Account, StartedSession)> {
    let known = app.db.run(async |db| accounts::find_by_email(db, email.as_str()).await).await?;
    let id = known.as_ref().map(|account| account.id);
    let verified = verify_password(app, known, password).await;
    let verified = verified.inspect_err(|error| {
        if let (Some(id), ErrorKind::Unauthenticated(_)) = (id, error.kind()) {
            app.rejections.record_sign_in(id, SignInFailureReason::WrongPassword, audit);
        }
    })?;
    let account = verified.account();
    if !account.is_active {
        app.rejections.record_sign_in(account.id, SignInFailureReason::AccountInactive, audit);
        let message = "This account is not active";
        return Err(Error::unauthenticated(AuthFailure::InactiveAccount, message));
    }
    // An account that was verified before proofs were recorded may sign in, and can request the
    // link then.
    if app.config.accounts.require_email_verification && !account.is_verified {
        app.rejections.record_sign_in(account.id, SignInFailureReason::EmailNotVerified, audit);
        resend_link(app, account, callback_url, audit).await?;
        let message = "Verify your e-mail address first: follow the link that was mailed to you";
        return Err(Error::new(ErrorKind::EmailNotVerified, message));
    }
    let signing_in = app.db.transaction(async |tx| {
        let account = verified.lock_account(tx).await?;
        queue_new_sign_in_notice(app, tx, account.id, audit).await?;
        accounts::record_sign_in(tx, account.id, audit.at).await?;
        let session = start_session(app, tx, account.id, client, audit).await?;
        Ok((find_account(tx, account.id).await?, session))
    });
    let signed_in = signing_in.await;
    app.mail_waker.notify_one();
    signed_in
}

/// Queues a notice if the account has sessions of the last [`KNOWN_NETWORK_LIFETIME`], but none
/// from the network of this request.
async fn queue_new_sign_in_notice(
    app: &App,
    tx: &mut PgConnection,
    account: AccountId,
    audit: &AuditContext,
) -> Result<()> {
    let Some(address) = audit.address else { return Ok(()) };
    if sessions::is_new_network(
        tx,
        account,
        client_network(address),
        audit.at - KNOWN_NETWORK_LIFETIME,
    )
    .await?
    {
        mail::queue_notice(app, tx, (SecurityNotice::NewSignIn, account), audit.at).await?;
    }
    Ok(())
}

/// Verifies the old password and hashes the new one, before the transaction of [`change`].
///
/// # Errors
/// As [`reauthenticate`] and [`hash_new_password`].
pub async fn prepare_change(
    app: &App,
    person: &Person,
    old: Secret,
    new: NewPassword,
) -> Result<(VerifiedPassword, String)> {
    let verified = reauthenticate(app, person.account, old).await?;
    Ok((verified, hash_new_password(app, person.account, new).await?))
}

/// Returns the hash of a new password for the account.
///
/// # Errors
/// Invalid if the password is the account's e-mail address; unavailable if too many passwords are
/// waiting to be hashed.
pub async fn hash_new_password(
    app: &App,
    account: AccountId,
    password: NewPassword,
) -> Result<String> {
    let account = app.db.run(async |db| find_account(db, account).await).await?;
    let email = Email::parse(&account.email)
        .map_err(|ValidationError(message)| Error::internal(message))?;
    let invalid =
        |ValidationError(message)| Error::invalid(vec![Issue::field("newPassword", message)]);
    password.differs_from(&email).map_err(invalid)?;
    app.password_hasher.hash(password.into_secret()).await
}

/// Changes an account's password. A new session replaces the current one, with a remembered cookie
/// if the current one has one; `ends_others` states whether the other sessions end, too. If the
/// account's address is proven, links to reset the password stop working.
///
/// # Errors
/// Unauthenticated if the password was changed meanwhile.
pub async fn change(
    app: &App,
    tx: &mut PgConnection,
    (verified, hash): (&VerifiedPassword, &str),
    (this, ends_others): (SessionId, bool),
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<(Account, StartedSession)> {
    let account = verified.lock_account(tx).await?;
    accounts::set_password(tx, account.id, hash).await?;
    if ends_others {
        sessions::revoke_all(tx, AccountReach::all_of(account.id), None, audit.at).await?;
    } else {
        sessions::revoke(tx, AccountReach::all_of(account.id), this, audit.at).await?;
    }
    // Reset links of an unproven account are for the mailbox's owner. A password change may come
    // from another person, who must not be able to cancel them by changing it again.
    if account.is_proven {
        mails::cancel(tx, MailKind::Link(LinkPurpose::ResetPassword), &account.email).await?;
        email_tokens::remove(tx, (account.id, LinkPurpose::ResetPassword)).await?;
    }
    let target = account.id.to_string();
    let detail = json!({ "other_sessions_ended": ends_others });
    record_account_event(tx, account.id, AuditEventType::PasswordChanged, &target, detail, audit)
        .await?;
    let is_remembered = sessions::is_remembered(tx, account.id, this).await?;
    mail::queue_notice(app, tx, (SecurityNotice::PasswordChanged, account.id), audit.at).await?;
    let session = start_session(app, tx, account.id, (client, is_remembered), audit).await?;
    Ok((find_account(tx, account.id).await?, session))
}

/// Queues a mail with a link to an address, whether or not an account has it. That is checked only
/// when the mail is rendered, so that neither the response nor its time reveals it.
pub async fn request_link(
    app: &App,
    purpose: LinkPurpose,
    email: &Email,
    callback_url: Option<&str>,
    audit: &AuditContext,
) -> Result<()> {
    let mail = (MailKind::Link(purpose), email.as_str());
    let queued = app
        .db
        .transaction(async |tx| mail::queue(app, tx, mail, callback_url, audit.at).await)
        .await;
    app.mail_waker.notify_one();
    queued
}
