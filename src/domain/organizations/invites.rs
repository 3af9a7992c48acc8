//! Invitations: an address is invited to an organization by mail, and an account that has verified
//! the address accepts.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::containment::require_unmetered;
use crate::domain::keys::{confirm_caller, record_caller_event};
use crate::domain::links::candidate_digests;
use crate::domain::mail;
use crate::domain::organizations::members::require_role_for;
use crate::domain::organizations::plan_limits::{LimitedResource, check_plan_limit};
use crate::error::{Error, ErrorKind, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::caller::{Caller, Credential, Person, organization_suspended};
use crate::model::email::Email;
use crate::model::ids::{
    AccountId, InviteId, KeyId, MembershipId, OrganizationId, SessionId, new_membership_handle,
    new_uuid,
};
use crate::model::invite::{Invite, NewInvite};
use crate::model::member::NewMembership;
use crate::model::organization::Organization;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::model::scope::BuiltInScope;
use crate::model::secret::Secret;
use crate::repo::accounts::AccountCredentials;
use crate::repo::invites::PresentedInvite;
use crate::repo::organizations::LockedOrganization;
use crate::repo::{
    account_callers, accounts, audit_events, invites, members, memberships, organizations, rls,
};

/// Invites an address, and replaces its open invitation. The plan limit is checked here already,
/// and again when the invitation is accepted, unless it is for the owner's membership that no
/// account has claimed yet.
///
/// # Errors
/// Conflict if the address belongs to a member; e-mail not verified if the caller's account has not
/// proven its address; missing scope; missing role: only an owner invites owners; forbidden for a
/// key with limits or credits; plan limit.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    (email, role): (&Email, Role),
    audit: &AuditContext,
) -> Result<Invite> {
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize(BuiltInScope::MembersWrite)?;
    require_proven(tx, &caller).await?;
    // An invited member could create keys without limits.
    require_unmetered(tx, &caller).await?;
    if role == Role::Owner {
        caller.require_owner()?;
    }
    if members::has_email(tx, caller.organization, email).await? {
        return Err(Error::conflict("This person is a member already"));
    }
    if role != Role::Owner || !members::has_unclaimed_owner(tx, caller.organization).await? {
        check_plan_limit(app, tx, (caller.organization, caller.plan), LimitedResource::Seats)
            .await?;
    }
    let new = NewInvite {
        id: InviteId::new(audit.at, &*app.entropy),
        organization: caller.organization,
        email,
        role,
        invited_by: caller.membership,
        key: inviting_key(&caller),
        created_at: audit.at,
    };
    let invite = invites::insert(tx, &new).await?;
    mail::queue_invite(app, tx, new.id, email.as_str(), audit.at).await?;
    let detail = json!({ "role": role.as_str() });
    record_caller_event(
        tx,
        &caller,
        AuditEventType::InviteCreated,
        &new.id.to_string(),
        detail,
        audit,
    )
    .await?;
    Ok(invite)
}

/// Returns the organization's key that invites or resends, `None` for other credentials.
fn inviting_key(caller: &Caller) -> Option<KeyId> {
    match &caller.credential {
        Credential::Key(key, _) => Some(key.id),
        Credential::PersonalToken(..) | Credential::Session(..) | Credential::OauthToken(..) => {
            None
        }
    }
}

/// Checks that the account of the caller's membership has a proven address. This also applies to
/// keys that the membership created, which could otherwise bypass the check. A membership that no
/// account has claimed passes the check.
async fn require_proven(tx: &mut PgConnection, caller: &Caller) -> Result<()> {
    if members::is_proven(tx, caller.organization, caller.membership).await? {
        return Ok(());
    }
    let message = "Verify your e-mail address before you invite people; \
                   POST /api/auth/send-verification-email mails the link";
    Err(Error::new(ErrorKind::EmailNotVerified, message))
}

async fn find(tx: &mut PgConnection, caller: &Caller, id: InviteId) -> Result<Invite> {
    let invite = invites::find(tx, caller.organization, id).await?;
    invite.ok_or_else(no_such_invite)
}

fn no_such_invite() -> Error {
    Error::not_found("There is no such invitation")
}

/// Mails an invitation again and extends it; the links mailed before stop working.
///
/// # Errors
/// Not found if the organization has no such invitation, or it was accepted or revoked; e-mail not
/// verified if the caller's account has not proven its address; missing scope or role.
pub async fn resend(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    id: InviteId,
    audit: &AuditContext,
) -> Result<Invite> {
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize(BuiltInScope::MembersWrite)?;
    require_proven(tx, &caller).await?;
    let invite = find(tx, &caller, id).await?;
    if invite.role == Role::Owner {
        caller.require_owner()?;
    }
    // The mail is locked before the invitation, as in the worker that renders mails.
    mail::queue_invite(app, tx, id, &invite.email, audit.at).await?;
    let by = inviting_key(&caller);
    let invite = invites::extend(tx, caller.organization, (id, by), audit.at).await?;
    let invite = invite.ok_or_else(no_such_invite)?;
    let target = id.to_string();
    record_caller_event(tx, &caller, AuditEventType::InviteResent, &target, json!({}), audit)
        .await?;
    Ok(invite)
}

/// Checks that the caller may resend an invitation, which may have ended.
///
/// # Errors
/// Missing scope or role.
pub async fn require_right_to_resend(
    tx: &mut PgConnection,
    caller: &Caller,
    id: InviteId,
) -> Result<()> {
    let invite = invites::find(tx, caller.organization, id).await?;
    require_role_for(caller, invite.map_or(Role::Member, |invite| invite.role))
}

/// Revokes an open invitation.
///
/// # Errors
/// Not found if the organization has no such invitation, or it was accepted or revoked; missing
/// scope or role.
pub async fn revoke(
    tx: &mut PgConnection,
    caller: &Caller,
    id: InviteId,
    audit: &AuditContext,
) -> Result<()> {
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize(BuiltInScope::MembersWrite)?;
    if !invites::revoke(tx, caller.organization, id, audit.at).await? {
        return Err(no_such_invite());
    }
    record_caller_event(
        tx,
        &caller,
        AuditEventType::InviteRevoked,
        &id.to_string(),
        json!({}),
        audit,
    )
    .await
}

/// Accepts an invitation by the token of the mailed link, in a session of the invited account. An
/// existing membership is not changed.
///
/// # Errors
/// Not found if the token is unknown, expired or used, or the invitation was revoked; forbidden
/// unless the session's account has verified the invited address; organization suspended, after
/// which the link remains valid; unauthenticated if the session has ended; plan limit.
pub async fn accept(
    app: &App,
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    token: &Secret,
    audit: &AuditContext,
) -> Result<Organization> {
    let presented = find_by_token(app, tx, token).await?;
    let account = accounts::lock(tx, person.account).await?;
    let locked = organizations::lock(tx, presented.organization).await?;
    let locked = locked.ok_or_else(no_such_invite)?;
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    // Set after the account was locked: an account that is not a member yet is not visible within
    // the tenant.
    rls::set_tenant(tx, presented.organization).await?;
    let organization =
        accept_locked(app, tx, person, (&account, &presented, &locked), audit).await?;
    // The response for a retry is stored in the account's home organization.
    rls::clear_tenant(tx).await?;
    Ok(organization)
}

async fn accept_locked(
    app: &App,
    tx: &mut PgConnection,
    person: &Person,
    (account, presented, locked): (&AccountCredentials, &PresentedInvite, &LockedOrganization),
    audit: &AuditContext,
) -> Result<Organization> {
    if account.email != presented.email || !account.is_verified {
        return Err(Error::forbidden(
            "This invitation is for another address, or yours is not verified yet",
        ));
    }
    if locked.is_suspended {
        return Err(organization_suspended());
    }
    if !invites::accept(tx, presented.organization, presented.id, audit.at).await? {
        return Err(no_such_invite());
    }
    if account_callers::find_caller_in(tx, person, presented.organization).await?.is_none() {
        add_membership(app, tx, person.account, (presented, locked.plan), audit).await?;
    }
    let member = account_callers::find_caller_in(tx, person, presented.organization).await?;
    let member =
        member.ok_or_else(|| Error::internal("a membership that was just added was not found"))?;
    let event = NewAuditEvent {
        organization: presented.organization,
        event_type: AuditEventType::InviteAccepted,
        actor: &member.membership_handle,
        target: &presented.id.to_string(),
        key_display_id: None,
        detail: json!({ "role": member.role.map(Role::as_str) }),
        audit,
    };
    audit_events::insert(tx, &event).await?;
    crate::domain::organizations::find(tx, presented.organization, member.role).await
}

async fn find_by_token(
    app: &App,
    tx: &mut PgConnection,
    token: &Secret,
) -> Result<PresentedInvite> {
    let digests = candidate_digests(app, token).ok_or_else(no_such_invite)?;
    invites::find_presented(tx, &digests).await?.ok_or_else(no_such_invite)
}

/// Gives an account that is not a member the membership of an invitation: for an owner's invitation
/// the owner's membership that no account has claimed yet, if there is one, and otherwise a new
/// one. The organization must be locked.
///
/// # Errors
/// Plan limit.
pub async fn add_membership(
    app: &App,
    tx: &mut PgConnection,
    account: AccountId,
    (presented, plan): (&PresentedInvite, Plan),
    audit: &AuditContext,
) -> Result<MembershipId> {
    let claimed = match presented.role {
        Role::Owner => members::claim(tx, presented.organization, account).await?,
        Role::Admin | Role::Member => None,
    };
    let id = if let Some(id) = claimed {
        id
    } else {
        let joining = (presented.organization, plan, presented.role);
        create_membership(app, tx, account, joining, audit).await?
    };
    invites::record_membership(tx, presented.organization, presented.id, id).await?;
    Ok(id)
}

/// Gives an account that is not a member a new membership with this role. The organization must be
/// locked.
///
/// # Errors
/// Plan limit.
pub async fn create_membership(
    app: &App,
    tx: &mut PgConnection,
    account: AccountId,
    (organization, plan, role): (OrganizationId, Plan, Role),
    audit: &AuditContext,
) -> Result<MembershipId> {
    check_plan_limit(app, tx, (organization, plan), LimitedResource::Seats).await?;
    let id = MembershipId(new_uuid(audit.at, &*app.entropy));
    let membership = NewMembership {
        organization,
        id,
        handle: &new_membership_handle(&*app.entropy),
        role,
        account: Some(account),
        created_at: audit.at,
    };
    memberships::insert(tx, &membership).await?;
    Ok(id)
}
