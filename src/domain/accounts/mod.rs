//! Accounts: create together with a home organization, update, find, delete.

pub mod deletion;
pub mod email_verification;
pub mod events;
pub mod password_resets;
pub mod passwords;
pub mod pending_sign_ups;
pub mod personal_tokens;
pub mod sessions;
pub mod unproven;
pub mod verified_password;

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::events::record_account_event;
use crate::domain::accounts::sessions::{StartedSession, start_session};
use crate::domain::keys::{CreatedKey, KeySpec, insert_key};
use crate::domain::mail;
use crate::error::{Error, ErrorKind, Result};
use crate::model::account::{Account, AccountHandle, NewAccount};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::caller::Person;
use crate::model::email::Email;
use crate::model::ids::{AccountId, MembershipId, OrganizationId, new_membership_handle, new_uuid};
use crate::model::mail::{LinkPurpose, MailKind, SecurityNotice};
use crate::model::member::NewMembership;
use crate::model::names::{KeyName, OrganizationName, PersonName};
use crate::model::organization::{NewOrganization, Organization};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::password::NewPassword;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::model::session::SessionClient;
use crate::repo::{accounts, audit_events, mails, memberships, organizations};

/// The maximum number of attempts to generate ids and handles that are not taken.
pub const MAX_ATTEMPTS: usize = 3;
/// The name of the key that is created with an account.
const DEFAULT_KEY: &str = "default";

/// The details of a sign-up.
pub struct SignUpDetails {
    /// The e-mail address, which is not proven yet.
    pub email: Email,
    /// The password.
    pub password: NewPassword,
    /// The display name.
    pub name: Option<PersonName>,
    /// The URL that the verification link leads to in the end.
    pub callback_url: Option<String>,
}

/// The optional parts of a sign-up.
#[derive(Clone, Copy)]
pub struct SignUpOptions {
    /// Whether to create a key with all scopes in the home organization.
    pub creates_key: bool,
    /// Whether to start a session.
    pub starts_session: bool,
    /// Whether the browser keeps the session's cookie when it is closed.
    pub is_remembered: bool,
}

/// The result of a sign-up.
pub struct SignedUpAccount {
    /// The account.
    pub account: Account,
    /// Its home organization.
    pub organization: Organization,
    /// The default key, if one was created.
    pub key: Option<CreatedKey>,
    /// The session, if one was started.
    pub session: Option<StartedSession>,
}

/// The details of a sign-up, with the password hashed.
pub struct HashedSignUp {
    /// The e-mail address, which is not proven yet.
    pub email: Email,
    /// The hash of the password, as a PHC string.
    pub password_hash: String,
    /// The display name.
    pub name: Option<PersonName>,
    /// The URL that the verification link leads to in the end.
    pub callback_url: Option<String>,
}

impl HashedSignUp {
    /// Returns a name for the home organization, the beginning of the display name; `None` if there
    /// is no display name.
    #[must_use]
    pub fn organization_name(&self) -> Option<OrganizationName> {
        let name: String =
            self.name.as_ref()?.as_str().chars().take(OrganizationName::MAX).collect();
        OrganizationName::parse(&name).ok()
    }
}

/// Hashes the password of a sign-up.
///
/// # Errors
/// Unavailable if too many passwords are waiting to be hashed.
pub async fn hash_password(app: &App, person: SignUpDetails) -> Result<HashedSignUp> {
    let SignUpDetails { email, password, name, callback_url } = person;
    let password_hash = app.password_hasher.hash(password.into_secret()).await?;
    Ok(HashedSignUp { email, password_hash, name, callback_url })
}

/// Creates an account, its home organization and its owner membership in one transaction, with a
/// key and a session as `options` state, and queues the mail with the verification link.
///
/// # Errors
/// E-mail taken, also by a concurrent sign-up; conflict if every generated id was taken;
/// unavailable if too many passwords are waiting to be hashed.
pub async fn sign_up(
    app: &App,
    person: SignUpDetails,
    options: SignUpOptions,
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<SignedUpAccount> {
    sign_up_hashed(app, &hash_password(app, person).await?, options, client, audit).await
}

/// Creates an account as [`sign_up`] does, from details whose password is already hashed.
///
/// # Errors
/// As [`sign_up`], except for the hashing.
pub async fn sign_up_hashed(
    app: &App,
    person: &HashedSignUp,
    options: SignUpOptions,
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<SignedUpAccount> {
    for attempt in 1..=MAX_ATTEMPTS {
        let handle = AccountHandle::suggest(person.name.as_ref(), attempt > 1, &*app.entropy);
        let account = NewAccount {
            id: AccountId::new(audit.at, &*app.entropy),
            home_organization: OrganizationId(new_uuid(audit.at, &*app.entropy)),
            email: &person.email,
            name: person.name.as_ref(),
            handle: &handle,
            password_hash: Some(&person.password_hash),
            created_at: audit.at,
        };
        let created = app.db.transaction(async |tx| {
            let callback_url = person.callback_url.as_deref();
            create_account(app, tx, &account, options, callback_url, client, audit).await
        });
        match created.await {
            Err(error) if attempt < MAX_ATTEMPTS && *error.kind() == ErrorKind::Conflict => {}
            result => {
                app.mail_waker.notify_one();
                return result;
            }
        }
    }
    Err(Error::internal("sign-up ended without an attempt"))
}

async fn create_account(
    app: &App,
    tx: &mut PgConnection,
    new: &NewAccount<'_>,
    options: SignUpOptions,
    callback_url: Option<&str>,
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<SignedUpAccount> {
    let (organization, membership, membership_handle) =
        create_home_organization(app, tx, new).await?;
    let mut key = None;
    if options.creates_key {
        let name = KeyName::parse(DEFAULT_KEY).ok();
        let spec = KeySpec::plain(name, ScopeSet::all(), None);
        let created_key =
            insert_key(app, tx, (new.home_organization, membership), spec, audit.at).await?;
        accounts::set_default_key(tx, new.id, created_key.key.id).await?;
        key = Some(created_key);
    }
    let event = NewAuditEvent {
        organization: new.home_organization,
        event_type: AuditEventType::AccountSignedUp,
        actor: &membership_handle,
        target: &new.id.to_string(),
        key_display_id: None,
        detail: json!({ "key_id": key.as_ref().map(|created_key| created_key.key.id.to_string()) }),
        audit,
    };
    audit_events::insert(tx, &event).await?;
    let mut session = None;
    if options.starts_session {
        session =
            Some(start_session(app, tx, new.id, (client, options.is_remembered), audit).await?);
        accounts::record_sign_in(tx, new.id, audit.at).await?;
    }
    let mail = (MailKind::Link(LinkPurpose::VerifyEmail), new.email.as_str());
    mail::queue(app, tx, mail, callback_url, audit.at).await?;
    let account = find(tx, new.id).await?;
    Ok(SignedUpAccount { account, organization, key, session })
}

/// Creates the organization, the account and the owner's membership.
async fn create_home_organization(
    app: &App,
    tx: &mut PgConnection,
    new: &NewAccount<'_>,
) -> Result<(Organization, MembershipId, String)> {
    let at = new.created_at;
    let handle = OrganizationHandle::generate(&*app.entropy);
    let name = new.name.map_or(handle.as_str(), PersonName::as_str);
    let name: String = name.chars().take(OrganizationName::MAX).collect();
    let organization = NewOrganization::on_trial(new.home_organization, &handle, &name, at);
    let organization = organizations::insert(tx, &organization).await?;
    let organization = Organization { role: Some(Role::Owner), ..organization };
    accounts::insert(tx, new).await?;
    let id = MembershipId(new_uuid(at, &*app.entropy));
    let membership_handle = new_membership_handle(&*app.entropy);
    let membership = NewMembership {
        organization: new.home_organization,
        id,
        handle: &membership_handle,
        role: Role::Owner,
        account: Some(new.id),
        created_at: at,
    };
    memberships::insert(tx, &membership).await?;
    Ok((organization, id, membership_handle))
}

/// Changes to an account; `None` leaves a field unchanged.
pub struct AccountChanges {
    /// The display name.
    pub name: Option<PersonName>,
    /// The handle.
    pub handle: Option<AccountHandle>,
    /// Whether security notices are mailed.
    pub security_mails: Option<bool>,
}

/// Updates an account's settings. Turning the security notices off sends a last one.
///
/// # Errors
/// Conflict if another account has the handle; not found if the account was deleted.
pub async fn update(
    app: &App,
    tx: &mut PgConnection,
    person: &Person,
    changes: &AccountChanges,
    audit: &AuditContext,
) -> Result<Account> {
    let AccountChanges { name, handle, security_mails } = changes;
    let (name, handle) = (name.as_ref(), handle.as_ref());
    accounts::lock(tx, person.account).await?;
    accounts::update(tx, person.account, name, handle, audit.at).await?;
    if let Some(is_enabled) = *security_mails {
        if !is_enabled {
            mail::queue_notice(
                app,
                tx,
                (SecurityNotice::NoticesDisabled, person.account),
                audit.at,
            )
            .await?;
        }
        accounts::set_security_mails(tx, person.account, is_enabled, audit.at).await?;
    }
    let detail = json!({
        "name": name.is_some(),
        "handle": handle.map(AccountHandle::as_str),
        "security_mails": security_mails,
    });
    let target = person.account.to_string();
    record_account_event(
        tx,
        person.account,
        AuditEventType::AccountUpdated,
        &target,
        detail,
        audit,
    )
    .await?;
    find(tx, person.account).await
}

/// Returns the account.
///
/// # Errors
/// Not found if there is no such account.
pub async fn find(tx: &mut PgConnection, id: AccountId) -> Result<Account> {
    let account = accounts::find(tx, id).await?;
    account.ok_or_else(|| Error::not_found("There is no such account"))
}

/// Cancels unsent mails with verification and password reset links to an address.
pub async fn cancel_link_mails(tx: &mut PgConnection, address: &str) -> Result<()> {
    for purpose in [LinkPurpose::VerifyEmail, LinkPurpose::ResetPassword] {
        mails::cancel(tx, MailKind::Link(purpose), address).await?;
    }
    Ok(())
}
