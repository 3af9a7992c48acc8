//! Connections to identity providers.

use chrono::{DateTime, Utc};
use url::Url;

use crate::model::ids::{ConnectionId, OrganizationId};
use crate::model::role::Role;
use crate::model::secret::SealedSecret;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionStatus {
    /// It was created, and members cannot sign in with it yet.
    Inactive,
    /// Members can sign in with it.
    Active,
    /// It was disabled. Members cannot sign in with it, and its sessions ended.
    Disabled,
}

impl ConnectionStatus {
    /// Returns the status's wire name, which is also stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }

    /// Returns the status that is stored under this name. A name that this version does not know
    /// is disabled, with which no one can sign in.
    #[must_use]
    pub fn from_stored(name: &str) -> Self {
        let all = [Self::Inactive, Self::Active];
        all.into_iter().find(|status| status.as_str() == name).unwrap_or(Self::Disabled)
    }
}

/// The parts of a provider's metadata that sign-in needs (`OpenID` Connect Discovery §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderMetadata {
    /// Where a browser is sent to sign in.
    pub authorization_endpoint: Url,
    /// Where a code is exchanged.
    pub token_endpoint: Url,
    /// Where its public keys are.
    pub jwks_uri: Url,
    /// Where claims beside those of the ID token are; `None` if it has no such endpoint.
    pub userinfo_endpoint: Option<Url>,
    /// Whether it takes the client secret only in the body of the request (`client_secret_post`).
    pub takes_secret_in_body: bool,
}

/// Who becomes a member by signing in for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitSettings {
    /// Whether a person without a membership gets one.
    pub is_enabled: bool,
    /// The role of a new membership: never owner.
    pub default_role: Role,
    /// Whether each sign-in sets the role again.
    pub syncs_role: bool,
}

/// Gives members a role by a claim of the ID token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleMapping {
    /// The name of the claim, for example `groups`.
    pub claim: String,
    /// The value that the claim has or contains.
    pub value: String,
    /// The role. Owner only if an owner added the mapping.
    pub role: Role,
}

/// A connection of an organization to an identity provider that speaks `OpenID` Connect.
#[derive(Clone)]
pub struct SsoConnection {
    /// Its id.
    pub id: ConnectionId,
    /// The organization.
    pub organization: OrganizationId,
    /// The state.
    pub status: ConnectionStatus,
    /// The provider's issuer identifier, exactly as its metadata and its ID tokens state it.
    pub issuer: String,
    /// The id of the client that the organization registered there.
    pub client_id: String,
    /// The secret of the client.
    pub client_secret: SealedSecret,
    /// The provider's metadata, as it was last fetched.
    pub metadata: ProviderMetadata,
    /// Who becomes a member.
    pub jit: JitSettings,
    /// The roles by claims. The highest role applies.
    pub role_mapping: Vec<RoleMapping>,
    /// After how many hours a session ends: 1 to 24.
    pub session_hours: i32,
    /// What was wrong with the provider when it was last used; `None` if nothing was.
    pub last_error: Option<String>,
    /// When the metadata was last fetched.
    pub discovered_at: DateTime<Utc>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}
