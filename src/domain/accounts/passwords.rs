//! Passwords: signing in with one, changing it, and requesting a link to reset it.
//!
//! Nothing is hashed inside a transaction, and the result is checked again inside it: a password
//! that was changed meanwhile proves nothing.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::app::rejections::SignInFailureReason;
use crate::domain::accounts as people;
use crate::domain::accounts::email_verification::resend_link;
use crate::domain::accounts::events::record_account_event;
use crate::domain::accounts::sessions::{StartedSession, start_session};
use crate::domain::accounts::verified_password::{
    VerifiedPassword, reauthenticate, verify_password,
};
use crate::domain::mail;
use crate::error::{AuthFailure, Error, ErrorKind, Issue, Result};
use crate::model::ValidationError;
use crate::model::account::Account;
use crate::model::audit::{AuditContext, EventType};
use crate::model::caller::Person;
use crate::model::email::Email;
use crate::model::ids::{AccountId, SessionId};
use crate::model::mail::{LinkPurpose, MailKind, SecurityNotice};
use crate::model::password::NewPassword;
use crate::model::rate_limit::client_network;
use crate::model::secret::Secret;
use crate::model::session::{KNOWN_NETWORK_LIFETIME, SessionClient};
use crate::repo::{accounts, email_tokens, mails, sessions};

/// Signs an account in with a new session, with a cookie that outlives the browser's session or
/// not.
///
/// # Errors
/// Unauthenticated, with one message and at one cost for an unknown address and a wrong password;
/// where the password is correct, but the account is not active; e-mail not verified where that is
/// required.
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
    // One that was verified before there was a proof signs in, and can have the link mailed then.
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
        Ok((people::find(tx, account.id).await?, session))
    });
    let done = signing_in.await;
    app.job_waker.notify_one();
    done
}

/// Queues a notice where the person signed in before, and never from where they do now.
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

/// What a change of password needs: the proof of the old one, and the hash of the new one.
///
/// # Errors
/// As [`reauthenticate`]; invalid where the new password is the person's e-mail address.
pub async fn prepare_change(
    app: &App,
    person: &Person,
    old: Secret,
    new: NewPassword,
) -> Result<(VerifiedPassword, String)> {
    let verified = reauthenticate(app, person.account, old).await?;
    Ok((verified, hash_new_password(app, person.account, new).await?))
}

/// The hash of a new password for the person.
///
/// # Errors
/// Invalid where it is their e-mail address; unavailable where too many wait to be hashed.
pub async fn hash_new_password(
    app: &App,
    account: AccountId,
    password: NewPassword,
) -> Result<String> {
    let account = app.db.run(async |db| people::find(db, account).await).await?;
    let email =
        Email::parse(&account.email).map_err(|ValidationError(why)| Error::internal(why))?;
    let invalid = |ValidationError(why)| Error::invalid(vec![Issue::field("newPassword", why)]);
    password.differs_from(&email).map_err(invalid)?;
    app.password_hasher.hash(password.into_secret()).await
}

/// Changes a person's password. The session that it is changed in is followed by a new one, with a
/// cookie that is remembered where the old one was; the others end, unless they are to go on. A
/// link to reset the password is dead from now on.
///
/// # Errors
/// Unauthenticated where the password was changed meanwhile.
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
        sessions::revoke_all(tx, account.id, None, audit.at).await?;
    } else {
        sessions::revoke(tx, account.id, this, audit.at).await?;
    }
    // Reset links of an unproven account are for the mailbox's owner. A password change may come
    // from another person, who must not be able to cancel them by changing it again.
    if account.is_proven {
        mails::cancel(tx, MailKind::Link(LinkPurpose::ResetPassword), &account.email).await?;
        email_tokens::remove(tx, (account.id, LinkPurpose::ResetPassword)).await?;
    }
    let target = account.id.to_string();
    let detail = json!({ "other_sessions_ended": ends_others });
    record_account_event(tx, account.id, EventType::PasswordChanged, &target, detail, audit)
        .await?;
    let is_remembered = sessions::is_remembered(tx, account.id, this).await?;
    mail::queue_notice(app, tx, (SecurityNotice::PasswordChanged, account.id), audit.at).await?;
    let session = start_session(app, tx, account.id, (client, is_remembered), audit).await?;
    Ok((people::find(tx, account.id).await?, session))
}

/// Queues a mail with a link to an address, whether or not it has an account: that is decided when
/// the mail is rendered, so that neither the response nor its time reveals it.
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
    app.job_waker.notify_one();
    queued
}
