//! Invitations to an organization.

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::email::Email;
use crate::model::ids::{InviteId, KeyId, MembershipId, OrganizationId};
use crate::model::role::Role;

/// The time in which an invitation can be accepted.
pub const INVITE_LIFETIME: TimeDelta = TimeDelta::days(7);

/// The status of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteStatus {
    /// It can be accepted.
    Pending,
    /// It was accepted.
    Accepted,
    /// It was revoked, or replaced by a later one.
    Revoked,
    /// It was not accepted in time.
    Expired,
}

impl InviteStatus {
    /// Parses a status's wire name.
    #[must_use]
    pub fn parse(wire_name: &str) -> Option<Self> {
        let all = [Self::Pending, Self::Accepted, Self::Revoked, Self::Expired];
        all.into_iter().find(|status| status.as_str() == wire_name)
    }

    /// Returns the status's wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// The public data of an invitation.
#[derive(Clone, Debug)]
pub struct Invite {
    /// Its id.
    pub id: InviteId,
    /// The invited e-mail address.
    pub email: String,
    /// The role of the membership to create.
    pub role: Role,
    /// Its status, by the database's clock.
    pub status: InviteStatus,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// The public id of the membership that created it.
    pub invited_by: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

/// An invitation to insert.
pub struct NewInvite<'a> {
    /// Its id.
    pub id: InviteId,
    /// The organization to join.
    pub organization: OrganizationId,
    /// The invited e-mail address.
    pub email: &'a Email,
    /// The role of the membership to create.
    pub role: Role,
    /// The membership that creates it.
    pub invited_by: MembershipId,
    /// The organization's key that creates it, if a key does.
    pub key: Option<KeyId>,
    /// The time of its creation.
    pub created_at: DateTime<Utc>,
}
