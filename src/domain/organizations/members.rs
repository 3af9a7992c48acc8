//! The members of an organization: their roles, and their removal.
//!
//! Invariant: the organization is locked before any membership, so that if two owners remove each
//! other at the same time, one of them stays.

use std::sync::Arc;

use serde_json::json;
use sqlx::PgConnection;

use crate::domain::keys::{confirm_caller, record_caller_event};
use crate::error::{Error, Result};
use crate::model::account_reach::AccountReach;
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::caller::{Caller, Credential};
use crate::model::ids::is_membership_handle;
use crate::model::member::Member;
use crate::model::role::Role;
use crate::model::scope::BuiltInScope;
use crate::repo::{invites, members, organizations, rls, sessions};

/// Changes a member's role. Admins may change members and admins; owners may change everyone. A
/// member whose role is lowered loses the open invitations that its new role may not send.
///
/// # Errors
/// Not found; missing role; conflict if this is the last owner and would no longer be one.
pub async fn change_role(
    tx: &mut PgConnection,
    caller: &Caller,
    handle: &str,
    role: Role,
    audit: &AuditContext,
) -> Result<Member> {
    let caller = lock_and_confirm_caller(tx, caller, handle, audit).await?;
    caller.authorize(BuiltInScope::MembersWrite)?;
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
        let only_owner_invites = role == Role::Admin;
        let (organization, membership) = (caller.organization, before.id);
        invites::revoke_by_inviter(tx, organization, membership, only_owner_invites, audit.at)
            .await?;
    }
    let detail = json!({ "role": role.as_str(), "before": before.role.as_str() });
    record_caller_event(tx, &caller, AuditEventType::MemberRoleChanged, handle, detail, audit)
        .await?;
    Ok(Member { role, ..before })
}

/// Removes a membership: the account's sessions and tokens no longer have access to the
/// organization, its sessions of single sign-on there end, and the invitations sent from the
/// membership are revoked. Admins may remove members and admins, owners may remove everyone, and
/// any member may leave.
///
/// # Errors
/// Not found; missing role; conflict if this is the last owner.
pub async fn remove(
    tx: &mut PgConnection,
    caller: &Caller,
    handle: &str,
    audit: &AuditContext,
) -> Result<()> {
    let caller = lock_and_confirm_caller(tx, caller, handle, audit).await?;
    caller.require_scope(BuiltInScope::MembersWrite)?;
    let member = find(tx, &caller, handle).await?;
    if caller.role.is_none() || caller.membership != member.id {
        caller.authorize(BuiltInScope::MembersWrite)?;
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
    if let Some(account) = member.account {
        // Row-level security hides the sessions of accounts that are no longer members.
        rls::clear_tenant(tx).await?;
        let reach = AccountReach { account, only: Some(caller.organization) };
        sessions::revoke_all(tx, reach, None, audit.at).await?;
        rls::set_tenant(tx, caller.organization).await?;
    }
    let detail = json!({ "role": member.role.as_str() });
    record_caller_event(tx, &caller, AuditEventType::MemberRemoved, handle, detail, audit).await
}

/// Checks that the caller may give members this role.
///
/// # Errors
/// Missing scope or role.
pub fn require_role_for(caller: &Caller, role: Role) -> Result<()> {
    caller.authorize(BuiltInScope::MembersWrite)?;
    if role == Role::Owner { caller.require_owner() } else { Ok(()) }
}

/// Checks that the caller may remove the member with this id, who may already be removed.
///
/// # Errors
/// Missing scope or role.
pub fn require_right_to_remove(caller: &Caller, handle: &str) -> Result<()> {
    let is_self = caller.role.is_some() && caller.membership_handle == handle;
    if is_self {
        caller.require_scope(BuiltInScope::MembersWrite)
    } else {
        caller.authorize(BuiltInScope::MembersWrite)
    }
}

/// Locks the organization, then, for a caller with a key, the membership with this handle, and then
/// the caller's credential: memberships are locked before keys, as everywhere. Returns the caller
/// as the database has it now.
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
        0 => Err(Error::conflict(
            "An organization must have an owner; make another member an owner first",
        )),
        _ => Ok(()),
    }
}
