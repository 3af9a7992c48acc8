//! The check of a customer's credential by the operator's own API: what the check requires of the
//! credential, and its verdict.

use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::model::ValidationError;
use crate::model::allowed_ips::AllowedIps;
use crate::model::credits::CreditBalance;
use crate::model::ids::{AccountId, KeyId, OrganizationId};
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::model::scope::{Scope, ScopeCatalogue, ScopeSet};
use crate::model::usage::UsedCredential;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VerificationCode {
    /// The credential is valid and fulfills every requirement.
    Valid,
    /// The request has no credential.
    KeyMissing,
    /// The request has two credentials that differ.
    CredentialsConflict,
    /// The text cannot be a credential: its form or its checksum is wrong.
    KeyMalformed,
    /// No credential that this verifier may check has this text.
    KeyUnknown,
    /// It was revoked, or its organization was deleted.
    KeyRevoked,
    /// It has expired.
    KeyExpired,
    /// It was replaced by rotation, and its grace period has ended.
    KeyRotated,
    /// It is disabled.
    KeyDisabled,
    /// The account that it acts for is disabled or deleted, or is no longer a member of the
    /// organization that the credential acts in.
    OwnerDisabled,
    /// Its organization is suspended.
    OrganizationSuspended,
    /// It may not be used from the client's address.
    AddressNotAllowed,
    /// It may be used from some addresses only, and the verifier did not report the client's.
    AddressUnknown,
    /// It may not be used by scripts of the client's origin.
    OriginNotAllowed,
    /// It lacks a required scope.
    ScopeMissing,
    /// A rate limit is exceeded.
    RateLimited,
    /// The monthly quota of its organization is used up.
    QuotaExceeded,
    /// Its credits, or those of its organization, are used up.
    CreditsExhausted,
}

/// What a verdict means for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictClass {
    /// It may pass.
    Valid,
    /// It has no valid credential. It must not learn why.
    Unauthenticated,
    /// Its request is ambiguous.
    Malformed,
    /// Its credential is valid and does not permit this.
    Forbidden,
    /// It must wait.
    Exhausted,
}

impl VerificationCode {
    /// Returns the code in responses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::KeyMissing => "key_missing",
            Self::CredentialsConflict => "credentials_conflict",
            Self::KeyMalformed => "key_malformed",
            Self::KeyUnknown => "key_unknown",
            Self::KeyRevoked => "key_revoked",
            Self::KeyExpired => "key_expired",
            Self::KeyRotated => "key_rotated",
            Self::KeyDisabled => "key_disabled",
            Self::OwnerDisabled => "owner_disabled",
            Self::OrganizationSuspended => "organization_suspended",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::AddressUnknown => "address_unknown",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::ScopeMissing => "scope_missing",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::CreditsExhausted => "credits_exhausted",
        }
    }

    /// Returns what it means for the client.
    #[must_use]
    pub const fn class(self) -> VerdictClass {
        match self {
            Self::Valid => VerdictClass::Valid,
            Self::KeyMissing
            | Self::KeyMalformed
            | Self::KeyUnknown
            | Self::KeyRevoked
            | Self::KeyExpired
            | Self::KeyRotated
            | Self::KeyDisabled
            | Self::OwnerDisabled => VerdictClass::Unauthenticated,
            Self::CredentialsConflict => VerdictClass::Malformed,
            Self::OrganizationSuspended
            | Self::AddressNotAllowed
            | Self::AddressUnknown
            | Self::OriginNotAllowed
            | Self::ScopeMissing => VerdictClass::Forbidden,
            Self::RateLimited | Self::QuotaExceeded | Self::CreditsExhausted => {
                VerdictClass::Exhausted
            }
        }
    }
}

/// The scopes that a check requires: all scopes of at least one of several lists. Without a list,
/// none is required.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredScopes(Vec<Vec<Scope>>);

impl RequiredScopes {
    /// The maximum number of lists, and of scopes in each.
    pub const MAX: usize = 16;

    /// Parses lists of scopes.
    ///
    /// # Errors
    /// An empty list, too many lists or scopes, or a text that is not a scope.
    pub fn parse(lists: &[Vec<String>]) -> Result<Self, ValidationError> {
        let max = Self::MAX;
        if lists.len() > max || lists.iter().any(|list| list.len() > max) {
            return Err(format!("must be at most {max} lists of at most {max} scopes").into());
        }
        // Every credential would fulfill an empty list.
        if lists.is_empty() || lists.iter().any(Vec::is_empty) {
            return Err("must not be or contain an empty list".into());
        }
        let parse = |list: &Vec<String>| list.iter().map(|word| Scope::parse(word)).collect();
        lists.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Requires all of these scopes.
    #[must_use]
    pub fn all_of(scopes: Vec<Scope>) -> Self {
        Self(vec![scopes])
    }

    /// Returns the scopes that a credential lacks, of the list of which it lacks the fewest: those
    /// that its own scopes do not cover, and those that its account's `role` does not permit. Empty
    /// if it has all scopes of a list.
    #[must_use]
    pub fn missing_from(&self, own: &ScopeSet, role: Option<Role>) -> Vec<String> {
        let is_permitted = |scope: &Scope| role.is_none_or(|role| role.permits(scope));
        let missing = self.0.iter().map(|list| {
            let lacking = |scope: &&Scope| !own.covers(scope.as_str()) || !is_permitted(scope);
            list.iter().filter(lacking).map(ToString::to_string).collect::<Vec<_>>()
        });
        missing.min_by_key(Vec::len).unwrap_or_default()
    }
}

/// The kind of a credential that can be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// An organization's key.
    ApiKey,
    /// An account's personal access token.
    PersonalToken,
    /// An OAuth access token.
    OauthToken,
}

impl CredentialKind {
    /// Returns the kind for usage.
    #[must_use]
    pub const fn as_used(self) -> UsedCredential {
        match self {
            Self::ApiKey => UsedCredential::Key,
            Self::PersonalToken => UsedCredential::PersonalToken,
            Self::OauthToken => UsedCredential::Grant,
        }
    }

    /// Returns the kind in responses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::PersonalToken => "personal_token",
            Self::OauthToken => "oauth_token",
        }
    }
}

/// A known credential, whether or not it is valid.
#[derive(Clone, Debug)]
pub struct KnownCredential {
    /// What it is.
    pub kind: CredentialKind,
    /// Its id; of an OAuth token, that of its grant.
    pub id: KeyId,
    /// Its label; of an OAuth token, the name of its client.
    pub name: Option<String>,
    /// What its text starts with.
    pub prefix: String,
    /// The first 8 characters after the prefix, which may be displayed; `None` for an OAuth token,
    /// whose text nobody reads.
    pub display_id: Option<String>,
    /// The pepper that it is hashed with; `None` for an OAuth token, which expires too soon to be
    /// rehashed.
    pub pepper_id: Option<String>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The networks that it may be used from.
    pub allowed_ips: AllowedIps,
    /// The metadata stored with it.
    pub metadata: Metadata,
    /// Its id in another system, which its organization can set.
    pub external_id: Option<String>,
    /// Its rate limits.
    pub limits: NamedLimits,
    /// Its credits; `None` if its checks need none.
    pub credits: Option<CreditBalance>,
    /// The key whose limits and credits it shares: itself, or the first key of its rotations.
    pub metered_key: KeyId,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it expires; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
    /// The organization that it acts in; `None` if its membership there has ended.
    pub organization: Option<CredentialOrganization>,
    /// The account that it acts for; `None` for an organization's key.
    pub account: Option<CredentialAccount>,
    /// The account's role in the organization; `None` for an organization's key.
    pub role: Option<Role>,
    /// What only an OAuth token has; `None` for other kinds.
    pub oauth: Option<OauthFacts>,
    /// Why it is not valid; `None` if it is.
    pub defect: Option<VerificationCode>,
    /// Its description in verdicts; empty until the first one.
    pub description: OnceLock<CredentialDescription>,
}

/// The JSON about a credential that each verdict on it repeats.
#[derive(Clone, Debug)]
pub struct CredentialDescription {
    /// The organization that it acts in.
    pub organization: Box<RawValue>,
    /// The key or token itself.
    pub key: Box<RawValue>,
    /// The account that it acts for.
    pub account: Box<RawValue>,
}

impl KnownCredential {
    /// Returns the scopes that it may use, for a reader that does not know its account's role: a
    /// scope that the role does not permit is replaced by those of the deployment's scopes that it
    /// covers and the role permits.
    #[must_use]
    pub fn usable_scopes(&self, catalogue: &ScopeCatalogue) -> Vec<String> {
        let Some(role) = self.role else { return self.scopes.to_stored() };
        self.scopes.within_role(catalogue, |scope| role.permits(scope))
    }

    /// Returns whether it is a valid OAuth token about an account alone, which acts in no
    /// organization.
    #[must_use]
    pub const fn is_personal(&self) -> bool {
        self.oauth.is_some() && self.organization.is_none() && self.defect.is_none()
    }

    /// Returns whether checks of it take credits, its own or those of its organization.
    #[must_use]
    pub fn has_credits(&self) -> bool {
        let of_organization = self.organization.as_ref().and_then(|it| it.credits);
        self.credits.or(of_organization).is_some()
    }
}

/// What only an OAuth access token has.
#[derive(Clone, Debug)]
pub struct OauthFacts {
    /// The id of the token itself.
    pub token: Uuid,
    /// The internal id of its client.
    pub client: Uuid,
    /// The public id of its client.
    pub client_id: String,
    /// The organization of its client.
    pub client_organization: OrganizationId,
    /// The session that it ends with; `None` for `offline_access`.
    pub session: Option<Uuid>,
    /// The services that it is for (RFC 8707).
    pub resources: Vec<String>,
}

/// The organization of a credential.
#[derive(Clone, Debug)]
pub struct CredentialOrganization {
    /// Its internal id.
    pub id: OrganizationId,
    /// Its public id.
    pub handle: String,
    /// Its name.
    pub name: String,
    /// Its plan.
    pub plan: Plan,
    /// Whether it is suspended.
    pub is_suspended: bool,
    /// The origins whose scripts may use its keys; all if empty.
    pub allowed_origins: Vec<String>,
    /// The operator's own id for it.
    pub external_id: Option<String>,
    /// The metadata that the operator stores with it.
    pub metadata: Metadata,
    /// Its rate limits, which its credentials share.
    pub limits: NamedLimits,
    /// Its credits, which its credentials share; `None` if their checks need none.
    pub credits: Option<CreditBalance>,
}

/// The account of a credential.
#[derive(Clone, Debug)]
pub struct CredentialAccount {
    /// Its id.
    pub id: AccountId,
    /// Its address.
    pub email: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(lists: &[&[&str]]) -> Result<RequiredScopes, ValidationError> {
        let owned = |list: &&[&str]| list.iter().map(|&word| word.to_owned()).collect();
        RequiredScopes::parse(&lists.iter().map(owned).collect::<Vec<Vec<String>>>())
    }

    fn own(words: &[&str]) -> ScopeSet {
        ScopeSet::from_stored(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn all_scopes_of_any_list_are_sufficient_and_the_shortest_lack_is_reported() {
        let required =
            required(&[&["docs:read"], &["docs:write", "admin:all"]]).expect("valid lists");
        assert!(required.missing_from(&own(&["docs:read"]), None).is_empty());
        assert!(required.missing_from(&own(&["docs:*"]), None).is_empty());
        assert!(required.missing_from(&own(&["docs:write", "admin:all"]), None).is_empty());
        assert_eq!(required.missing_from(&own(&["docs:write"]), None), ["docs:read"]);
        assert_eq!(RequiredScopes::default().missing_from(&own(&[]), None), [""; 0]);
    }

    #[test]
    fn an_empty_list_is_rejected_because_every_credential_would_fulfil_it() {
        assert!(required(&[&["docs:read"], &[]]).is_err());
        assert!(required(&[&["docs"]]).is_err());
        assert!(required(&[&["docs:read"; 17]]).is_err());
        assert!(required(&[&["docs:read"] as &[&str]; 17]).is_err());
        assert!(required(&[]).is_err());
    }

    #[test]
    fn a_built_in_scope_also_requires_its_role_and_the_operator_s_scopes_require_none() {
        let all = own(&["*"]);
        let missing = |scope: &str, role| {
            required(&[&[scope]]).expect("a list").missing_from(&all, Some(role))
        };
        assert_eq!(missing("members:write", Role::Member), ["members:write"]);
        assert_eq!(missing("members:write", Role::Admin), [""; 0]);
        assert_eq!(missing("members:*", Role::Member), ["members:*"]);
        assert_eq!(missing("*", Role::Admin), ["*"]);
        assert_eq!(missing("projects:write", Role::Member), [""; 0]);
        assert_eq!(missing("docs:write", Role::Member), [""; 0]);
    }
}
