//! The people of an organization: what they are in it, and how they leave.
//!
//! Invariant: the organization is held before anybody's seat, so that of two owners who remove each
//! other at once, one stays.

use std::sync::Arc;

use serde_json::json;
use sqlx::PgConnection;

use crate::domain::keys::{confirm_caller, record_caller_event};
use crate::error::{Error, Result};
use crate::model::audit::{AuditContext, EventType};
use crate::model::caller::{Caller, Credential};
use crate::model::ids::is_membership_handle;
use crate::model::member::Member;
use crate::model::role::Role;
use crate::repo::{invites, members, organizations};

/// Gives a member another role. Admins change members and admins; owners everybody. Who loses a
/// role loses the invitations that it took, too.
///
/// # Errors
/// Not found; missing role; conflict where the last owner would be none any more.
pub async fn change_role(
    tx: &mut PgConnection,
    caller: &Caller,
    handle: &str,
    role: Role,
    audit: &AuditContext,
) -> Result<Member> {
    let caller = lock_and_confirm_caller(tx, caller, handle, audit).await?;
    caller.authorize("members:write")?;
    let before = find(tx, &caller, handle).await?;
    if before.role == Role::Owner || role == Role::Owner {
        caller.require_owner()?;
    }
    if before.role == Role::Owner && role != Role::Owner {
        require_another_owner(tx, &caller, &before).await?;
    }
    if !members::set_role(tx, caller.organization, before.id, role).await? {
        return Err(no_such_member());
    }
    if role < before.role {
        let only_of_owners = role == Role::Admin;
        let (organization, seat) = (caller.organization, before.id);
        invites::revoke_by_inviter(tx, organization, seat, only_of_owners, audit.at).await?;
    }
    let detail = json!({ "role": role.as_str(), "before": before.role.as_str() });
    record_caller_event(tx, &caller, EventType::MemberRoleChanged, handle, detail, audit).await?;
    Ok(Member { role, ..before })
}

/// Takes a member's seat away: their sessions and tokens do nothing more here, and the invitations
/// that came from it are over. Admins remove
/// members and admins, owners everybody; anybody may leave.
///
/// # Errors
/// Not found; missing role; conflict where the last owner would go.
pub async fn remove(
    tx: &mut PgConnection,
    caller: &Caller,
    handle: &str,
    audit: &AuditContext,
) -> Result<()> {
    let caller = lock_and_confirm_caller(tx, caller, handle, audit).await?;
    caller.require_scope("members:write")?;
    let member = find(tx, &caller, handle).await?;
    if caller.role.is_none() || caller.membership != member.id {
        caller.authorize("members:write")?;
        if member.role == Role::Owner {
            caller.require_owner()?;
        }
    }
    if member.role == Role::Owner {
        require_another_owner(tx, &caller, &member).await?;
    }
    if !members::remove(tx, caller.organization, member.id, audit.at).await? {
        return Err(no_such_member());
    }
    invites::revoke_by_inviter(tx, caller.organization, member.id, false, audit.at).await?;
    let detail = json!({ "role": member.role.as_str() });
    record_caller_event(tx, &caller, EventType::MemberRemoved, handle, detail, audit).await
}

/// Passes whoever may give members this role.
///
/// # Errors
/// Missing scope or role.
pub fn require_role_for(caller: &Caller, role: Role) -> Result<()> {
    caller.authorize("members:write")?;
    if role == Role::Owner { caller.require_owner() } else { Ok(()) }
}

/// Passes whoever may remove the member with this id, who may be gone.
///
/// # Errors
/// Missing scope or role.
pub fn require_right_to_remove(caller: &Caller, handle: &str) -> Result<()> {
    let is_oneself = caller.role.is_some() && caller.membership_handle == handle;
    if is_oneself {
        caller.require_scope("members:write")
    } else {
        caller.authorize("members:write")
    }
}

/// The organization, the caller as the database knows it now, and for a key the seat that it asks
/// about: held in this order, seats before keys as everywhere.
async fn lock_and_confirm_caller(
    tx: &mut PgConnection,
    caller: &Caller,
    handle: &str,
    audit: &AuditContext,
) -> Result<Arc<Caller>> {
    organizations::lock(tx, caller.organization).await?;
    if matches!(caller.credential, Credential::Key(..)) && is_membership_handle(handle) {
        members::lock(tx, caller.organization, handle).await?;
    }
    confirm_caller(tx, caller, audit).await
}

async fn find(tx: &mut PgConnection, caller: &Caller, handle: &str) -> Result<Member> {
    if !is_membership_handle(handle) {
        return Err(no_such_member());
    }
    let member = members::find(tx, caller.organization, handle).await?;
    member.ok_or_else(no_such_member)
}

fn no_such_member() -> Error {
    Error::not_found("There is no such member")
}

async fn require_another_owner(
    tx: &mut PgConnection,
    caller: &Caller,
    member: &Member,
) -> Result<()> {
    match members::count_other_owners(tx, caller.organization, member.id).await? {
        0 => Err(Error::conflict("An organization needs an owner; make somebody else one first")),
        _ => Ok(()),
    }
}
