//! Invitations: an address is asked into an organization by mail, and whoever proved that the
//! address is theirs accepts.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::{confirm, record};
use crate::domain::mails;
use crate::domain::members::require_role_for;
use crate::domain::plan_limits::{Limited, require_room};
use crate::error::{Error, Kind, Result};
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::caller::{Caller, Credential, Person, suspended};
use crate::model::email::Email;
use crate::model::ids::{InviteId, KeyId, SessionId, UserId, new_user_handle, new_uuid};
use crate::model::invite::{Invite, NewInvite};
use crate::model::key_format::KeyFormat;
use crate::model::member::NewSeat;
use crate::model::organization::Organization;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::repo::accounts::Locked;
use crate::repo::invites::Shown;
use crate::repo::organizations::Held;
use crate::repo::{
    accounts, audit_events, invites, members, organizations, people, tenant_walls, users,
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
    trail: &Trail,
) -> Result<Invite> {
    organizations::hold(tx, caller.organization).await?;
    let caller = confirm(tx, caller, trail).await?;
    caller.require("members:write")?;
    require_proven(tx, &caller).await?;
    if role == Role::Owner {
        caller.require_owner()?;
    }
    if members::has_address(tx, caller.organization, email).await? {
        return Err(Error::conflict("This person is a member already"));
    }
    if role != Role::Owner || !members::has_unclaimed(tx, caller.organization).await? {
        require_room(app, tx, (caller.organization, caller.plan), Limited::Seats).await?;
    }
    let new = NewInvite {
        id: InviteId::new(trail.at, &*app.entropy),
        organization: caller.organization,
        email,
        role,
        invited_by: caller.user,
        key: key_of(&caller),
        created_at: trail.at,
    };
    invites::insert(tx, &new).await?;
    mails::queue_invite(app, tx, new.id, email.as_str(), trail.at).await?;
    let detail = json!({ "role": role.as_str() });
    record(tx, &caller, EventType::InviteCreated, &new.id.to_string(), detail, trail).await?;
    find(tx, &caller, new.id).await
}

/// The organization's key that invites or sends an invitation again, if it is one.
fn key_of(caller: &Caller) -> Option<KeyId> {
    match &caller.credential {
        Credential::Key(key, _) => Some(key.id),
        Credential::PersonalToken(..) | Credential::Session(..) => None,
    }
}

/// Passes a caller whose seat's person has a proven address; so is it for a key that was minted
/// from such a seat, or it would be a way around. A seat that open signup made is nobody's.
async fn require_proven(tx: &mut PgConnection, caller: &Caller) -> Result<()> {
    if members::is_proven(tx, caller.organization, caller.user).await? {
        return Ok(());
    }
    let message = "Verify your e-mail address before you invite people; \
                   POST /api/auth/send-verification-email mails the link";
    Err(Error::new(Kind::EmailNotVerified, message))
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
    trail: &Trail,
) -> Result<Invite> {
    organizations::hold(tx, caller.organization).await?;
    let caller = confirm(tx, caller, trail).await?;
    caller.require("members:write")?;
    require_proven(tx, &caller).await?;
    let invite = find(tx, &caller, id).await?;
    if invite.role == Role::Owner {
        caller.require_owner()?;
    }
    // Mails are held before what they are about, as by the worker that writes them.
    mails::queue_invite(app, tx, id, &invite.email, trail.at).await?;
    if !invites::renew(tx, caller.organization, (id, key_of(&caller)), trail.at).await? {
        return Err(no_such_invite());
    }
    let target = id.to_string();
    record(tx, &caller, EventType::InviteResent, &target, json!({}), trail).await?;
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
    trail: &Trail,
) -> Result<()> {
    organizations::hold(tx, caller.organization).await?;
    let caller = confirm(tx, caller, trail).await?;
    caller.require("members:write")?;
    if !invites::revoke(tx, caller.organization, id, trail.at).await? {
        return Err(no_such_invite());
    }
    record(tx, &caller, EventType::InviteRevoked, &id.to_string(), json!({}), trail).await
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
    trail: &Trail,
) -> Result<Organization> {
    let shown = find_shown(app, tx, token).await?;
    let account = accounts::lock(tx, person.account).await?;
    let held = organizations::hold(tx, shown.organization).await?.ok_or_else(no_such_invite)?;
    people::confirm_session(tx, None, session).await?;
    // The person has no seat yet, so only now: behind the walls, their account is not there.
    tenant_walls::raise(tx, shown.organization).await?;
    let organization = take_up(app, tx, person, (&account, &shown, &held), trail).await?;
    // What is kept for who asks again is the person's, in their own organization.
    tenant_walls::lower(tx).await?;
    Ok(organization)
}

async fn take_up(
    app: &App,
    tx: &mut PgConnection,
    person: &Person,
    (account, shown, held): (&Locked, &Shown, &Held),
    trail: &Trail,
) -> Result<Organization> {
    if account.email != shown.email || !account.is_verified {
        return Err(Error::forbidden(
            "This invitation is for another address, or yours is not verified yet",
        ));
    }
    if held.is_suspended {
        return Err(suspended());
    }
    if !invites::accept(tx, shown.organization, shown.id, trail.at).await? {
        return Err(no_such_invite());
    }
    if let Some(seat) = take_seat(app, tx, person, (shown, held.plan), trail).await? {
        invites::record_joined(tx, shown.organization, shown.id, seat).await?;
    }
    let seat = people::caller_in(tx, person, shown.organization).await?;
    let seat = seat.ok_or_else(|| Error::internal("a seat just taken is not there"))?;
    let event = AuditEvent {
        organization: shown.organization,
        event_type: EventType::InviteAccepted,
        actor: &seat.user_handle,
        target: &shown.id.to_string(),
        key_display_id: None,
        detail: json!({ "role": seat.role.map(Role::as_str) }),
        trail,
    };
    audit_events::insert(tx, &event).await?;
    crate::domain::organizations::find(tx, shown.organization, seat.role).await
}

async fn find_shown(app: &App, tx: &mut PgConnection, token: &str) -> Result<Shown> {
    if !KeyFormat::of_links().recognises(token) {
        return Err(no_such_invite());
    }
    let found = invites::find_shown(tx, &app.peppers.candidates(token)).await?;
    found.ok_or_else(no_such_invite)
}

/// A seat for the person, where they have none: the owner's that nobody has claimed, or a new one.
/// `None` where they have one already.
async fn take_seat(
    app: &App,
    tx: &mut PgConnection,
    person: &Person,
    (shown, plan): (&Shown, Plan),
    trail: &Trail,
) -> Result<Option<UserId>> {
    if people::caller_in(tx, person, shown.organization).await?.is_some() {
        return Ok(None);
    }
    if shown.role == Role::Owner {
        let claimed = members::claim(tx, shown.organization, person.account).await?;
        if claimed.is_some() {
            return Ok(claimed);
        }
    }
    require_room(app, tx, (shown.organization, plan), Limited::Seats).await?;
    let id = UserId(new_uuid(trail.at, &*app.entropy));
    let seat = NewSeat {
        organization: shown.organization,
        id,
        handle: &new_user_handle(&*app.entropy),
        role: shown.role,
        account: Some(person.account),
        created_at: trail.at,
    };
    users::insert(tx, &seat).await?;
    Ok(Some(id))
}
