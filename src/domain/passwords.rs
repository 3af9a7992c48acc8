//! Passwords: signing in with one, changing it, and asking for a link to choose another.
//!
//! Nothing is hashed inside a transaction, and what a password proved is asked again inside it: a
//! password that was changed meanwhile proves nothing.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::app::password_hasher::Verified;
use crate::app::sign_in_failures::Reason;
use crate::domain::accounts::{self as people, record};
use crate::domain::email_verification::mail_again;
use crate::domain::mails;
use crate::domain::sessions::{Started, start};
use crate::error::{Error, Issue, Kind, Proof, Result};
use crate::model::Invalid;
use crate::model::account::Account;
use crate::model::audit::{EventType, Trail};
use crate::model::caller::Person;
use crate::model::email::Email;
use crate::model::ids::{AccountId, SessionId};
use crate::model::limit::network;
use crate::model::mail::{MailKind, Notice, Purpose};
use crate::model::password::NewPassword;
use crate::model::secret::Secret;
use crate::model::session::{Client, KNOWN_PLACE};
use crate::repo::accounts::Locked;
use crate::repo::{accounts, email_tokens, outbox, sessions};

/// Signs a person in: a new session, whoever has others, with or without a cookie that outlives the
/// browser's.
///
/// # Errors
/// Unauthenticated, in one text and at one cost for an unknown address and a wrong password; where
/// the password is right, but the account not active; e-mail not verified where it has to be.
pub async fn sign_in(
    app: &App,
    (email, password): (&Email, Secret),
    callback_url: Option<&str>,
    client: (&Client, bool),
    trail: &Trail,
) -> Result<(Account, Started)> {
    let known = app.db.run(async |db| accounts::find_by_email(db, email.as_str()).await).await?;
    let id = known.as_ref().map(|account| account.id);
    let proven = prove(app, known, password).await;
    let proven = proven.inspect_err(|error| {
        if let (Some(id), Kind::Unauthenticated(_)) = (id, error.kind()) {
            app.sign_in_failures.note(id, Reason::WrongPassword, trail);
        }
    })?;
    let account = &proven.account;
    if !account.is_active {
        app.sign_in_failures.note(account.id, Reason::AccountInactive, trail);
        let message = "This account is not active";
        return Err(Error::unauthenticated(Proof::InactiveAccount, message));
    }
    // One that was verified before there was a proof signs in, and can have the link mailed then.
    if app.config.accounts.require_email_verification && !account.is_verified {
        app.sign_in_failures.note(account.id, Reason::EmailNotVerified, trail);
        mail_again(app, account, callback_url, trail).await?;
        let message = "Verify your e-mail address first: follow the link that was mailed to you";
        return Err(Error::new(Kind::EmailNotVerified, message));
    }
    let signing_in = app.db.transaction(async |tx| {
        let account = proven.hold(tx).await?;
        notice_new_place(app, tx, account.id, trail).await?;
        accounts::signed_in(tx, account.id, trail.at).await?;
        let session = start(app, tx, account.id, client, trail).await?;
        Ok((people::find(tx, account.id).await?, session))
    });
    let done = signing_in.await;
    app.mail_waker.notify_one();
    done
}

/// Queues a notice where the person signed in before, and never from where they do now.
async fn notice_new_place(
    app: &App,
    tx: &mut PgConnection,
    account: AccountId,
    trail: &Trail,
) -> Result<()> {
    let Some(address) = trail.address else { return Ok(()) };
    if sessions::is_new_place(tx, account, network(address), trail.at - KNOWN_PLACE).await? {
        mails::queue_notice(app, tx, (Notice::NewSignIn, account), trail.at).await?;
    }
    Ok(())
}

/// An account whose password somebody showed.
pub struct Proven {
    account: Locked,
    rehash: Option<String>,
}

/// Proves that whoever asks knows the password of `known`; nobody's takes as long.
async fn prove(app: &App, known: Option<Locked>, password: Secret) -> Result<Proven> {
    let stored = known.as_ref().and_then(|account| account.password_hash.clone());
    let verified = app.password_hasher.verify(password, stored).await?;
    match (verified, known) {
        (Verified::Match { rehash }, Some(account)) => Ok(Proven { account, rehash }),
        _ => Err(wrong_password()),
    }
}

/// Proves that whoever has a session of the account, or a link that was mailed to it, knows its
/// password, too.
///
/// # Errors
/// Unauthenticated where they do not.
pub async fn prove_of(app: &App, account: AccountId, password: Secret) -> Result<Proven> {
    let account = app.db.run(async |db| accounts::lock(db, account).await).await;
    prove(app, Some(account.map_err(gone)?), password).await
}

/// What a change of password needs: the proof of the old one, and the hash of the new one.
///
/// # Errors
/// As [`prove_of`]; invalid where the new password is the person's e-mail address.
pub async fn prepare_change(
    app: &App,
    person: &Person,
    old: Secret,
    new: NewPassword,
) -> Result<(Proven, String)> {
    let proven = prove_of(app, person.account, old).await?;
    Ok((proven, hash_for(app, person.account, new).await?))
}

/// An account that was deleted meanwhile has no password.
fn gone(error: Error) -> Error {
    if *error.kind() == Kind::NotFound { wrong_password() } else { error }
}

fn wrong_password() -> Error {
    Error::unauthenticated(Proof::Password, "The e-mail address or the password is wrong")
}

impl Proven {
    /// The account, held until the transaction ends, with its hash brought up to date.
    ///
    /// # Errors
    /// Unauthenticated where the password was changed meanwhile, or the account ended.
    pub async fn hold(&self, tx: &mut PgConnection) -> Result<Locked> {
        let account = accounts::lock(tx, self.account.id).await.map_err(gone)?;
        if account.password_version != self.account.password_version || !account.is_active {
            return Err(wrong_password());
        }
        if let Some(hash) = &self.rehash {
            accounts::renew_hash(tx, account.id, hash).await?;
        }
        Ok(account)
    }
}

/// The hash of a new password for the person.
///
/// # Errors
/// Invalid where it is their e-mail address; unavailable where too many wait to be hashed.
pub async fn hash_for(app: &App, account: AccountId, password: NewPassword) -> Result<String> {
    let account = app.db.run(async |db| people::find(db, account).await).await?;
    let email = Email::parse(&account.email).map_err(|Invalid(why)| Error::internal(why))?;
    let refused = |Invalid(why)| Error::invalid(vec![Issue::of("newPassword", why)]);
    password.differs_from(&email).map_err(refused)?;
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
    (proven, hash): (&Proven, &str),
    (this, ends_others): (SessionId, bool),
    client: &Client,
    trail: &Trail,
) -> Result<(Account, Started)> {
    let account = proven.hold(tx).await?;
    accounts::set_password(tx, account.id, hash).await?;
    if ends_others {
        sessions::revoke_all(tx, account.id, None, trail.at).await?;
    } else {
        sessions::revoke(tx, account.id, this, trail.at).await?;
    }
    // Of an unproven account, the links to reset are the mailbox's owner's, and who changes the
    // password may be somebody else, who would keep the account for ever by changing it again.
    if account.is_proven {
        outbox::withdraw(tx, MailKind::Link(Purpose::ResetPassword), &account.email).await?;
        email_tokens::remove(tx, (account.id, Purpose::ResetPassword)).await?;
    }
    let target = account.id.to_string();
    let detail = json!({ "other_sessions_ended": ends_others });
    record(tx, account.id, EventType::PasswordChanged, &target, detail, trail).await?;
    let is_remembered = sessions::is_remembered(tx, account.id, this).await?;
    mails::queue_notice(app, tx, (Notice::PasswordChanged, account.id), trail.at).await?;
    let session = start(app, tx, account.id, (client, is_remembered), trail).await?;
    Ok((people::find(tx, account.id).await?, session))
}

/// Queues a mail with a link to an address, whether anybody has an account there or not: that is
/// asked when the mail is written, so that nobody learns it from the answer or its time.
///
/// # Errors
/// The database's own.
pub async fn ask_for(
    app: &App,
    purpose: Purpose,
    email: &Email,
    callback_url: Option<&str>,
    trail: &Trail,
) -> Result<()> {
    let mail = (MailKind::Link(purpose), email.as_str());
    let queued = app
        .db
        .transaction(async |tx| mails::queue(app, tx, mail, callback_url, trail.at).await)
        .await;
    app.mail_waker.notify_one();
    queued
}
