//! Identities and callers: the result of looking up a valid credential.
//!
//! A credential belongs to an organization (its keys) or to an account (sessions, personal access
//! tokens). Depending on the credential, a request has a [`Caller`], which acts in one
//! organization, a [`Person`], which acts for its account, or both.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::error::{Error, ErrorKind, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::ids::{AccountId, KeyId, MembershipId, OrganizationId, SessionId};
use crate::model::origin::{TrustedOrigins, is_origin_allowed};
use crate::model::plan::Plan;
use crate::model::rate_limit::LimitSubject;
use crate::model::role::{Permission, Role};
use crate::model::scope::{BuiltInScope, ScopeSet};

/// The owner of a valid credential; cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The caller in an organization; `None` for a personal access token that is pinned to none,
    /// and for an account whose home organization is deleted.
    pub caller: Option<Arc<Caller>>,
    /// The account; `None` for an organization's key.
    pub person: Option<Arc<Person>>,
}

impl Identity {
    /// The credential of both.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        let of_caller = self.caller.as_ref().map(|caller| &caller.credential);
        of_caller.or_else(|| self.person.as_ref().map(|person| &person.credential))
    }

    /// Whose concurrent requests are counted together: those of an organization's keys, or of an
    /// account.
    #[must_use]
    pub fn share_owner(&self) -> Option<LimitSubject> {
        let of_person =
            self.person.as_ref().map(|person| LimitSubject::from_id(person.account.uuid()));
        of_person
            .or_else(|| self.caller.as_ref().map(|it| LimitSubject::from_id(it.organization.0)))
    }
}

/// A caller who acts in one organization.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The organization's internal id.
    pub organization: OrganizationId,
    /// The organization's public id.
    pub organization_handle: String,
    /// The organization's name.
    pub organization_name: String,
    /// The organization's plan.
    pub plan: Plan,
    /// Whether the organization is suspended: then nothing can be done in its name.
    pub is_suspended: bool,
    /// The membership that minted the key, or the account's own; internal id.
    pub membership: MembershipId,
    /// The membership's public id.
    pub membership_handle: String,
    /// The account's role; `None` for the organization's own keys, which need scopes alone.
    pub role: Option<Role>,
    /// The role of the membership that minted the key; `None` where that membership has ended.
    pub minter_role: Option<Role>,
    /// The credential's scopes.
    pub scopes: ScopeSet,
    /// The presented credential.
    pub credential: Credential,
}

/// An account that acts for itself.
#[derive(Clone, Debug)]
pub struct Person {
    /// The account.
    pub account: AccountId,
    /// The organization that was created with the account.
    pub home_organization: OrganizationId,
    /// The organization that a personal access token is pinned to: it works in no other, and
    /// nowhere once the membership that it was pinned with has ended.
    pub pinned_to: Option<OrganizationId>,
    /// The credential's scopes.
    pub scopes: ScopeSet,
    /// The presented credential.
    pub credential: Credential,
}

/// A presented credential that is valid.
#[derive(Clone, Debug)]
pub enum Credential {
    /// An organization's key, or an access token of the session that it was exchanged for.
    Key(KeyDetails, Option<SessionId>),
    /// A personal access token.
    PersonalToken(AccountId, KeyDetails),
    /// An account's session, by its cookie or an access token.
    Session(AccountId, SessionId),
}

/// The details of a key or personal access token that was presented.
#[derive(Clone, Debug)]
pub struct KeyDetails {
    /// Its id.
    pub id: KeyId,
    /// What its text starts with.
    pub prefix: String,
    /// The first 8 characters after the prefix, which may be displayed.
    pub display_id: String,
    /// The pepper that it is hashed with.
    pub pepper_id: String,
    /// The networks that it may be used from.
    pub allowed_ips: AllowedIps,
    /// The origins that may use it; all where empty.
    pub allowed_origins: Vec<String>,
    /// When it expires; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}

impl KeyDetails {
    /// Whether a browser's request from this origin may use the key: trusted origins, and those of
    /// the organization's list where it has one (contract §1, *CORS*). A request without an origin
    /// always may.
    #[must_use]
    pub fn allows_origin(&self, origin: Option<&str>, trusted: &TrustedOrigins) -> bool {
        is_origin_allowed(origin, &self.allowed_origins, trusted)
    }
}

impl Credential {
    /// The key or personal access token; `None` for a session.
    #[must_use]
    pub const fn key(&self) -> Option<&KeyDetails> {
        match self {
            Self::Key(key, _) | Self::PersonalToken(_, key) => Some(key),
            Self::Session(..) => None,
        }
    }

    /// The session: an account's own, or the one that a key was exchanged for.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Key(_, session) => *session,
            Self::PersonalToken(..) => None,
            Self::Session(_, session) => Some(*session),
        }
    }

    /// The principal of idempotent requests (contract §1, *Idempotency-Key*) and of the access log:
    /// the organization's key, or the account.
    #[must_use]
    pub fn principal(&self) -> String {
        match self {
            Self::Key(key, _) => key.id.to_string(),
            Self::PersonalToken(account, _) | Self::Session(account, _) => account.to_string(),
        }
    }
}

/// The result of looking up a credential that exists.
#[derive(Clone, Debug)]
pub enum CredentialStatus {
    /// It is valid.
    Valid(Identity),
    /// It has ended, or is disabled.
    Rejected(RejectedKey),
}

/// A known key that is rejected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RejectedKey {
    /// The organization in whose audit log the rejection is recorded.
    pub organization: OrganizationId,
    /// The key.
    pub key: KeyId,
    /// The first 8 characters of the key after its prefix, which may be displayed.
    pub key_display_id: String,
    /// Why it is rejected.
    pub reason: KeyRejectionReason,
}

/// Why a known key is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRejectionReason {
    /// It was revoked.
    Revoked,
    /// It has expired.
    Expired,
    /// It is disabled.
    Disabled,
    /// The session that it was exchanged for has ended.
    SessionEnded,
    /// Its organization was deleted.
    OrganizationDeleted,
    /// The client's address is not allowed.
    Address,
    /// The request's origin is not allowed.
    Origin,
}

impl KeyRejectionReason {
    const ALL: [Self; 7] = [
        Self::Revoked,
        Self::Expired,
        Self::Disabled,
        Self::SessionEnded,
        Self::OrganizationDeleted,
        Self::Address,
        Self::Origin,
    ];

    /// Parses a reason's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The reason's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
            Self::SessionEnded => "session_ended",
            Self::OrganizationDeleted => "organization_deleted",
            Self::Address => "address",
            Self::Origin => "origin",
        }
    }
}

impl Caller {
    /// Checks that the caller's organization is not suspended.
    ///
    /// # Errors
    /// [`ErrorKind::OrganizationSuspended`].
    pub fn require_active(&self) -> Result<()> {
        if self.is_suspended {
            return Err(organization_suspended());
        }
        Ok(())
    }

    /// Checks that the credential has `scope`, and the account the role that the scope requires.
    ///
    /// # Errors
    /// [`ErrorKind::MissingScopes`], naming the scope; [`ErrorKind::MissingRole`], naming the
    /// lowest sufficient role.
    pub fn authorize(&self, scope: BuiltInScope) -> Result<()> {
        require_scope(&self.scopes, scope)?;
        self.require_role(Role::required_for(scope))
    }

    /// Checks that the credential has `scope`, whatever the account's role.
    ///
    /// # Errors
    /// [`ErrorKind::MissingScopes`], naming the scope.
    pub fn require_scope(&self, scope: BuiltInScope) -> Result<()> {
        require_scope(&self.scopes, scope)
    }

    /// Checks that the account has at least this role. An organization's own key has no role and
    /// needs scopes alone.
    ///
    /// # Errors
    /// [`ErrorKind::MissingRole`], naming the role.
    pub fn require_role(&self, needed: Role) -> Result<()> {
        if self.role.is_none_or(|role| role >= needed) { Ok(()) } else { Err(missing_role(needed)) }
    }

    /// Checks that the caller may add, change and remove owners: an owner, or a key that an owner
    /// minted. Scopes alone are not sufficient for a key here: an admin could mint one and become
    /// an owner.
    ///
    /// # Errors
    /// [`ErrorKind::MissingRole`].
    pub fn require_owner(&self) -> Result<()> {
        let needed = Permission::CHANGE_OWNERS.minimum_role();
        match self.role.or(self.minter_role) {
            Some(role) if role >= needed => Ok(()),
            _ => Err(missing_role(needed)),
        }
    }

    /// The public id of the actor for the audit log: the organization's key, or the membership.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.credential {
            Credential::Key(key, _) => key.id.to_string(),
            _ => self.membership_handle.clone(),
        }
    }
}

impl Person {
    /// Checks that the credential has `scope`.
    ///
    /// # Errors
    /// [`ErrorKind::MissingScopes`], naming the scope.
    pub fn require_scope(&self, scope: BuiltInScope) -> Result<()> {
        require_scope(&self.scopes, scope)
    }
}

/// The error for a request in the name of a suspended organization.
#[must_use]
pub fn organization_suspended() -> Error {
    Error::new(ErrorKind::OrganizationSuspended, "This organization is suspended")
}

fn missing_role(needed: Role) -> Error {
    let message = format!("This needs the role {} in the organization", needed.as_str());
    Error::new(ErrorKind::MissingRole(needed.as_str().to_owned()), message)
}

fn require_scope(scopes: &ScopeSet, scope: BuiltInScope) -> Result<()> {
    if scopes.grants(scope) {
        return Ok(());
    }
    let message = format!("This credential lacks the scope {scope}");
    Err(Error::new(ErrorKind::MissingScopes(vec![scope.to_string()]), message))
}
