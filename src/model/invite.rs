//! Invitations to an organization.

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::email::Email;
use crate::model::ids::{InviteId, KeyId, MembershipId, OrganizationId};
use crate::model::role::Role;

/// How long an invitation can be accepted.
pub const INVITE_LIFETIME: TimeDelta = TimeDelta::days(7);

/// What became of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteStatus {
    /// It can be accepted.
    Pending,
    /// It was.
    Accepted,
    /// It was taken back, or replaced.
    Revoked,
    /// It was not accepted in time.
    Expired,
}

impl InviteStatus {
    /// Reads a status's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Pending, Self::Accepted, Self::Revoked, Self::Expired];
        all.into_iter().find(|status| status.as_str() == word)
    }

    /// The status's word.
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

/// The public data of a invitation.
#[derive(Clone, Debug)]
pub struct Invite {
    /// Its id.
    pub id: InviteId,
    /// Who is invited.
    pub email: String,
    /// What they are to be.
    pub role: Role,
    /// What became of it, by the database's clock.
    pub status: InviteStatus,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// The membership that it came from, as callers see it.
    pub invited_by: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

/// An invitation about to be stored.
pub struct NewInvite<'a> {
    /// Its id.
    pub id: InviteId,
    /// Where to.
    pub organization: OrganizationId,
    /// Who is invited.
    pub email: &'a Email,
    /// What they are to be.
    pub role: Role,
    /// The membership that it comes from.
    pub invited_by: MembershipId,
    /// The organization's key that it is created with, if it is one.
    pub key: Option<KeyId>,
    /// When it is created.
    pub created_at: DateTime<Utc>,
}
