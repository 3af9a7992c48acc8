//! Signing up where an address has to be verified before anybody signs in: the answer is the same
//! for every address, and the mail says the rest.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::{ATTEMPTS, Hashed, NewPerson, With, hash, make, record};
use crate::domain::{mails, unproven};
use crate::error::{Error, Kind, Result};
use crate::model::account::AccountHandle;
use crate::model::audit::{EventType, Trail};
use crate::model::mail::{MailKind, Purpose};
use crate::model::role::Role;
use crate::model::session::Client;
use crate::repo::accounts::Locked;
use crate::repo::{accounts, email_tokens, organizations, outbox, pending_sign_ups, users};

/// What was found at an address that is taken.
enum Taken {
    /// Its account, which was dealt with.
    Done,
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
pub async fn sign_up(app: &App, person: NewPerson, client: &Client, trail: &Trail) -> Result<()> {
    let person = hash(app, person).await?;
    let with = With { key: false, session: false, is_remembered: false };
    for attempt in 1..=ATTEMPTS {
        match make(app, &person, with, client, trail).await {
            Err(error) if *error.kind() == Kind::EmailTaken => {}
            done => return done.map(|_| ()),
        }
        let handle = AccountHandle::suggested(person.name.as_ref(), attempt > 1, &*app.entropy);
        let dealt = app.db.transaction(async |tx| deal(app, tx, &person, &handle, trail).await);
        match dealt.await {
            Ok(Taken::Done) => {
                app.mail_waker.notify_one();
                return Ok(());
            }
            Ok(Taken::Free) => {}
            Err(error) if attempt < ATTEMPTS && *error.kind() == Kind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::unavailable("the address was taken and freed again and again"))
}

/// The account that has the address decides, held until the transaction ends: a verification or a
/// reset comes before or after.
async fn deal(
    app: &App,
    tx: &mut PgConnection,
    person: &Hashed,
    handle: &AccountHandle,
    trail: &Trail,
) -> Result<Taken> {
    let address = person.email.as_str();
    let Some(account) = accounts::lock_by_email(tx, address).await? else {
        return Ok(Taken::Free);
    };
    // One that was verified and not proven, before there was such a proof, may be in use by whoever
    // reads the mailbox: no stranger's sign-up ends that.
    if account.is_verified || !account.is_active {
        // Never the link that verifies: the account's password is another.
        let mail = (MailKind::AlreadyRegistered, address);
        mails::queue(app, tx, mail, None, trail.at).await?;
    } else {
        replace(app, tx, &account, (person, handle), trail).await?;
    }
    Ok(Taken::Done)
}

/// Gives a pending account to whoever signed up last: password, name and link are theirs, and what
/// was made with it ends. A link to reset the password stays good: it is the mailbox's owner's.
async fn replace(
    app: &App,
    tx: &mut PgConnection,
    account: &Locked,
    (person, handle): (&Hashed, &AccountHandle),
    trail: &Trail,
) -> Result<()> {
    let (id, link) = (account.id, MailKind::Link(Purpose::VerifyEmail));
    // Before the token: a worker that writes the mail just now is waited for.
    outbox::withdraw(tx, link, &account.email).await?;
    email_tokens::remove(tx, (id, Purpose::VerifyEmail)).await?;
    let seats = users::lock_seats(tx, id).await?;
    let ended = unproven::end(tx, id, &seats, trail).await?;
    let (name, at) = (person.name.as_ref(), trail.at);
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
    record(tx, id, EventType::SignUpReplaced, &id.to_string(), detail, trail).await?;
    let mail = (link, account.email.as_str());
    mails::queue(app, tx, mail, person.callback_url.as_deref(), at).await
}
