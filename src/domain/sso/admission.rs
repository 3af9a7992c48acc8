//! Decides whether a person that an identity provider has authenticated is signed in, and to which
//! account.
//!
//! The provider's own id of the person (the subject) identifies them. An e-mail address only
//! selects the account at the first sign-in, and only if this organization has verified its domain,
//! so that no organization's provider can assert the address of another's member.

use chrono::TimeDelta;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::sessions::{StartedSession, start_sso_session};
use crate::domain::organizations::invites::{add_membership, create_membership};
use crate::error::{Error, ErrorKind, Result};
use crate::model::account::{AccountHandle, NewAccount};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::email::Email;
use crate::model::ids::{AccountId, OrganizationId};
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::model::session::{SessionClient, SsoSession};
use crate::model::sso::connection::SsoConnection;
use crate::model::sso::domain_name::DomainName;
use crate::model::sso::issuer::GOOGLE;
use crate::model::sso::provider_identity::ProviderIdentity;
use crate::model::sso::sign_in_rejection::SignInRejection;
use crate::repo::accounts::AccountCredentials;
use crate::repo::invites::PresentedInvite;
use crate::repo::sso_members::SignInMember;
use crate::repo::{
    accounts, audit_events, invites, members, organizations, sso_connections, sso_domains,
    sso_identities, sso_members,
};

/// A person who was signed in.
pub(super) struct SignedIn {
    /// The session, which acts in the organization of the connection only.
    pub session: StartedSession,
    /// The account.
    pub account: AccountId,
}

/// A person, and the connection whose provider has authenticated them.
type Authenticated<'a> = (&'a SsoConnection, &'a ProviderIdentity);

/// Signs a person in: finds, links or creates their account and their membership, and starts a
/// session. The inner error says why not; nothing was changed then.
///
/// # Errors
/// Conflict, or e-mail taken, if another transaction changed what this one depends on; plan limit.
pub(super) async fn admit(
    app: &App,
    tx: &mut PgConnection,
    person: Authenticated<'_>,
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<Result<SignedIn, SignInRejection>> {
    let (connection, identity) = person;
    let linked = sso_identities::find_account(tx, connection.id, &identity.subject).await?;
    let account = match linked {
        Some(account) => lock_linked(tx, account).await?,
        // Before the account of an address is locked, because a provider may state any address.
        None => match find_eligible(tx, person).await? {
            Ok((email, _)) => accounts::lock_by_email(tx, email.as_str()).await?,
            Err(rejection) => return Ok(Err(rejection)),
        },
    };
    let organization = organizations::lock(tx, connection.organization).await?;
    let Some(organization) = organization else { return Ok(Err(SignInRejection::State)) };
    if organization.is_suspended {
        return Ok(Err(SignInRejection::OrganizationSuspended));
    }
    if !sso_identities::lock_active_connection(tx, connection.id).await? {
        return Ok(Err(SignInRejection::State));
    }
    // Its settings may have changed while the provider responded.
    let Some(connection) = &sso_connections::find_by_id(tx, connection.id).await? else {
        return Ok(Err(SignInRejection::State));
    };
    let person = (connection, identity);
    if connection.issuer == GOOGLE && !is_of_organization_at_google(tx, person).await? {
        return Ok(Err(SignInRejection::Domain));
    }
    // Another sign-in of the person may have ended since.
    if sso_identities::find_account(tx, connection.id, &identity.subject).await? != linked {
        return Err(Error::conflict("another sign-in of the person changed their account"));
    }
    let plan = organization.plan;
    let admitted = match account {
        Some(account) if !account.is_active => Err(SignInRejection::AccountInactive),
        Some(account) if linked.is_some() => {
            admit_linked(app, tx, (person, plan), &account, audit).await?
        }
        account => admit_new(app, tx, (person, plan), account.as_ref(), audit).await?,
    };
    let (account, member) = match admitted {
        Ok(admitted) => admitted,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let session = start(app, tx, person, (account, &member), client, audit).await?;
    Ok(Ok(SignedIn { session, account }))
}

async fn lock_linked(
    tx: &mut PgConnection,
    account: AccountId,
) -> Result<Option<AccountCredentials>> {
    match accounts::lock(tx, account).await {
        Err(error) if *error.kind() == ErrorKind::NotFound => Ok(None),
        account => account.map(Some),
    }
}

/// The account of an admitted person, and their membership.
type Admitted = Result<(AccountId, SignInMember), SignInRejection>;

/// Admits a person who has signed in before. A membership that ended stays ended, unless the
/// account is invited again.
async fn admit_linked(
    app: &App,
    tx: &mut PgConnection,
    (person, plan): (Authenticated<'_>, Plan),
    account: &AccountCredentials,
    audit: &AuditContext,
) -> Result<Admitted> {
    let (connection, identity) = person;
    let organization = connection.organization;
    // Without a password, the account is the organization's alone, as long as it has the domain.
    let email = Email::parse(&account.email).ok();
    let has_domain = match &email {
        Some(email) => is_domain_verified(tx, organization, email).await?,
        None => false,
    };
    if account.password_hash.is_none() && !has_domain {
        return Ok(Err(SignInRejection::Domain));
    }
    if let Some(member) = sso_members::lock(tx, organization, account.id).await? {
        sync_role(tx, person, &member, audit).await?;
        sso_identities::record_sign_in(tx, connection.id, &identity.subject, audit.at).await?;
        return Ok(Ok((account.id, member)));
    }
    let Some(invite) = invites::find_open(tx, organization, &account.email).await? else {
        return Ok(Err(SignInRejection::MembershipEnded));
    };
    let member = join_by_invite(app, tx, (account.id, plan), &invite, audit).await?;
    Ok(Ok((account.id, member)))
}

/// Admits a person who signs in for the first time.
async fn admit_new(
    app: &App,
    tx: &mut PgConnection,
    (person, plan): (Authenticated<'_>, Plan),
    account: Option<&AccountCredentials>,
    audit: &AuditContext,
) -> Result<Admitted> {
    let (connection, identity) = person;
    let organization = connection.organization;
    let (email, invite) = match find_eligible(tx, person).await? {
        Ok(eligible) => eligible,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let (account, member, detail) = match account {
        Some(account) => {
            let member = sso_members::lock(tx, organization, account.id).await?;
            // A membership alone proves that the account is the person's only if its address was
            // proven.
            let Some(member) = member.filter(|_| account.is_proven) else {
                return Ok(Err(SignInRejection::LinkRequired));
            };
            if sso_identities::has_account(tx, connection.id, account.id).await? {
                return Ok(Err(SignInRejection::AnotherSubject));
            }
            (account.id, member, json!({ "created": false }))
        }
        None if invite.is_none() && !connection.jit.is_enabled => {
            return Ok(Err(SignInRejection::NotMember));
        }
        None => {
            let account = create_account(app, tx, person, &email, audit).await?;
            let member = join(app, tx, (person, plan), (account, invite), audit).await?;
            let detail = json!({ "created": true, "role": member.role.as_str() });
            (account, member, detail)
        }
    };
    let of = (connection.id, organization);
    sso_identities::insert(tx, of, (&identity.subject, account), audit.at).await?;
    let event = AuditEventType::SsoAccountLinked;
    record(tx, person, (event, account, &member), detail, audit).await?;
    Ok(Ok((account, member)))
}

/// Returns the address of a person who may be admitted for the first time, and their open
/// invitation: the organization has verified the domain of the address.
async fn find_eligible(
    tx: &mut PgConnection,
    (connection, identity): Authenticated<'_>,
) -> Result<Result<(Email, Option<PresentedInvite>), SignInRejection>> {
    let organization = connection.organization;
    let email = identity.email().filter(|_| !identity.is_email_disputed());
    let Some(email) = email else { return Ok(Err(SignInRejection::NoAddress)) };
    let invite = invites::find_open(tx, organization, email.as_str()).await?;
    if is_domain_verified(tx, organization, &email).await? {
        return Ok(Ok((email, invite)));
    }
    // The provider may state any address, and who invites one has not proven whose it is.
    let needs_proof = SignInRejection::LinkRequired;
    Ok(Err(if invite.is_some() { needs_proof } else { SignInRejection::Domain }))
}

/// Returns whether the account at Google is managed by an organization whose domain this one has
/// verified. A private account with an address of the domain stays the person's who left.
async fn is_of_organization_at_google(
    tx: &mut PgConnection,
    (connection, identity): Authenticated<'_>,
) -> Result<bool> {
    let domain = identity.google_domain().and_then(|domain| DomainName::parse(domain).ok());
    match domain {
        Some(domain) => sso_domains::is_verified(tx, connection.organization, &domain).await,
        None => Ok(false),
    }
}

async fn is_domain_verified(
    tx: &mut PgConnection,
    organization: OrganizationId,
    email: &Email,
) -> Result<bool> {
    match DomainName::of_email(email) {
        Some(domain) => sso_domains::is_verified(tx, organization, &domain).await,
        None => Ok(false),
    }
}

/// Creates an account without a password, whose address counts as proven: the organization has
/// proven its domain.
async fn create_account(
    app: &App,
    tx: &mut PgConnection,
    (connection, identity): Authenticated<'_>,
    email: &Email,
    audit: &AuditContext,
) -> Result<AccountId> {
    let name = identity.name();
    let id = AccountId::new(audit.at, &*app.entropy);
    let account = NewAccount {
        id,
        home_organization: connection.organization,
        email,
        name: name.as_ref(),
        handle: &AccountHandle::suggest(name.as_ref(), true, &*app.entropy),
        password_hash: None,
        created_at: audit.at,
    };
    accounts::insert(tx, &account).await?;
    accounts::mark_email_proven(tx, id, audit.at).await?;
    Ok(id)
}

/// Gives a new account its membership: that of its invitation, or one with the role that the
/// connection gives.
async fn join(
    app: &App,
    tx: &mut PgConnection,
    ((connection, identity), plan): (Authenticated<'_>, Plan),
    (account, invite): (AccountId, Option<PresentedInvite>),
    audit: &AuditContext,
) -> Result<SignInMember> {
    if let Some(invite) = invite {
        return join_by_invite(app, tx, (account, plan), &invite, audit).await;
    }
    let (organization, role) = (connection.organization, role_of(connection, identity));
    let id = create_membership(app, tx, account, (organization, plan, role), audit).await?;
    sso_members::set_role(tx, organization, id, role).await?;
    find_member(tx, organization, account).await
}

async fn join_by_invite(
    app: &App,
    tx: &mut PgConnection,
    (account, plan): (AccountId, Plan),
    invite: &PresentedInvite,
    audit: &AuditContext,
) -> Result<SignInMember> {
    if !invites::accept(tx, invite.organization, invite.id, audit.at).await? {
        return Err(Error::conflict("the invitation was accepted or revoked meanwhile"));
    }
    add_membership(app, tx, account, (invite, plan), audit).await?;
    let member = find_member(tx, invite.organization, account).await?;
    let event = NewAuditEvent {
        organization: invite.organization,
        event_type: AuditEventType::InviteAccepted,
        actor: &member.handle,
        target: &invite.id.to_string(),
        key_display_id: None,
        detail: json!({ "role": member.role.as_str() }),
        audit,
    };
    audit_events::insert(tx, &event).await?;
    Ok(member)
}

async fn find_member(
    tx: &mut PgConnection,
    organization: OrganizationId,
    account: AccountId,
) -> Result<SignInMember> {
    let member = sso_members::lock(tx, organization, account).await?;
    member.ok_or_else(|| Error::internal("a membership that was just added was not found"))
}

/// Returns the role that the connection gives a person.
fn role_of(connection: &SsoConnection, identity: &ProviderIdentity) -> Role {
    identity.mapped_role(&connection.role_mapping).unwrap_or(connection.jit.default_role)
}

/// Sets the role again if the connection does that at each sign-in and gave the role before. The
/// last owner stays one.
async fn sync_role(
    tx: &mut PgConnection,
    person: Authenticated<'_>,
    member: &SignInMember,
    audit: &AuditContext,
) -> Result<()> {
    let (connection, identity) = person;
    let (organization, role) = (connection.organization, role_of(connection, identity));
    let is_synced = connection.jit.syncs_role && member.has_role_of_connection;
    if !is_synced || role == member.role {
        return Ok(());
    }
    let is_owner = member.role == Role::Owner;
    if is_owner && members::count_other_owners(tx, organization, member.id).await? == 0 {
        return Ok(());
    }
    sso_members::set_role(tx, organization, member.id, role).await?;
    if role < member.role {
        let only_owner_invites = role == Role::Admin;
        invites::revoke_by_inviter(tx, organization, member.id, only_owner_invites, audit.at)
            .await?;
    }
    let event = NewAuditEvent {
        organization,
        event_type: AuditEventType::MemberRoleChanged,
        actor: &connection.id.to_string(),
        target: &member.handle,
        key_display_id: None,
        detail: json!({ "role": role.as_str(), "before": member.role.as_str() }),
        audit,
    };
    audit_events::insert(tx, &event).await
}

async fn start(
    app: &App,
    tx: &mut PgConnection,
    person: Authenticated<'_>,
    (account, member): (AccountId, &SignInMember),
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<StartedSession> {
    let (connection, _) = person;
    let sso = SsoSession {
        organization: connection.organization,
        connection: connection.id,
        ends_at: audit.at + TimeDelta::hours(connection.session_hours.into()),
    };
    accounts::record_sign_in(tx, account, audit.at).await?;
    let session = start_sso_session(app, tx, (account, sso), client, audit).await?;
    let detail = json!({ "session": session.id.to_string() });
    let event = AuditEventType::SsoSignedIn;
    record(tx, person, (event, account, member), detail, audit).await?;
    Ok(session)
}

async fn record(
    tx: &mut PgConnection,
    (connection, identity): Authenticated<'_>,
    (event_type, account, member): (AuditEventType, AccountId, &SignInMember),
    mut detail: Value,
    audit: &AuditContext,
) -> Result<()> {
    detail["connection"] = json!(connection.id.to_string());
    detail["subject"] = json!(identity.subject);
    let event = NewAuditEvent {
        organization: connection.organization,
        event_type,
        actor: &member.handle,
        target: &account.to_string(),
        key_display_id: None,
        detail,
        audit,
    };
    audit_events::insert(tx, &event).await
}
