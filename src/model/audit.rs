//! What is written down about a change.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::model::Invalid;
use crate::model::ids::OrganizationId;

/// The request that a change came with, as plain data.
#[derive(Clone, Debug)]
pub struct Trail {
    /// The request's method.
    pub method: String,
    /// The request's path, without the query.
    pub path: String,
    /// What it was answered with; `None` where it is no request of HTTP's.
    pub status: Option<u16>,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// Its id.
    pub request_id: String,
    /// When it came.
    pub at: DateTime<Utc>,
}

impl Trail {
    /// What was asked for on the command line, or came by itself: no request of HTTP's.
    #[must_use]
    pub fn of_command(name: &str, request_id: String, at: DateTime<Utc>) -> Self {
        let (method, path) = ("-".to_owned(), name.to_owned());
        Self { method, path, status: None, address: None, request_id, at }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// An organization was made by open signup.
    OrganizationSignedUp,
    /// An organization was made with a person's account.
    AccountSignedUp,
    /// A person made another organization.
    OrganizationCreated,
    /// An organization's settings were changed.
    OrganizationUpdated,
    /// An organization was deleted.
    OrganizationDeleted,
    /// The operator made an organization.
    OrganizationProvisioned,
    /// The operator suspended an organization.
    OrganizationSuspended,
    /// The operator reactivated an organization.
    OrganizationReactivated,
    /// The operator moved an organization to another plan.
    OrganizationPlanChanged,
    /// The operator ended all keys of an organization.
    KeysForceRevoked,
    /// The operator gave an organization a new key.
    KeysForceRotated,
    /// A master key was missing or wrong, once or many times.
    MasterKeyRefused,
    /// A member's role was changed.
    MemberRoleChanged,
    /// A member was removed, or left.
    MemberRemoved,
    /// An address was invited.
    InviteCreated,
    /// An invitation was mailed again.
    InviteResent,
    /// An invitation was taken back.
    InviteRevoked,
    /// An invitation was accepted.
    InviteAccepted,
    /// A person proved that their address is theirs.
    EmailVerified,
    /// A person changed their password.
    PasswordChanged,
    /// A person chose a new password by a mailed link.
    PasswordReset,
    /// A person changed what they are called.
    AccountUpdated,
    /// A person deleted their account.
    AccountDeleted,
    /// A personal token was made.
    PersonalTokenCreated,
    /// A personal token's settings were changed.
    PersonalTokenUpdated,
    /// A personal token was ended.
    PersonalTokenRevoked,
    /// A project was made.
    ProjectCreated,
    /// A project was changed.
    ProjectUpdated,
    /// A project was deleted.
    ProjectDeleted,
    /// A key was minted.
    KeyCreated,
    /// A key was revoked.
    KeyRevoked,
    /// A key's settings were changed.
    KeyUpdated,
    /// A key was replaced by a newer one.
    KeyRotated,
    /// Keys were taken over from elsewhere.
    KeyImported,
    /// A known key was refused, once or many times.
    KeyRefused,
    /// A key was exchanged for a session, or a person signed in.
    SessionCreated,
    /// A person ended a session: their own or another one.
    SessionRevoked,
    /// A person ended several sessions at once.
    SessionsRevoked,
    /// A used refresh token came again, and its session was ended.
    SessionRevokedByReuse,
}

impl EventType {
    /// The event's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrganizationSignedUp => "organization.signed_up",
            Self::AccountSignedUp => "account.signed_up",
            Self::OrganizationCreated => "organization.created",
            Self::OrganizationUpdated => "organization.updated",
            Self::OrganizationDeleted => "organization.deleted",
            Self::OrganizationProvisioned => "organization.provisioned",
            Self::OrganizationSuspended => "organization.suspended",
            Self::OrganizationReactivated => "organization.reactivated",
            Self::OrganizationPlanChanged => "organization.plan_changed",
            Self::KeysForceRevoked => "api_keys.force_revoked",
            Self::KeysForceRotated => "api_keys.force_rotated",
            Self::MasterKeyRefused => "AUTH_FAIL_MASTER_KEY",
            Self::MemberRoleChanged => "member.role_changed",
            Self::MemberRemoved => "member.removed",
            Self::InviteCreated => "invite.created",
            Self::InviteResent => "invite.resent",
            Self::InviteRevoked => "invite.revoked",
            Self::InviteAccepted => "invite.accepted",
            Self::EmailVerified => "account.email_verified",
            Self::PasswordChanged => "account.password_changed",
            Self::PasswordReset => "account.password_reset",
            Self::AccountUpdated => "account.updated",
            Self::AccountDeleted => "account.deleted",
            Self::PersonalTokenCreated => "personal_token.created",
            Self::PersonalTokenUpdated => "personal_token.updated",
            Self::PersonalTokenRevoked => "personal_token.revoked",
            Self::ProjectCreated => "project.created",
            Self::ProjectUpdated => "project.updated",
            Self::ProjectDeleted => "project.deleted",
            Self::KeyCreated => "api_key.created",
            Self::KeyRevoked => "api_key.revoked",
            Self::KeyUpdated => "api_key.updated",
            Self::KeyRotated => "api_key.rotated",
            Self::KeyImported => "api_key.imported",
            Self::KeyRefused => "api_key.refused",
            Self::SessionCreated => "session.created",
            Self::SessionRevoked => "session.revoked",
            Self::SessionsRevoked => "sessions.revoked",
            Self::SessionRevokedByReuse => "session.revoked_by_reuse",
        }
    }
}

/// Which rows of a trail are wanted; what is `None` does not matter.
#[derive(Clone, Default)]
pub struct EventFilter {
    /// Of this type.
    pub event_type: Option<String>,
    /// From this time on.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
}

impl EventFilter {
    /// Reads the type of the events that are wanted, whether there are any or not.
    ///
    /// # Errors
    /// For a text that can be no type.
    pub fn parse_type(text: &str) -> Result<String, Invalid> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_';
        if text.len() <= 64 && text.bytes().all(allowed) {
            Ok(text.to_owned())
        } else {
            Err("must be an event type such as api_key.created".into())
        }
    }
}

/// One row of the trail, as it is read.
pub struct RecordedEvent {
    /// Its place in the trail.
    pub id: i64,
    /// What happened.
    pub event_type: String,
    /// Who did it.
    pub actor: String,
    /// What it was done to.
    pub target: String,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// What it was answered with.
    pub status: Option<u16>,
    /// Where the request came from.
    pub address: Option<String>,
    /// The request.
    pub request_id: String,
    /// The key that it came with, as it may be shown.
    pub key_display_id: Option<String>,
    /// What changed.
    pub detail: serde_json::Value,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// One row of the trail, as it is written.
pub struct AuditEvent<'a> {
    /// Whose trail.
    pub organization: OrganizationId,
    /// What happened.
    pub event_type: EventType,
    /// Who did it: the public id of a seat, a key, a session or an account.
    pub actor: &'a str,
    /// What it was done to: the public id.
    pub target: &'a str,
    /// The key the request came with, as it may be shown.
    pub key_display_id: Option<&'a str>,
    /// What changed; never a secret.
    pub detail: serde_json::Value,
    /// The request.
    pub trail: &'a Trail,
}
