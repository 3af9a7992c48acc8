//! Grants to clients, as accounts, their organizations and the operator see them.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::model::ids::{AccountId, AppId, GrantId, OrganizationId};
use crate::model::oauth::{ClientKind, OpenidScope};
use crate::model::role::Role;
use crate::model::scope::{ScopeCatalogue, ScopeSet};

/// A live grant in a list.
#[derive(Clone, Debug)]
pub struct ListedGrant {
    /// Its id.
    pub id: GrantId,
    /// The public id of the client.
    pub client_id: String,
    /// The name of the client.
    pub client_name: String,
    /// How the client came to be known.
    pub client_kind: ClientKind,
    /// Whether the operator has published the client.
    pub is_verified: bool,
    /// The person who granted it.
    pub account: AccountId,
    /// The person's address.
    pub email: Option<String>,
    /// The public id of the organization that it is for; `None` if it is only for the person's own
    /// account.
    pub organization_handle: Option<String>,
    /// The person's role in that organization.
    pub role: Option<Role>,
    /// The granted scopes.
    pub scopes: Vec<String>,
    /// The services that tokens may be for; this API if empty.
    pub resources: Vec<String>,
    /// When it was granted.
    pub created_at: DateTime<Utc>,
    /// When one of its tokens was last used.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl ListedGrant {
    /// Returns the scopes that its tokens may use now: those that need no role, and those that the
    /// person's role permits.
    #[must_use]
    pub fn effective_scopes(&self, catalogue: &ScopeCatalogue) -> Vec<String> {
        let Some(role) = self.role else { return self.scopes.clone() };
        let openid = self.scopes.iter().filter(|text| OpenidScope::parse(text).is_some());
        let scopes = ScopeSet::from_stored(&self.scopes);
        let permitted = scopes.within_role(catalogue, |scope| role.permits(scope));
        openid.cloned().chain(permitted).collect()
    }
}

/// A filter for an organization's grants. A field that is `None` matches every grant.
#[derive(Clone, Default)]
pub struct GrantFilter {
    /// The public id of the client.
    pub client_id: Option<String>,
    /// The person.
    pub account: Option<AccountId>,
}

/// Why a grant was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantRevocationReason {
    /// The person revoked it.
    Person,
    /// The organization that it is for revoked it.
    Organization,
    /// The policy of the organization no longer permits the client.
    Policy,
    /// The app was deleted.
    AppDeleted,
    /// The operator disabled the app.
    AppDisabled,
    /// The client revoked it.
    Client,
    /// Its authorization code was used twice.
    CodeReused,
    /// A refresh token was used after its successor.
    RefreshTokenReused,
    /// The membership that it is for ended.
    MembershipEnded,
    /// It was created before the address of its account was proven.
    AddressUnproven,
    /// Its account was deleted.
    AccountDeleted,
}

impl GrantRevocationReason {
    /// Returns the reason's name in the audit log and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Organization => "organization",
            Self::Policy => "policy",
            Self::AppDeleted => "app_deleted",
            Self::AppDisabled => "app_disabled",
            Self::Client => "client",
            Self::CodeReused => "code_reused",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::MembershipEnded => "membership_ended",
            Self::AddressUnproven => "address_unproven",
            Self::AccountDeleted => "account_deleted",
        }
    }
}

/// A grant that was just revoked.
#[derive(Clone, Debug)]
pub struct RevokedGrant {
    /// Its id.
    pub id: GrantId,
    /// The public id of the client.
    pub client_id: String,
    /// The name of the client.
    pub client_name: String,
    /// The person who had granted it.
    pub account: AccountId,
    /// The organization that it was for.
    pub organization: Option<OrganizationId>,
}

/// The number of grants of an app that ended, with the audit log that records it.
#[derive(Clone, Debug)]
pub struct EndedGrants {
    /// The app.
    pub app: AppId,
    /// Its name.
    pub name: String,
    /// The organization that the grants were for; the home organization of a person who granted
    /// access only to their own account.
    pub organization: OrganizationId,
    /// How many there were.
    pub count: i64,
}

impl EndedGrants {
    /// Returns the detail of the audit event.
    #[must_use]
    pub fn detail(&self, reason: GrantRevocationReason) -> Value {
        json!({ "client": self.name, "grants": self.count, "reason": reason.as_str() })
    }
}

/// The number of live grants of a client.
#[derive(Clone, Copy, Debug)]
pub struct GrantCount {
    /// The internal id of the client.
    pub client: Uuid,
    /// How many there are.
    pub count: i64,
}
