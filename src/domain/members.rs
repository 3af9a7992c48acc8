//! The people of an organization: what they are in it, and how they leave.
//!
//! Invariant: the organization is held before anybody's seat, so that of two owners who remove each
//! other at once, one stays.

use serde_json::json;
use sqlx::PgConnection;

use crate::domain::keys::{confirm, record};
use crate::error::{Error, Result};
use crate::model::audit::{EventType, Trail};
use crate::model::caller::Caller;
use crate::model::ids::is_user_handle;
use crate::model::member::Member;
use crate::model::role::Role;
use crate::repo::{members, organizations};

/// Gives a member another role. Admins change members and admins; owners everybody.
///
/// # Errors
/// Not found; missing role; conflict where the last owner would be none any more.
pub async fn change_role(
    tx: &mut PgConnection,
    caller: &Caller,
    handle: &str,
    role: Role,
    trail: &Trail,
) -> Result<Member> {
    organizations::hold(tx, caller.organization).await?;
    let caller = confirm(tx, caller, trail).await?;
    caller.require("members:write")?;
    let before = find(tx, &caller, handle).await?;
    if before.role == Role::Owner || role == Role::Owner {
        caller.require_role(Role::Owner)?;
    }
    if before.role == Role::Owner && role != Role::Owner {
        require_another_owner(tx, &caller, &before).await?;
    }
    if !members::set_role(tx, caller.organization, before.id, role).await? {
        return Err(no_such_member());
    }
    let detail = json!({ "role": role.as_str(), "before": before.role.as_str() });
    record(tx, &caller, EventType::MemberRoleChanged, handle, detail, trail).await?;
    Ok(Member { role, ..before })
}

/// Takes a member's seat away: their sessions and tokens do nothing more here. Admins remove
/// members and admins, owners everybody; anybody may leave.
///
/// # Errors
/// Not found; missing role; conflict where the last owner would go.
pub async fn remove(
    tx: &mut PgConnection,
    caller: &Caller,
    handle: &str,
    trail: &Trail,
) -> Result<()> {
    organizations::hold(tx, caller.organization).await?;
    let caller = confirm(tx, caller, trail).await?;
    caller.require_scope("members:write")?;
    let member = find(tx, &caller, handle).await?;
    if caller.role.is_none() || caller.user != member.id {
        caller.require("members:write")?;
        if member.role == Role::Owner {
            caller.require_role(Role::Owner)?;
        }
    }
    if member.role == Role::Owner {
        require_another_owner(tx, &caller, &member).await?;
    }
    if !members::remove(tx, caller.organization, member.id, trail.at).await? {
        return Err(no_such_member());
    }
    let detail = json!({ "role": member.role.as_str() });
    record(tx, &caller, EventType::MemberRemoved, handle, detail, trail).await
}

async fn find(tx: &mut PgConnection, caller: &Caller, handle: &str) -> Result<Member> {
    if !is_user_handle(handle) {
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
    match members::other_owners(tx, caller.organization, member.id).await? {
        0 => Err(Error::conflict("An organization needs an owner; make somebody else one first")),
        _ => Ok(()),
    }
}
