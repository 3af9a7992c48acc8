//! Audit events: their types and context, and their data as written and as read.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::model::audit_seal::{AuditSigner, CanonicalJson, EventSeal};
use crate::model::ids::OrganizationId;

/// The context of an audit event: the request that caused it, as plain data.
#[derive(Clone, Debug)]
pub struct AuditContext {
    /// The request's method.
    pub method: String,
    /// The request's path, without the query.
    pub path: String,
    /// The status of the response; `None` outside HTTP.
    pub status: Option<u16>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The request's id.
    pub request_id: String,
    /// The time of the events.
    pub at: DateTime<Utc>,
    /// Signs the events.
    pub signer: AuditSigner,
}

impl AuditContext {
    /// Returns the context of a command, or of a job that no request started.
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

/// Declares [`AuditEventType`]: each type with its wire name.
macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident = $wire_name:literal,)*) => {
        /// The type of an audit event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum AuditEventType {
            $($(#[$doc])* $name,)*
        }

        impl AuditEventType {
            /// Every type.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the type's wire name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $wire_name,)*
                }
            }
        }
    };
}

event_types! {
    /// An organization was created by open signup, without an account.
    OrganizationSignedUp = "organization.signed_up",
    /// An organization was created with an account.
    AccountSignedUp = "account.signed_up",
    /// A pending signup was replaced by a later one with the same address.
    SignUpReplaced = "account.sign_up_replaced",
    /// An account created another organization.
    OrganizationCreated = "organization.created",
    /// An organization's settings were updated.
    OrganizationUpdated = "organization.updated",
    /// An organization was deleted.
    OrganizationDeleted = "organization.deleted",
    /// The operator or Stripe created an organization.
    OrganizationProvisioned = "organization.provisioned",
    /// The operator or Stripe suspended an organization.
    OrganizationSuspended = "organization.suspended",
    /// The operator or Stripe reactivated an organization.
    OrganizationReactivated = "organization.reactivated",
    /// The operator or Stripe changed an organization's plan.
    OrganizationPlanChanged = "organization.plan_changed",
    /// The operator revoked all keys of an organization.
    KeysForceRevoked = "api_keys.force_revoked",
    /// The operator replaced all keys of an organization with a new one.
    KeysForceRotated = "api_keys.force_rotated",
    /// A paid checkout could not be fulfilled.
    CheckoutUnfulfilled = "checkout.unfulfilled",
    /// A master key was missing or wrong, once or several times.
    MasterKeyRejected = "AUTH_FAIL_MASTER_KEY",
    /// A verifier's secret was missing or wrong, once or several times.
    VerifierRejected = "AUTH_FAIL_VERIFIER",
    /// A membership's role was changed.
    MemberRoleChanged = "member.role_changed",
    /// A membership was removed, by its own account or by another caller.
    MemberRemoved = "member.removed",
    /// An e-mail address was invited.
    InviteCreated = "invite.created",
    /// An invitation was mailed again.
    InviteResent = "invite.resent",
    /// An invitation was revoked.
    InviteRevoked = "invite.revoked",
    /// An invitation was accepted.
    InviteAccepted = "invite.accepted",
    /// The owner of an account verified its address.
    EmailVerified = "account.email_verified",
    /// An account's password was changed.
    PasswordChanged = "account.password_changed",
    /// An account's password was reset with a mailed link.
    PasswordReset = "account.password_reset",
    /// An account's name or handle was updated.
    AccountUpdated = "account.updated",
    /// An account was deleted.
    AccountDeleted = "account.deleted",
    /// A personal access token was created.
    PersonalTokenCreated = "personal_token.created",
    /// A personal access token's settings were updated.
    PersonalTokenUpdated = "personal_token.updated",
    /// A personal access token was revoked.
    PersonalTokenRevoked = "personal_token.revoked",
    /// A grant of access to an app was revoked, or several such grants.
    AppGrantRevoked = "app_grant.revoked",
    /// An app's authorization code was used twice.
    AppCodeReused = "app_grant.code_reused",
    /// A project was created.
    ProjectCreated = "project.created",
    /// A project was updated.
    ProjectUpdated = "project.updated",
    /// A project was deleted.
    ProjectDeleted = "project.deleted",
    /// An app was registered.
    AppCreated = "app.created",
    /// An app was updated.
    AppUpdated = "app.updated",
    /// An app was deleted.
    AppDeleted = "app.deleted",
    /// A secret of an app was created.
    AppSecretCreated = "app.secret_created",
    /// A secret of an app was deleted.
    AppSecretDeleted = "app.secret_deleted",
    /// The operator published an app: all accounts may grant access to it.
    AppPublished = "app.published",
    /// The operator disabled an app.
    AppDisabled = "app.disabled",
    /// The operator enabled an app again.
    AppEnabled = "app.enabled",
    /// An organization changed which apps its members may grant access to.
    AppPolicyUpdated = "app_policy.updated",
    /// A domain was added for single sign-on.
    SsoDomainAdded = "sso.domain_added",
    /// A domain was verified: its DNS record was found.
    SsoDomainVerified = "sso.domain_verified",
    /// The DNS record of a verified domain was not found.
    SsoDomainAbsent = "sso.domain_absent",
    /// A verified domain was lost: its DNS record was absent for 7 days.
    SsoDomainLost = "sso.domain_lost",
    /// A domain was deleted.
    SsoDomainDeleted = "sso.domain_deleted",
    /// A connection to an identity provider was created.
    SsoConnectionCreated = "sso.connection_created",
    /// A connection to an identity provider was updated.
    SsoConnectionUpdated = "sso.connection_updated",
    /// A connection to an identity provider was activated: members can sign in with it.
    SsoConnectionActivated = "sso.connection_activated",
    /// A connection to an identity provider was disabled.
    SsoConnectionDisabled = "sso.connection_disabled",
    /// A connection to an identity provider was deleted.
    SsoConnectionDeleted = "sso.connection_deleted",
    /// A key was created.
    KeyCreated = "api_key.created",
    /// A key was revoked.
    KeyRevoked = "api_key.revoked",
    /// A key's settings were updated.
    KeyUpdated = "api_key.updated",
    /// A key was rotated: replaced by a new one.
    KeyRotated = "api_key.rotated",
    /// Keys were imported.
    KeyImported = "api_key.imported",
    /// A key or personal access token was reported as leaked.
    KeyLeaked = "KEY_LEAKED",
    /// A known key was rejected, once or several times.
    KeyRejected = "api_key.refused",
    /// A key was exchanged for a session, or an account signed in.
    SessionCreated = "session.created",
    /// Signing in to an existing account failed, once or several times.
    SignInFailed = "SIGN_IN_FAILED",
    /// An account revoked one of its sessions.
    SessionRevoked = "session.revoked",
    /// An account revoked several of its sessions.
    SessionsRevoked = "sessions.revoked",
    /// An account granted an OAuth client access.
    AppGrantCreated = "app_grant.created",
    /// An account granted an OAuth client more access than before.
    AppGrantWidened = "app_grant.widened",
    /// An account tried to grant access to an OAuth client that the organization's policy excludes.
    AppGrantRejected = "app_grant.rejected",
    /// A member signed in with single sign-on.
    SsoSignedIn = "sso.signed_in",
    /// A person of an identity provider was linked to an account, which may be new.
    SsoAccountLinked = "sso.account_linked",
    /// A person of an identity provider was not signed in.
    SsoSignInRejected = "sso.sign_in_rejected",
    /// A refresh token was reused, and its session was revoked.
    SessionRevokedByReuse = "session.revoked_by_reuse",
}

impl AuditEventType {
    /// Parses a type's wire name.
    #[must_use]
    pub fn parse(wire_name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.as_str() == wire_name)
    }

    /// Returns the wire name of every type.
    #[must_use]
    pub fn wire_names() -> Vec<&'static str> {
        Self::ALL.iter().map(|it| it.as_str()).collect()
    }
}

/// A filter for the events of an audit log. A field that is `None` matches every event.
#[derive(Clone, Default)]
pub struct AuditEventFilter {
    /// The type of the events.
    pub event_type: Option<AuditEventType>,
    /// Only events at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Only events before this time.
    pub until: Option<DateTime<Utc>>,
}

/// An audit event that was read from the audit log.
pub struct RecordedAuditEvent {
    /// Its row's id, which orders the audit log.
    pub id: i64,
    /// The type of the event.
    pub event_type: String,
    /// The actor: a public id, or a name such as `stripe`.
    pub actor: String,
    /// The target, in most events a public id.
    pub target: String,
    /// The request's method.
    pub method: String,
    /// The request's path.
    pub path: String,
    /// The status of the response.
    pub status: Option<u16>,
    /// The client's address.
    pub address: Option<String>,
    /// The request's id.
    pub request_id: String,
    /// The display id of the key that the request presented.
    pub key_display_id: Option<String>,
    /// The detail: what changed.
    pub detail: serde_json::Value,
    /// When it happened.
    pub created_at: DateTime<Utc>,
}

/// An audit event to insert.
#[derive(Clone)]
pub struct NewAuditEvent<'a> {
    /// The organization in whose audit log it is recorded.
    pub organization: OrganizationId,
    /// The type of the event.
    pub event_type: AuditEventType,
    /// The actor: the public id of a membership, a key, a session or an account, or a name such as
    /// `stripe`.
    pub actor: &'a str,
    /// The target, in most events a public id.
    pub target: &'a str,
    /// The display id of the key that the request presented.
    pub key_display_id: Option<&'a str>,
    /// The detail: what changed. Never contains a secret.
    pub detail: serde_json::Value,
    /// The audit context.
    pub audit: &'a AuditContext,
}

impl NewAuditEvent<'_> {
    /// Signs the event with the signer of its audit context. `None` only if there is no pepper,
    /// which no configuration allows.
    #[must_use]
    pub fn seal(&self) -> Option<EventSeal> {
        let address = self.audit.address.map(|address| address.to_string());
        // The fields are in the order that `AuditSigner::check_event` expects.
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
