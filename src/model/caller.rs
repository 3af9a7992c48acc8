//! Identities and callers: the result of looking up a valid credential.
//!
//! A credential belongs to an organization (its keys) or to an account (sessions, personal access
//! tokens). Depending on the credential, a request has a [`Caller`], which acts in one
//! organization, a [`Person`], which acts for its account, or both.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::model::account_reach::AccountReach;
use crate::model::allowed_ips::AllowedIps;
use crate::model::ids::{
    AccountId, AppId, GrantId, KeyId, MembershipId, OrganizationId, SessionId,
};
use crate::model::oauth::OpenidScope;
use crate::model::origin::{TrustedOrigins, is_origin_allowed};
use crate::model::plan::Plan;
use crate::model::rate_limit::LimitSubject;
use crate::model::role::{Permission, Role};
use crate::model::scope::{BuiltInScope, ScopeSet};

/// The identity that a valid credential proves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The caller in an organization; `None` for a personal access token that is not pinned, an
    /// OAuth token about the account alone, and a credential whose membership has ended.
    pub caller: Option<Arc<Caller>>,
    /// The account; `None` for an organization's key.
    pub person: Option<Arc<Person>>,
}

impl Identity {
    /// Returns the presented credential.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        let from_caller = self.caller.as_ref().map(|caller| &caller.credential);
        from_caller.or_else(|| self.person.as_ref().map(|person| &person.credential))
    }

    /// Returns the owner of the share of database connections that a request uses: the account, or
    /// else the organization of the key.
    #[must_use]
    pub fn share_owner(&self) -> Option<LimitSubject> {
        let from_person =
            self.person.as_ref().map(|person| LimitSubject::from_id(person.account.uuid()));
        from_person
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
    /// Whether the organization is suspended. If so, callers cannot act in its name.
    pub is_suspended: bool,
    /// The internal id of the membership that created the key, or of the account's membership.
    pub membership: MembershipId,
    /// The membership's public id.
    pub membership_handle: String,
    /// The account's role; `None` for the organization's own keys, which need only scopes.
    pub role: Option<Role>,
    /// The role of the membership that created the key; `None` if that membership has ended, and
    /// for an account's credentials.
    pub creator_role: Option<Role>,
    /// The credential's scopes.
    pub scopes: ScopeSet,
    /// The presented credential.
    pub credential: Credential,
}

/// An account, on whose own resources a request acts.
#[derive(Clone, Debug)]
pub struct Person {
    /// The account.
    pub account: AccountId,
    /// The account's home organization, which was created with it.
    pub home_organization: OrganizationId,
    /// The only organization in which a pinned personal access token, an OAuth token or a session
    /// of single sign-on works; [`OrganizationId::SYSTEM`], in which none works, if there is no
    /// membership.
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
    /// An OAuth access token, with which a client acts for the account.
    OauthToken(AccountId, Box<OauthTokenDetails>),
}

/// The details of an OAuth access token that was presented.
#[derive(Clone, Debug)]
pub struct OauthTokenDetails {
    /// The token's internal id.
    pub token: Uuid,
    /// The grant that it was issued for.
    pub grant: GrantId,
    /// The client's internal id.
    pub client: AppId,
    /// The client's public id.
    pub client_id: String,
    /// The organization of the client.
    pub client_organization: OrganizationId,
    /// Its scopes of `OpenID` Connect.
    pub openid_scopes: Vec<OpenidScope>,
    /// The session that it ends with; `None` for access while the person is away.
    pub session: Option<Uuid>,
    /// The resources that it is for (RFC 8707).
    pub resources: Vec<String>,
    /// When it expires, by itself or with its session.
    pub expires_at: DateTime<Utc>,
}

/// The details of a key or personal access token that was presented.
#[derive(Clone, Debug)]
pub struct KeyDetails {
    /// Its id.
    pub id: KeyId,
    /// The prefix of its text.
    pub prefix: String,
    /// The first 8 characters after the prefix, which may be displayed.
    pub display_id: String,
    /// The id of the pepper of its digest.
    pub pepper_id: String,
    /// The networks that it may be used from.
    pub allowed_ips: AllowedIps,
    /// The browser origins that may use it; every origin if empty.
    pub allowed_origins: Vec<String>,
    /// When it expires; `None` if it never does.
    pub expires_at: Option<DateTime<Utc>>,
}

impl KeyDetails {
    /// Returns whether a request from this browser origin may use the key. Trusted origins and
    /// those that the organization lists may; every origin may if it lists none. A request without
    /// an origin always may.
    #[must_use]
    pub fn allows_origin(&self, origin: Option<&str>, trusted: &TrustedOrigins) -> bool {
        is_origin_allowed(origin, &self.allowed_origins, trusted)
    }
}

impl Credential {
    /// Returns the key or personal access token; `None` for a session or an OAuth token.
    #[must_use]
    pub const fn key(&self) -> Option<&KeyDetails> {
        match self {
            Self::Key(key, _) | Self::PersonalToken(_, key) => Some(key),
            Self::Session(..) | Self::OauthToken(..) => None,
        }
    }

    /// Returns the session: an account's own, or the one that a key was exchanged for.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Key(_, session) => *session,
            Self::PersonalToken(..) | Self::OauthToken(..) => None,
            Self::Session(_, session) => Some(*session),
        }
    }

    /// Returns the principal of idempotent requests and of the access log: the id of the
    /// organization's key, of the account, or of the grant to a client.
    #[must_use]
    pub fn principal(&self) -> String {
        match self {
            Self::Key(key, _) => key.id.to_string(),
            Self::PersonalToken(account, _) | Self::Session(account, _) => account.to_string(),
            Self::OauthToken(_, token) => token.grant.to_string(),
        }
    }
}

/// The result of looking up a credential that exists.
#[derive(Clone, Debug)]
pub enum CredentialStatus {
    /// It is valid.
    Valid(Identity),
    /// It was rejected.
    Rejected(RejectedKey),
}

/// A rejected key that is known.
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

    /// Parses a reason's name in the audit log.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// Returns the reason's name in the audit log.
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

    /// Checks that the credential has `scope`, and that the account has the role that the scope
    /// requires.
    ///
    /// # Errors
    /// [`ErrorKind::MissingScopes`] with the scope; [`ErrorKind::MissingRole`] with the lowest
    /// sufficient role.
    pub fn authorize(&self, scope: BuiltInScope) -> Result<()> {
        require_scope(&self.scopes, scope)?;
        self.require_role(Role::required_for(scope))
    }

    /// Checks that the credential has `scope`. The account's role does not matter.
    ///
    /// # Errors
    /// [`ErrorKind::MissingScopes`] with the scope.
    pub fn require_scope(&self, scope: BuiltInScope) -> Result<()> {
        require_scope(&self.scopes, scope)
    }

    /// Checks that the account has at least this role. An organization's own key has no role and
    /// passes.
    ///
    /// # Errors
    /// [`ErrorKind::MissingRole`] with the role.
    pub fn require_role(&self, needed: Role) -> Result<()> {
        if self.role.is_none_or(|role| role >= needed) { Ok(()) } else { Err(missing_role(needed)) }
    }

    /// Checks that the caller may add, change and remove owners: that it is an owner, or a key that
    /// an owner created. Scopes alone are not sufficient for a key here: an admin could create one
    /// and make itself an owner.
    ///
    /// # Errors
    /// [`ErrorKind::MissingRole`].
    pub fn require_owner(&self) -> Result<()> {
        let needed = Permission::CHANGE_OWNERS.minimum_role();
        match self.role.or(self.creator_role) {
            Some(role) if role >= needed => Ok(()),
            _ => Err(missing_role(needed)),
        }
    }

    /// Returns the public id of the actor for the audit log: the organization's key, or the
    /// membership.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.credential {
            Credential::Key(key, _) => key.id.to_string(),
            _ => self.membership_handle.clone(),
        }
    }
}

impl Person {
    /// Checks that the credential is not a session that single sign-on began.
    ///
    /// # Errors
    /// [`ErrorKind::SsoSessionScoped`].
    pub fn require_not_sso(&self) -> Result<()> {
        if self.is_in_sso_session() { Err(sso_session_scoped()) } else { Ok(()) }
    }

    /// Returns whether the credential is a session that single sign-on began.
    #[must_use]
    pub const fn is_in_sso_session(&self) -> bool {
        matches!((&self.credential, self.pinned_to), (Credential::Session(..), Some(_)))
    }

    /// Returns which part of what the account owns the credential reaches.
    #[must_use]
    pub const fn reach(&self) -> AccountReach {
        AccountReach { account: self.account, only: self.pinned_to }
    }

    /// Checks that the credential has `scope`.
    ///
    /// # Errors
    /// [`ErrorKind::MissingScopes`] with the scope.
    pub fn require_scope(&self, scope: BuiltInScope) -> Result<()> {
        require_scope(&self.scopes, scope)
    }
}

/// Returns the error for a request in the name of a suspended organization.
#[must_use]
pub fn organization_suspended() -> Error {
    Error::new(ErrorKind::OrganizationSuspended, "This organization is suspended")
}

/// Returns the error for a request that a session of single sign-on does not reach.
#[must_use]
pub fn sso_session_scoped() -> Error {
    let message = "A session of single sign-on acts in its organization only; sign in with a \
                   password to do this";
    Error::new(ErrorKind::SsoSessionScoped, message)
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
