//! Signing up where an address has to be verified before anybody signs in: the answer is the same
//! for every address, and the mail says the rest.

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
use crate::model::audit::{AuditContext, EventType};
use crate::model::mail::{LinkPurpose, MailKind};
use crate::model::role::Role;
use crate::model::session::SessionClient;
use crate::repo::accounts::AccountCredentials;
use crate::repo::{accounts, email_tokens, memberships, organizations, outbox, pending_sign_ups};

/// What was found at an address that is taken.
enum TakenAddress {
    /// Its account, which was dealt with.
    Handled,
    /// Nothing any more.
    Free,
}

/// Makes an account that nobody signs in to before its address is verified. Of an address that has
/// such an account already, the newer sign-up counts: otherwise a stranger who was first would
/// choose the password. One that is verified stays as it is, and its person is told by mail.
///
/// # Errors
/// Conflict where taken handles were drawn again and again; unavailable where too many passwords
/// wait to be hashed.
pub async fn sign_up(
    app: &App,
    person: SignUpDetails,
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<()> {
    let person = hash_password(app, person).await?;
    let with = SignUpOptions { creates_key: false, starts_session: false, is_remembered: false };
    for attempt in 1..=MAX_ATTEMPTS {
        match sign_up_hashed(app, &person, with, client, audit).await {
            Err(error) if *error.kind() == ErrorKind::EmailTaken => {}
            done => return done.map(|_| ()),
        }
        let handle = AccountHandle::suggest(person.name.as_ref(), attempt > 1, &*app.entropy);
        let dealt = app
            .db
            .transaction(async |tx| handle_taken_address(app, tx, &person, &handle, audit).await);
        match dealt.await {
            Ok(TakenAddress::Handled) => {
                app.mail_waker.notify_one();
                return Ok(());
            }
            Ok(TakenAddress::Free) => {}
            Err(error) if attempt < MAX_ATTEMPTS && *error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::unavailable("the address was taken and freed again and again"))
}

/// The account that has the address decides, held until the transaction ends: a verification or a
/// reset comes before or after.
async fn handle_taken_address(
    app: &App,
    tx: &mut PgConnection,
    person: &HashedSignUp,
    handle: &AccountHandle,
    audit: &AuditContext,
) -> Result<TakenAddress> {
    let address = person.email.as_str();
    let Some(account) = accounts::lock_by_email(tx, address).await? else {
        return Ok(TakenAddress::Free);
    };
    // One that was verified and not proven, before there was such a proof, may be in use by whoever
    // reads the mailbox: no stranger's sign-up ends that.
    if account.is_verified || !account.is_active {
        // Never the link that verifies: the account's password is another.
        let mail = (MailKind::AlreadyRegistered, address);
        mail::queue(app, tx, mail, None, audit.at).await?;
    } else {
        replace_pending_account(app, tx, &account, (person, handle), audit).await?;
    }
    Ok(TakenAddress::Handled)
}

/// Gives a pending account to whoever signed up last: password, name and link are theirs, and what
/// was made with it ends. A link to reset the password stays good: it is the mailbox's owner's.
async fn replace_pending_account(
    app: &App,
    tx: &mut PgConnection,
    account: &AccountCredentials,
    (person, handle): (&HashedSignUp, &AccountHandle),
    audit: &AuditContext,
) -> Result<()> {
    let (id, link) = (account.id, MailKind::Link(LinkPurpose::VerifyEmail));
    // Before the token: a worker that writes the mail just now is waited for.
    outbox::cancel(tx, link, &account.email).await?;
    email_tokens::remove(tx, (id, LinkPurpose::VerifyEmail)).await?;
    let seats = memberships::lock_of_account(tx, id).await?;
    let ended = unproven::revoke_access(tx, id, &seats, audit).await?;
    let (name, at) = (person.name.as_ref(), audit.at);
    let home = pending_sign_ups::replace(tx, id, (name, handle), &person.password_hash, at).await?;
    let is_own = seats
        .iter()
        .any(|seat| seat.organization == home && seat.role == Role::Owner && !seat.is_shared);
    if is_own {
        let name = person.organization_name();
        organizations::update(tx, home, name.as_ref(), Some(&[]), at).await?;
    }
    let mut detail = json!({});
    ended.add_to(&mut detail);
    record_account_event(tx, id, EventType::SignUpReplaced, &id.to_string(), detail, audit).await?;
    let mail = (link, account.email.as_str());
    mail::queue(app, tx, mail, person.callback_url.as_deref(), at).await
}
