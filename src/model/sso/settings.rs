//! The attributes of connections that their organizations choose.

use chrono::{DateTime, Utc};

use crate::model::ValidationError;
use crate::model::ids::{ConnectionId, MembershipId, OrganizationId};
use crate::model::role::Role;
use crate::model::secret::{SealedSecret, Secret};
use crate::model::sso::client::ProviderClientId;
use crate::model::sso::connection::{JitSettings, ProviderMetadata, RoleMapping};
use crate::model::sso::issuer::Issuer;

/// The maximum number of connections of an organization.
pub const MAX_CONNECTIONS: usize = 10;
/// The maximum number of role mappings of a connection.
pub const MAX_ROLE_MAPPINGS: usize = 50;
/// After how many hours a session ends, by default and at most.
pub const MAX_SESSION_HOURS: i32 = 24;
/// The maximum length of the name of a claim.
pub const MAX_CLAIM_CHARS: usize = 128;
/// The maximum length of the value of a claim.
pub const MAX_CLAIM_VALUE_CHARS: usize = 256;

/// A connection to create.
pub struct ConnectionSpec {
    /// The issuer of the provider.
    pub issuer: Issuer,
    /// The id of the client.
    pub client_id: ProviderClientId,
    /// The secret of the client.
    pub client_secret: Secret,
    /// Who becomes a member.
    pub jit: JitSettings,
    /// The roles by claims.
    pub role_mapping: Vec<RoleMapping>,
    /// After how many hours a session ends.
    pub session_hours: i32,
}

/// A change of who becomes a member. A field that is `None` keeps its value.
#[derive(Default)]
pub struct JitChanges {
    /// Whether a person without a membership gets one.
    pub is_enabled: Option<bool>,
    /// The role of a new membership: never owner.
    pub default_role: Option<Role>,
}

/// Changes of a connection. A field that is `None` keeps its value.
pub struct ConnectionChanges {
    /// The issuer of the provider.
    pub issuer: Option<Issuer>,
    /// The id of the client.
    pub client_id: Option<ProviderClientId>,
    /// The secret of the client.
    pub client_secret: Option<Secret>,
    /// Who becomes a member.
    pub jit: JitChanges,
    /// Whether each sign-in sets the role again.
    pub syncs_role: Option<bool>,
    /// The roles by claims.
    pub role_mapping: Option<Vec<RoleMapping>>,
    /// After how many hours a session ends.
    pub session_hours: Option<i32>,
}

/// A connection to insert, inactive.
pub struct NewConnection<'a> {
    /// Its id.
    pub id: ConnectionId,
    /// The organization.
    pub organization: OrganizationId,
    /// What the organization chose.
    pub spec: &'a ConnectionSpec,
    /// The secret of the client.
    pub client_secret: &'a SealedSecret,
    /// The provider's metadata.
    pub metadata: &'a ProviderMetadata,
    /// The membership that creates it.
    pub created_by: MembershipId,
    /// When it is created.
    pub created_at: DateTime<Utc>,
}

/// Parses the name of a claim.
///
/// # Errors
/// The text is not 1 to [`MAX_CLAIM_CHARS`] characters without control characters.
pub fn parse_claim(text: &str) -> Result<String, ValidationError> {
    parse_text(text, MAX_CLAIM_CHARS)
}

/// Parses the value of a claim.
///
/// # Errors
/// The text is not 1 to [`MAX_CLAIM_VALUE_CHARS`] characters without control characters.
pub fn parse_claim_value(text: &str) -> Result<String, ValidationError> {
    parse_text(text, MAX_CLAIM_VALUE_CHARS)
}

fn parse_text(text: &str, max: usize) -> Result<String, ValidationError> {
    if (1..=max).contains(&text.chars().count()) && !text.contains(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("must be 1 to {max} characters without control characters").into())
}

/// Returns whether the mappings give the role owner where those before do not.
#[must_use]
pub fn adds_owner(before: &[RoleMapping], after: &[RoleMapping]) -> bool {
    after.iter().any(|mapping| mapping.role == Role::Owner && !before.contains(mapping))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mapping_to_owner_that_was_not_there_before_is_an_addition() {
        let mapping = |value: &str, role| RoleMapping {
            claim: "groups".to_owned(),
            value: value.to_owned(),
            role,
        };
        let (owner, admin) = (mapping("a", Role::Owner), mapping("a", Role::Admin));
        let other = mapping("b", Role::Owner);
        assert!(adds_owner(&[], std::slice::from_ref(&owner)));
        assert!(adds_owner(std::slice::from_ref(&admin), std::slice::from_ref(&owner)));
        assert!(adds_owner(std::slice::from_ref(&owner), &[owner.clone(), other]));
        assert!(!adds_owner(std::slice::from_ref(&owner), &[admin.clone(), owner.clone()]));
        assert!(!adds_owner(&[owner], &[admin]));
    }
}
