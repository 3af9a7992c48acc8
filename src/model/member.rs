//! Seats in an organization, as its people see them.

use chrono::{DateTime, Utc};

use crate::model::ids::{AccountId, MembershipId, OrganizationId};
use crate::model::role::Role;

/// Somebody's seat; nobody's, where open signup made it and no person has claimed it yet.
#[derive(Clone, Debug)]
pub struct Member {
    /// The seat, inside.
    pub id: MembershipId,
    /// The seat, as callers see it.
    pub handle: String,
    /// Whose it is.
    pub account: Option<AccountId>,
    /// Their address.
    pub email: Option<String>,
    /// What they are called.
    pub name: Option<String>,
    /// What they are in the organization.
    pub role: Role,
    /// Since when.
    pub joined_at: DateTime<Utc>,
}

/// A membership that began by an invitation of a key.
#[derive(Clone, Debug)]
pub struct KeyInvitedMembership {
    /// The seat, as callers see it.
    pub handle: String,
    /// The role that it has now.
    pub role: Role,
    /// When the invitation was accepted.
    pub joined_at: DateTime<Utc>,
}

/// A seat about to be stored.
pub struct NewMembership<'a> {
    /// Where it is.
    pub organization: OrganizationId,
    /// The seat, inside.
    pub id: MembershipId,
    /// The seat, as callers see it.
    pub handle: &'a str,
    /// What its person is.
    pub role: Role,
    /// Whose it is; nobody's yet where open signup makes it.
    pub account: Option<AccountId>,
    /// When it is made.
    pub created_at: DateTime<Utc>,
}
