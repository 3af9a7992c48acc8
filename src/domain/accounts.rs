//! People's accounts: made with an organization of their own, changed, deleted.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::{KeySpec, Minted, mint};
use crate::domain::mails;
use crate::domain::passwords::Proven;
use crate::domain::sessions::{Started, start};
use crate::error::{Error, Kind, Result};
use crate::model::account::{Account, AccountHandle, NewAccount, PersonName};
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::caller::Person;
use crate::model::email::Email;
use crate::model::ids::{AccountId, OrganizationId, UserId, new_user_handle, new_uuid};
use crate::model::key_name::KeyName;
use crate::model::mail::{MailKind, Notice, Purpose};
use crate::model::member::NewSeat;
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{NewOrganization, Organization, OrganizationName};
use crate::model::password::NewPassword;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::model::session::Client;
use crate::repo::users::Seat;
use crate::repo::{
    accounts, audit_events, email_tokens, idempotency_keys, invites, organizations, outbox,
    personal_tokens, sessions, users,
};

/// How often ids and handles are drawn anew where they were taken.
pub const ATTEMPTS: usize = 3;
/// What the key is called that an account is given at signup.
const DEFAULT_KEY: &str = "default";

/// Somebody who wants an account.
pub struct NewPerson {
    /// Their address, not proven yet.
    pub email: Email,
    /// Their password.
    pub password: NewPassword,
    /// What they are called.
    pub name: Option<PersonName>,
    /// Where they are to go on to after proving the address.
    pub callback_url: Option<String>,
}

/// What an account is to be made with, beside its organization.
#[derive(Clone, Copy)]
pub struct With {
    /// A key that may do everything in the organization.
    pub key: bool,
    /// A session.
    pub session: bool,
    /// Whether the browser is to keep its cookie when it closes.
    pub is_remembered: bool,
}

/// What a signup made.
pub struct SignedUp {
    /// The account.
    pub account: Account,
    /// Its home organization.
    pub organization: Organization,
    /// The default key, if one was wanted.
    pub key: Option<Minted>,
    /// The session, if one was wanted.
    pub session: Option<Started>,
}

/// Somebody who wants an account, their password hashed.
pub struct Hashed {
    /// Their address, not proven yet.
    pub email: Email,
    /// The PHC string of their password.
    pub password_hash: String,
    /// What they are called.
    pub name: Option<PersonName>,
    /// Where they are to go on to after proving the address.
    pub callback_url: Option<String>,
}

impl Hashed {
    /// What their home organization is called, if they are called something.
    #[must_use]
    pub fn organization_name(&self) -> Option<OrganizationName> {
        let name: String =
            self.name.as_ref()?.as_str().chars().take(OrganizationName::MAX).collect();
        OrganizationName::parse(&name).ok()
    }
}

/// Hashes the password of somebody who wants an account.
///
/// # Errors
/// Unavailable where too many passwords wait to be hashed.
pub async fn hash(app: &App, person: NewPerson) -> Result<Hashed> {
    let NewPerson { email, password, name, callback_url } = person;
    let password_hash = app.password_hasher.hash(password.into_secret()).await?;
    Ok(Hashed { email, password_hash, name, callback_url })
}

/// Makes an account, its home organization and the owner's seat in it, with a key and a session
/// where they are wanted; the mail that proves the address is queued. All of it, or nothing.
///
/// # Errors
/// E-mail taken, whoever asks at the same moment; conflict where chance drew taken ids again and
/// again; unavailable where too many passwords wait to be hashed.
pub async fn sign_up(
    app: &App,
    person: NewPerson,
    with: With,
    client: &Client,
    trail: &Trail,
) -> Result<SignedUp> {
    make(app, &hash(app, person).await?, with, client, trail).await
}

/// The same, where the password is hashed already.
///
/// # Errors
/// As [`sign_up`].
pub async fn make(
    app: &App,
    person: &Hashed,
    with: With,
    client: &Client,
    trail: &Trail,
) -> Result<SignedUp> {
    for attempt in 1..=ATTEMPTS {
        let handle = AccountHandle::suggested(person.name.as_ref(), attempt > 1, &*app.entropy);
        let account = NewAccount {
            id: AccountId::new(trail.at, &*app.entropy),
            home: OrganizationId(new_uuid(trail.at, &*app.entropy)),
            email: &person.email,
            name: person.name.as_ref(),
            handle: &handle,
            password_hash: &person.password_hash,
            created_at: trail.at,
        };
        let made = app.db.transaction(async |tx| {
            let callback_url = person.callback_url.as_deref();
            found(app, tx, &account, with, callback_url, client, trail).await
        });
        match made.await {
            Err(error) if attempt < ATTEMPTS && *error.kind() == Kind::Conflict => {}
            done => {
                app.mail_waker.notify_one();
                return done;
            }
        }
    }
    Err(Error::internal("a signup was attempted no times"))
}

async fn found(
    app: &App,
    tx: &mut PgConnection,
    new: &NewAccount<'_>,
    with: With,
    callback_url: Option<&str>,
    client: &Client,
    trail: &Trail,
) -> Result<SignedUp> {
    let (user, user_handle) = make_home(app, tx, new).await?;
    let mut key = None;
    if with.key {
        let name = KeyName::parse(DEFAULT_KEY, KeyName::MAX).ok();
        let spec = KeySpec::plain(name, ScopeSet::all(), None);
        let minted = mint(app, tx, (new.home, user), spec, trail.at).await?;
        accounts::set_default_key(tx, new.id, minted.key.id).await?;
        key = Some(minted);
    }
    let event = AuditEvent {
        organization: new.home,
        event_type: EventType::AccountSignedUp,
        actor: &user_handle,
        target: &new.id.to_string(),
        key_display_id: None,
        detail: json!({ "key_id": key.as_ref().map(|minted| minted.key.id.to_string()) }),
        trail,
    };
    audit_events::insert(tx, &event).await?;
    let mut session = None;
    if with.session {
        session = Some(start(app, tx, new.id, (client, with.is_remembered), trail).await?);
        accounts::signed_in(tx, new.id, trail.at).await?;
    }
    let mail = (MailKind::Link(Purpose::VerifyEmail), new.email.as_str());
    mails::queue(app, tx, mail, callback_url, trail.at).await?;
    let account = accounts::find(tx, new.id).await?;
    let organization = organizations::list_of(tx, new.id, None, None, (0, 1)).await?.0.pop();
    let (Some(account), Some(organization)) = (account, organization) else {
        return Err(Error::internal("an account just stored is not there"));
    };
    Ok(SignedUp { account, organization, key, session })
}

/// The organization, the account and the owner's seat.
async fn make_home(
    app: &App,
    tx: &mut PgConnection,
    new: &NewAccount<'_>,
) -> Result<(UserId, String)> {
    let at = new.created_at;
    let handle = OrgHandle::generate(&*app.entropy);
    let name = new.name.map_or(handle.as_str(), PersonName::as_str);
    let name: String = name.chars().take(OrganizationName::MAX).collect();
    organizations::insert(tx, &NewOrganization::on_trial(new.home, &handle, &name, at)).await?;
    accounts::insert(tx, new).await?;
    let user = UserId(new_uuid(at, &*app.entropy));
    let user_handle = new_user_handle(&*app.entropy);
    let seat = NewSeat {
        organization: new.home,
        id: user,
        handle: &user_handle,
        role: Role::Owner,
        account: Some(new.id),
        created_at: at,
    };
    users::insert(tx, &seat).await?;
    Ok((user, user_handle))
}

/// What a person changes of their account; what is `None` stays.
pub struct AccountChanges {
    /// What they are called.
    pub name: Option<PersonName>,
    /// Their short name.
    pub handle: Option<AccountHandle>,
    /// Whether they are mailed of what concerns the account's security.
    pub security_mails: Option<bool>,
}

/// Changes an account's settings. Whoever turns the security mails off causes a last one.
///
/// # Errors
/// Conflict where another account has the handle; not found where the account is gone.
pub async fn update(
    app: &App,
    tx: &mut PgConnection,
    person: &Person,
    changes: &AccountChanges,
    trail: &Trail,
) -> Result<Account> {
    let AccountChanges { name, handle, security_mails } = changes;
    let (name, handle) = (name.as_ref(), handle.as_ref());
    accounts::lock(tx, person.account).await?;
    accounts::update(tx, person.account, name, handle, trail.at).await?;
    if let Some(are_wanted) = *security_mails {
        if !are_wanted {
            mails::queue_notice(app, tx, (Notice::Off, person.account), trail.at).await?;
        }
        accounts::set_security_mails(tx, person.account, are_wanted, trail.at).await?;
    }
    let detail = json!({
        "name": name.is_some(),
        "handle": handle.map(AccountHandle::as_str),
        "security_mails": security_mails,
    });
    let target = person.account.to_string();
    record(tx, person.account, EventType::AccountUpdated, &target, detail, trail).await?;
    find(tx, person.account).await
}

/// The account.
///
/// # Errors
/// Not found.
pub async fn find(tx: &mut PgConnection, id: AccountId) -> Result<Account> {
    let account = accounts::find(tx, id).await?;
    account.ok_or_else(|| Error::not_found("There is no such account"))
}

/// Deletes a person's account: their sessions and tokens end, their seats are given up with the
/// invitations that came from them, and the organizations that nobody else has a seat in are
/// deleted. The address is free again, and nothing personal is left outside the audit log.
///
/// # Errors
/// Conflict where they are the last owner of an organization that other people are in; suspended
/// where one that nobody else is in is; unauthenticated where the password was changed meanwhile.
pub async fn delete(app: &App, person: &Person, proven: &Proven, trail: &Trail) -> Result<()> {
    app.db
        .transaction(async |tx| {
            let account = proven.hold(tx).await?;
            let seats = users::lock_seats(tx, person.account).await?;
            if seats.iter().any(|seat| seat.is_last_owner) {
                let message = "You are the last owner of an organization that others are in";
                return Err(Error::conflict(message));
            }
            // What is suspended stays for the operator to decide about.
            if seats.iter().any(|seat| !seat.is_shared && seat.is_suspended) {
                let message = "An organization that only you are in is suspended";
                return Err(Error::new(Kind::Suspended, message));
            }
            forget(tx, person, &account.email).await?;
            // Audit events are added in the order of their organizations.
            let home = accounts::trail_of(tx, person.account).await?;
            let before_home = seats.partition_point(|seat| seat.organization.0 < home.0);
            for seat in &seats[..before_home] {
                leave(tx, seat, trail).await?;
            }
            let target = person.account.to_string();
            let event = EventType::AccountDeleted;
            record(tx, person.account, event, &target, json!({}), trail).await?;
            for seat in &seats[before_home..] {
                leave(tx, seat, trail).await?;
            }
            users::remove_seats(tx, person.account, trail.at).await?;
            accounts::delete(tx, person.account, trail.at).await
        })
        .await
}

/// Removes what says of a person where they were, what they are called and how they are reached.
async fn forget(tx: &mut PgConnection, person: &Person, email: &str) -> Result<()> {
    let account = person.account;
    sessions::remove_all(tx, account).await?;
    personal_tokens::remove_all(tx, account).await?;
    outbox::remove_about_account(tx, email).await?;
    email_tokens::remove_all(tx, account).await?;
    invites::remove_accepted_by(tx, account, email).await?;
    idempotency_keys::remove_of_person(tx, account, &person.credential.principal()).await
}

/// Ends what came from a seat that is about to be given up, and with the last seat its
/// organization.
async fn leave(tx: &mut PgConnection, seat: &Seat, trail: &Trail) -> Result<()> {
    let organization = seat.organization;
    let (event_type, target) = if seat.is_shared {
        invites::revoke_from(tx, organization, seat.id, false, trail.at).await?;
        (EventType::MemberRemoved, &seat.handle)
    } else {
        invites::revoke_all(tx, organization, trail.at).await?;
        organizations::delete(tx, organization, trail.at).await?;
        (EventType::OrganizationDeleted, &seat.organization_handle)
    };
    let event = AuditEvent {
        organization,
        event_type,
        actor: &seat.handle,
        target,
        key_display_id: None,
        detail: json!({ "role": seat.role.as_str() }),
        trail,
    };
    audit_events::insert(tx, &event).await
}

/// Takes back the mails to an address that were not sent yet.
///
/// # Errors
/// The database's own.
pub async fn withdraw_mails(tx: &mut PgConnection, address: &str) -> Result<()> {
    for purpose in [Purpose::VerifyEmail, Purpose::ResetPassword] {
        outbox::withdraw(tx, MailKind::Link(purpose), address).await?;
    }
    Ok(())
}

/// Writes down what a person did with their account: in the trail of their home organization, but
/// for who has no seat there any more, whose account is none of its business.
///
/// # Errors
/// The database's own.
pub async fn record(
    tx: &mut PgConnection,
    account: AccountId,
    event_type: EventType,
    target: &str,
    detail: serde_json::Value,
    trail: &Trail,
) -> Result<()> {
    let event = AuditEvent {
        organization: accounts::trail_of(tx, account).await?,
        event_type,
        actor: &account.to_string(),
        target,
        key_display_id: None,
        detail,
        trail,
    };
    audit_events::insert(tx, &event).await
}
