//! Invitations: an address is invited into an organization by mail, and an account that has proven
//! the address accepts.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::{confirm_caller, record_caller_event};
use crate::domain::mail;
use crate::domain::organizations::members::require_role_for;
use crate::domain::organizations::plan_limits::{LimitedResource, check_plan_limit};
use crate::error::{Error, ErrorKind, Result};
use crate::model::audit::{AuditContext, EventType, NewAuditEvent};
use crate::model::caller::{Caller, Credential, Person, organization_suspended};
use crate::model::email::Email;
use crate::model::ids::{
    InviteId, KeyId, MembershipId, SessionId, new_membership_handle, new_uuid,
};
use crate::model::invite::{Invite, NewInvite};
use crate::model::key_format::KeyFormat;
use crate::model::member::NewMembership;
use crate::model::organization::Organization;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::repo::accounts::AccountCredentials;
use crate::repo::invites::PresentedInvite;
use crate::repo::organizations::LockedOrganization;
use crate::repo::{
    account_callers, accounts, audit_events, invites, members, memberships, organizations, rls,
};

/// Invites an address; an open invitation of it is replaced. Whether the plan allows another member
/// is checked here early, and decided when the invitation is accepted.
///
/// # Errors
/// Conflict where the address belongs to a member; missing role: only an owner invites owners; plan
/// limit.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    (email, role): (&Email, Role),
    audit: &AuditContext,
) -> Result<Invite> {
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize("members:write")?;
    require_proven(tx, &caller).await?;
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
    invites::insert(tx, &new).await?;
    mail::queue_invite(app, tx, new.id, email.as_str(), audit.at).await?;
    let detail = json!({ "role": role.as_str() });
    record_caller_event(tx, &caller, EventType::InviteCreated, &new.id.to_string(), detail, audit)
        .await?;
    find(tx, &caller, new.id).await
}

/// The organization's key that invites or sends an invitation again, if it is one.
fn inviting_key(caller: &Caller) -> Option<KeyId> {
    match &caller.credential {
        Credential::Key(key, _) => Some(key.id),
        Credential::PersonalToken(..) | Credential::Session(..) => None,
    }
}

/// Checks that the caller's account has a proven address, or, for a key, the account that minted
/// it: a key must not be a way around. An unclaimed membership of open signup has no account.
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

/// Mails an invitation again, good for another while; the links mailed before are dead.
///
/// # Errors
/// Not found where it is none of the organization's, was accepted or taken back; missing role.
pub async fn resend(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    id: InviteId,
    audit: &AuditContext,
) -> Result<Invite> {
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize("members:write")?;
    require_proven(tx, &caller).await?;
    let invite = find(tx, &caller, id).await?;
    if invite.role == Role::Owner {
        caller.require_owner()?;
    }
    // Mails are locked before what they are about, as by the worker that renders them.
    mail::queue_invite(app, tx, id, &invite.email, audit.at).await?;
    if !invites::extend(tx, caller.organization, (id, inviting_key(&caller)), audit.at).await? {
        return Err(no_such_invite());
    }
    let target = id.to_string();
    record_caller_event(tx, &caller, EventType::InviteResent, &target, json!({}), audit).await?;
    find(tx, &caller, id).await
}

/// Checks that the caller may mail an invitation again, even if it has expired.
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
/// Not found where it is not the organization's, was accepted or revoked.
pub async fn revoke(
    tx: &mut PgConnection,
    caller: &Caller,
    id: InviteId,
    audit: &AuditContext,
) -> Result<()> {
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize("members:write")?;
    if !invites::revoke(tx, caller.organization, id, audit.at).await? {
        return Err(no_such_invite());
    }
    record_caller_event(tx, &caller, EventType::InviteRevoked, &id.to_string(), json!({}), audit)
        .await
}

/// Accepts an invitation, by the token of the mailed link, in a session of the invited account. An
/// existing membership is kept.
///
/// # Errors
/// Not found where the token is unknown, expired or used, or the invitation was revoked; forbidden
/// where the account has not proven the invited address; suspended where the organization is, and
/// the link stays valid; plan limit.
pub async fn accept(
    app: &App,
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    token: &str,
    audit: &AuditContext,
) -> Result<Organization> {
    let invite = find_by_token(app, tx, token).await?;
    let account = accounts::lock(tx, person.account).await?;
    let locked = organizations::lock(tx, invite.organization).await?.ok_or_else(no_such_invite)?;
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    // Only now: with row-level security set to the organization, an account without a membership is
    // not visible.
    rls::set_tenant(tx, invite.organization).await?;
    let organization = accept_locked(app, tx, person, (&account, &invite, &locked), audit).await?;
    // The stored response belongs to the account, in its home organization.
    rls::clear_tenant(tx).await?;
    Ok(organization)
}

async fn accept_locked(
    app: &App,
    tx: &mut PgConnection,
    person: &Person,
    (account, invite, locked): (&AccountCredentials, &PresentedInvite, &LockedOrganization),
    audit: &AuditContext,
) -> Result<Organization> {
    if account.email != invite.email || !account.is_verified {
        return Err(Error::forbidden(
            "This invitation is for another address, or yours is not verified yet",
        ));
    }
    if locked.is_suspended {
        return Err(organization_suspended());
    }
    if !invites::accept(tx, invite.organization, invite.id, audit.at).await? {
        return Err(no_such_invite());
    }
    if let Some(membership) = add_membership(app, tx, person, (invite, locked.plan), audit).await? {
        invites::record_membership(tx, invite.organization, invite.id, membership).await?;
    }
    let membership = account_callers::find_caller_in(tx, person, invite.organization).await?;
    let membership = membership
        .ok_or_else(|| Error::internal("a membership that was just added does not exist"))?;
    let event = NewAuditEvent {
        organization: invite.organization,
        event_type: EventType::InviteAccepted,
        actor: &membership.membership_handle,
        target: &invite.id.to_string(),
        key_display_id: None,
        detail: json!({ "role": membership.role.map(Role::as_str) }),
        audit,
    };
    audit_events::insert(tx, &event).await?;
    crate::domain::organizations::find(tx, invite.organization, membership.role).await
}

async fn find_by_token(app: &App, tx: &mut PgConnection, token: &str) -> Result<PresentedInvite> {
    if !KeyFormat::link_token().matches(token) {
        return Err(no_such_invite());
    }
    let found = invites::find_presented(tx, &app.peppers.candidates(token)).await?;
    found.ok_or_else(no_such_invite)
}

/// Adds a membership for the account: the unclaimed owner's, or a new one. `None` where it has one
/// already.
async fn add_membership(
    app: &App,
    tx: &mut PgConnection,
    person: &Person,
    (invite, plan): (&PresentedInvite, Plan),
    audit: &AuditContext,
) -> Result<Option<MembershipId>> {
    if account_callers::find_caller_in(tx, person, invite.organization).await?.is_some() {
        return Ok(None);
    }
    if invite.role == Role::Owner {
        let claimed = members::claim(tx, invite.organization, person.account).await?;
        if claimed.is_some() {
            return Ok(claimed);
        }
    }
    check_plan_limit(app, tx, (invite.organization, plan), LimitedResource::Seats).await?;
    let id = MembershipId(new_uuid(audit.at, &*app.entropy));
    let membership = NewMembership {
        organization: invite.organization,
        id,
        handle: &new_membership_handle(&*app.entropy),
        role: invite.role,
        account: Some(person.account),
        created_at: audit.at,
    };
    memberships::insert(tx, &membership).await?;
    Ok(Some(id))
}
