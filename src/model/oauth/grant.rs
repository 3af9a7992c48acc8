//! Grants of access to clients, and the organizations that they can be for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::ids::{AccountId, GrantId, MembershipId, OrganizationId, SessionId};
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::resource::Resource;
use crate::model::oauth::{ClientVisibility, OFFLINE_ACCESS, OpenidScope};
use crate::model::role::Role;
use crate::model::scope::Scope;
use crate::model::secret::Digest;

/// What a live grant allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantedAccess {
    /// Its scopes, `offline_access` included.
    pub scopes: Vec<String>,
    /// The services that its tokens may be for.
    pub resources: Vec<String>,
}

impl GrantedAccess {
    /// Returns whether it allows these scopes and resources.
    #[must_use]
    pub fn contains(&self, scopes: &[String], resources: &[Resource]) -> bool {
        let has_resource = |it: &Resource| self.resources.iter().any(|own| own == it.as_str());
        scopes.iter().all(|scope| self.scopes.contains(scope)) && resources.iter().all(has_resource)
    }

    /// Adds scopes and resources; returns whether any is new.
    pub fn add(&mut self, scopes: &[String], resources: &[Resource]) -> bool {
        let before = (self.scopes.len(), self.resources.len());
        for scope in scopes {
            if !self.scopes.contains(scope) {
                self.scopes.push(scope.clone());
            }
        }
        for resource in resources {
            if !self.resources.iter().any(|own| own == resource.as_str()) {
                self.resources.push(resource.as_str().to_owned());
            }
        }
        before != (self.scopes.len(), self.resources.len())
    }
}

/// An organization that an account could grant a client access to.
#[derive(Clone, Debug)]
pub struct GrantCandidate {
    /// The organization.
    pub organization: OrganizationId,
    /// Its public id.
    pub handle: String,
    /// Its name.
    pub name: String,
    /// Whether it is suspended.
    pub is_suspended: bool,
    /// The account's role in it.
    pub role: Role,
    /// What the account has granted to the client there.
    pub granted: Option<GrantedAccess>,
}

/// Why an account cannot grant a client access to an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantObstacle {
    /// The organization is suspended.
    Suspended,
    /// The client is private to another organization.
    PrivateClient,
    /// The organization's policy excludes the client.
    Policy,
}

impl GrantObstacle {
    /// Returns the obstacle, if there is one.
    #[must_use]
    pub fn find(
        client: &OauthClient,
        organization: OrganizationId,
        (is_suspended, is_permitted): (bool, bool),
    ) -> Option<Self> {
        let is_private = client.visibility == ClientVisibility::Private;
        if is_private && client.organization != organization {
            Some(Self::PrivateClient)
        } else if is_suspended {
            Some(Self::Suspended)
        } else {
            (!is_permitted).then_some(Self::Policy)
        }
    }

    /// Returns the reason, for the person.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Suspended => "This organization is suspended",
            Self::PrivateClient => "This app is private to another organization",
            Self::Policy => "This organization does not permit this app",
        }
    }
}

/// Returns those of the scopes that a role permits; without a role, all valid ones.
/// `offline_access` and the scopes of `OpenID` Connect need no role.
#[must_use]
pub fn permitted_scopes(scopes: &[String], role: Option<Role>) -> Vec<String> {
    let is_permitted = |text: &String| {
        let scope = Scope::parse(text).ok();
        let by_role = |scope: &Scope| role.is_none_or(|role| role.permits(scope));
        let needs_role = text != OFFLINE_ACCESS && OpenidScope::parse(text).is_none();
        !needs_role || scope.as_ref().is_some_and(by_role)
    };
    scopes.iter().filter(|it| is_permitted(it)).cloned().collect()
}

/// A grant to insert.
pub struct NewGrant<'a> {
    /// Its id.
    pub id: GrantId,
    /// The account that grants.
    pub account: AccountId,
    /// The client.
    pub client: Uuid,
    /// The organization and the account's membership in it; `None` for its own account.
    pub membership: Option<(OrganizationId, MembershipId)>,
    /// What it allows.
    pub access: &'a GrantedAccess,
    /// When it was granted.
    pub created_at: DateTime<Utc>,
}

/// An authorization code to insert.
pub struct NewAuthorizationCode<'a> {
    /// Its digest.
    pub digest: Digest,
    /// The account that granted.
    pub account: AccountId,
    /// The grant.
    pub grant: GrantId,
    /// The session in which access was granted.
    pub session: SessionId,
    /// The redirect URI of the request; `None` for a device's, which has none.
    pub redirect_uri: Option<&'a str>,
    /// The S256 challenge of the request; `None` for a device's.
    pub challenge: Option<&'a str>,
    /// The nonce of the request.
    pub nonce: Option<&'a str>,
    /// The scopes that the tokens have, without `offline_access`.
    pub scopes: &'a [String],
    /// The services that the tokens are for.
    pub resources: &'a [Resource],
    /// Whether tokens outlive the session.
    pub is_offline: bool,
    /// For how long it can be redeemed.
    pub lifetime: Duration,
}
