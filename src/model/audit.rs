//! What is written down about a change.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::model::audit_seal::{AuditSigner, CanonicalJson, EventSeal};
use crate::model::ids::OrganizationId;

/// The request that a change came with, as plain data.
#[derive(Clone, Debug)]
pub struct AuditContext {
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
    /// What signs the events that come of it.
    pub signer: AuditSigner,
}

impl AuditContext {
    /// What was asked for on the command line, or came by itself: no request of HTTP's.
    #[must_use]
    pub fn for_command(
        name: &str,
        request_id: String,
        at: DateTime<Utc>,
        signer: AuditSigner,
    ) -> Self {
        let (method, path) = ("-".to_owned(), name.to_owned());
        Self { method, path, status: None, address: None, request_id, at, signer }
    }
}

/// Declares [`EventType`]: each type with the word that the log and its filters have for it.
macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EventType {
            $($(#[$doc])* $name,)*
        }

        impl EventType {
            /// Every type.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The type's word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

event_types! {
    /// An organization was made by open signup.
    OrganizationSignedUp = "organization.signed_up",
    /// An organization was made with a person's account.
    AccountSignedUp = "account.signed_up",
    /// Somebody signed up with the address of a pending sign-up, and took its place.
    SignUpReplaced = "account.sign_up_replaced",
    /// A person made another organization.
    OrganizationCreated = "organization.created",
    /// An organization's settings were changed.
    OrganizationUpdated = "organization.updated",
    /// An organization was deleted.
    OrganizationDeleted = "organization.deleted",
    /// The operator made an organization.
    OrganizationProvisioned = "organization.provisioned",
    /// The operator suspended an organization.
    OrganizationSuspended = "organization.suspended",
    /// The operator reactivated an organization.
    OrganizationReactivated = "organization.reactivated",
    /// The operator moved an organization to another plan.
    OrganizationPlanChanged = "organization.plan_changed",
    /// The operator ended all keys of an organization.
    KeysForceRevoked = "api_keys.force_revoked",
    /// The operator gave an organization a new key.
    KeysForceRotated = "api_keys.force_rotated",
    /// Somebody paid for an organization that is not known to be theirs.
    CheckoutUnfulfilled = "checkout.unfulfilled",
    /// A master key was missing or wrong, once or many times.
    MasterKeyRejected = "AUTH_FAIL_MASTER_KEY",
    /// A member's role was changed.
    MemberRoleChanged = "member.role_changed",
    /// A member was removed, or left.
    MemberRemoved = "member.removed",
    /// An address was invited.
    InviteCreated = "invite.created",
    /// An invitation was mailed again.
    InviteResent = "invite.resent",
    /// An invitation was taken back.
    InviteRevoked = "invite.revoked",
    /// An invitation was accepted.
    InviteAccepted = "invite.accepted",
    /// A person proved that their address is theirs.
    EmailVerified = "account.email_verified",
    /// A person changed their password.
    PasswordChanged = "account.password_changed",
    /// A person chose a new password by a mailed link.
    PasswordReset = "account.password_reset",
    /// A person changed what they are called.
    AccountUpdated = "account.updated",
    /// A person deleted their account.
    AccountDeleted = "account.deleted",
    /// A personal token was made.
    PersonalTokenCreated = "personal_token.created",
    /// A personal token's settings were changed.
    PersonalTokenUpdated = "personal_token.updated",
    /// A personal token was ended.
    PersonalTokenRevoked = "personal_token.revoked",
    /// A project was made.
    ProjectCreated = "project.created",
    /// A project was changed.
    ProjectUpdated = "project.updated",
    /// A project was deleted.
    ProjectDeleted = "project.deleted",
    /// A key was minted.
    KeyCreated = "api_key.created",
    /// A key was revoked.
    KeyRevoked = "api_key.revoked",
    /// A key's settings were changed.
    KeyUpdated = "api_key.updated",
    /// A key was replaced by a newer one.
    KeyRotated = "api_key.rotated",
    /// Keys were taken over from elsewhere.
    KeyImported = "api_key.imported",
    /// A known key was refused, once or many times.
    KeyRejected = "api_key.refused",
    /// A key was exchanged for a session, or a person signed in.
    SessionCreated = "session.created",
    /// Somebody did not get in to an account that there is, once or many times.
    SignInFailed = "SIGN_IN_FAILED",
    /// A person ended a session: their own or another one.
    SessionRevoked = "session.revoked",
    /// A person ended several sessions at once.
    SessionsRevoked = "sessions.revoked",
    /// A used refresh token came again, and its session was ended.
    SessionRevokedByReuse = "session.revoked_by_reuse",
}

impl EventType {
    /// Returns the type that has this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.as_str() == word)
    }

    /// Every type's word.
    #[must_use]
    pub fn words() -> Vec<&'static str> {
        Self::ALL.iter().map(|it| it.as_str()).collect()
    }
}

/// Which rows of a trail are wanted; what is `None` does not matter.
#[derive(Clone, Default)]
pub struct AuditEventFilter {
    /// Of this type.
    pub event_type: Option<EventType>,
    /// From this time on.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
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
#[derive(Clone)]
pub struct NewAuditEvent<'a> {
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
    pub audit: &'a AuditContext,
}

impl NewAuditEvent<'_> {
    /// Signs the event with its audit context's signer; `None` only where there is no pepper, which
    /// no configuration allows.
    #[must_use]
    pub fn seal(&self) -> Option<EventSeal> {
        let address = self.audit.address.map(|address| address.to_string());
        // In the order of `AuditSigner::check_event`.
        self.audit.signer.seal(|nonce| {
            (
                nonce,
                self.organization.0.to_string(),
                self.event_type.as_str(),
                self.actor,
                self.target,
                &self.audit.method,
                &self.audit.path,
                self.audit.status,
                address,
                &self.audit.request_id,
                self.key_display_id,
                CanonicalJson(&self.detail),
                self.audit.at.timestamp_micros(),
            )
        })
    }
}
