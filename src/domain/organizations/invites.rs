//! Invitations: an address is asked into an organization by mail, and whoever proved that the
//! address is theirs accepts.

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

/// Invites an address; an open invitation of it is replaced. Whether the plan has a seat for
/// whoever accepts is told here early, and decided when they do.
///
/// # Errors
/// Conflict where its person is a member; missing role: only an owner invites owners; plan limit.
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

/// Passes a caller whose seat's person has a proven address; so is it for a key that was minted
/// from such a seat, or it would be a way around. A seat that open signup made is nobody's.
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
    // Mails are held before what they are about, as by the worker that writes them.
    mail::queue_invite(app, tx, id, &invite.email, audit.at).await?;
    if !invites::extend(tx, caller.organization, (id, inviting_key(&caller)), audit.at).await? {
        return Err(no_such_invite());
    }
    let target = id.to_string();
    record_caller_event(tx, &caller, EventType::InviteResent, &target, json!({}), audit).await?;
    find(tx, &caller, id).await
}

/// Passes whoever may mail an invitation again, which may be over.
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

/// Takes an open invitation back.
///
/// # Errors
/// Not found where it is none of the organization's, was accepted or taken back.
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

/// Accepts an invitation, by the token of the mailed link, in a session of whom it is for. Who has
/// a seat already keeps it.
///
/// # Errors
/// Not found where the token is unknown, over or used, or the invitation was taken back; forbidden
/// where the session's person has not proven that the invited address is theirs; suspended where
/// the organization is, and the link stays good; plan limit.
pub async fn accept(
    app: &App,
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    token: &str,
    audit: &AuditContext,
) -> Result<Organization> {
    let shown = find_by_token(app, tx, token).await?;
    let account = accounts::lock(tx, person.account).await?;
    let held = organizations::lock(tx, shown.organization).await?.ok_or_else(no_such_invite)?;
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    // The person has no seat yet, so only now: behind the walls, their account is not there.
    rls::set_tenant(tx, shown.organization).await?;
    let organization = accept_locked(app, tx, person, (&account, &shown, &held), audit).await?;
    // What is kept for who asks again is the person's, in their own organization.
    rls::clear_tenant(tx).await?;
    Ok(organization)
}

async fn accept_locked(
    app: &App,
    tx: &mut PgConnection,
    person: &Person,
    (account, shown, held): (&AccountCredentials, &PresentedInvite, &LockedOrganization),
    audit: &AuditContext,
) -> Result<Organization> {
    if account.email != shown.email || !account.is_verified {
        return Err(Error::forbidden(
            "This invitation is for another address, or yours is not verified yet",
        ));
    }
    if held.is_suspended {
        return Err(organization_suspended());
    }
    if !invites::accept(tx, shown.organization, shown.id, audit.at).await? {
        return Err(no_such_invite());
    }
    if let Some(seat) = add_membership(app, tx, person, (shown, held.plan), audit).await? {
        invites::record_membership(tx, shown.organization, shown.id, seat).await?;
    }
    let seat = account_callers::find_caller_in(tx, person, shown.organization).await?;
    let seat = seat.ok_or_else(|| Error::internal("a seat just taken is not there"))?;
    let event = NewAuditEvent {
        organization: shown.organization,
        event_type: EventType::InviteAccepted,
        actor: &seat.membership_handle,
        target: &shown.id.to_string(),
        key_display_id: None,
        detail: json!({ "role": seat.role.map(Role::as_str) }),
        audit,
    };
    audit_events::insert(tx, &event).await?;
    crate::domain::organizations::find(tx, shown.organization, seat.role).await
}

async fn find_by_token(app: &App, tx: &mut PgConnection, token: &str) -> Result<PresentedInvite> {
    if !KeyFormat::link_token().matches(token) {
        return Err(no_such_invite());
    }
    let found = invites::find_presented(tx, &app.peppers.candidates(token)).await?;
    found.ok_or_else(no_such_invite)
}

/// A seat for the person, where they have none: the owner's that nobody has claimed, or a new one.
/// `None` where they have one already.
async fn add_membership(
    app: &App,
    tx: &mut PgConnection,
    person: &Person,
    (shown, plan): (&PresentedInvite, Plan),
    audit: &AuditContext,
) -> Result<Option<MembershipId>> {
    if account_callers::find_caller_in(tx, person, shown.organization).await?.is_some() {
        return Ok(None);
    }
    if shown.role == Role::Owner {
        let claimed = members::claim(tx, shown.organization, person.account).await?;
        if claimed.is_some() {
            return Ok(claimed);
        }
    }
    check_plan_limit(app, tx, (shown.organization, plan), LimitedResource::Seats).await?;
    let id = MembershipId(new_uuid(audit.at, &*app.entropy));
    let seat = NewMembership {
        organization: shown.organization,
        id,
        handle: &new_membership_handle(&*app.entropy),
        role: shown.role,
        account: Some(person.account),
        created_at: audit.at,
    };
    memberships::insert(tx, &seat).await?;
    Ok(Some(id))
}
