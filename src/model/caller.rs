//! Who is calling: what one lookup says of a good credential.
//!
//! A credential is an organization's (its keys) or a person's (sessions, personal tokens). The
//! same request can be judged as a [`Caller`], who acts in one organization, and as a [`Person`],
//! who acts for themselves; which of the two there is depends on the credential.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::error::{Error, ErrorKind, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::ids::{AccountId, KeyId, MembershipId, OrganizationId, SessionId};
use crate::model::origin::{Origin, TrustedOrigins};
use crate::model::plan::Plan;
use crate::model::rate_limit::LimitSubject;
use crate::model::role::{Permission, Role};
use crate::model::scope::ScopeSet;

/// What a good credential makes of a request; cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who acts in an organization; `None` for a personal token that is pinned to none, and for a
    /// person whose organization is gone.
    pub caller: Option<Arc<Caller>>,
    /// Who acts for themselves; `None` for an organization's key.
    pub person: Option<Arc<Person>>,
}

impl Identity {
    /// The credential of both.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        let of_caller = self.caller.as_ref().map(|caller| &caller.credential);
        of_caller.or_else(|| self.person.as_ref().map(|person| &person.credential))
    }

    /// Whose requests are counted together while they are under way: those of an organization's
    /// keys, or of a person.
    #[must_use]
    pub fn share_owner(&self) -> Option<LimitSubject> {
        let of_person =
            self.person.as_ref().map(|person| LimitSubject::from_id(person.account.uuid()));
        of_person
            .or_else(|| self.caller.as_ref().map(|it| LimitSubject::from_id(it.organization.0)))
    }
}

/// Somebody who acts in one organization.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The organization, inside.
    pub organization: OrganizationId,
    /// The organization, as callers see it.
    pub organization_handle: String,
    /// The organization's name.
    pub organization_name: String,
    /// What it pays for.
    pub plan: Plan,
    /// Whether the operator has suspended it: nothing is done in its name then.
    pub is_suspended: bool,
    /// The seat that minted the key, or the person's own, inside.
    pub membership: MembershipId,
    /// The seat, as callers see it.
    pub membership_handle: String,
    /// The person's role; `None` for the organization's own keys, which need scopes alone.
    pub role: Option<Role>,
    /// What the seat is that the key was minted from; `None` where that was given up.
    pub minter_role: Option<Role>,
    /// What the credential may do.
    pub scopes: ScopeSet,
    /// How they proved it.
    pub credential: Credential,
}

/// Somebody who acts for themselves.
#[derive(Clone, Debug)]
pub struct Person {
    /// Whose account it is.
    pub account: AccountId,
    /// The organization that the account was made with.
    pub home_organization: OrganizationId,
    /// The organization that a personal token is pinned to: it works in no other, and in none once
    /// the seat is given up that it was pinned with.
    pub pinned_to: Option<OrganizationId>,
    /// What the credential may do.
    pub scopes: ScopeSet,
    /// How they proved it.
    pub credential: Credential,
}

/// What a request was proved with.
#[derive(Clone, Debug)]
pub enum Credential {
    /// An organization's key, or an access token that it was exchanged for in a session.
    Key(KeyDetails, Option<SessionId>),
    /// A personal access token.
    PersonalToken(AccountId, KeyDetails),
    /// A person's session, by its cookie or an access token.
    Session(AccountId, SessionId),
}

/// What is known of a key or personal token that was used.
#[derive(Clone, Debug)]
pub struct KeyDetails {
    /// Its id.
    pub id: KeyId,
    /// What its text starts with.
    pub prefix: String,
    /// The 8 characters that may be shown of it.
    pub display_id: String,
    /// The pepper that it is digested under.
    pub pepper_id: String,
    /// Where it may be used from.
    pub allowed_ips: AllowedIps,
    /// Which pages' scripts may use it: all, where empty.
    pub allowed_origins: Vec<String>,
    /// When it ends; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}

impl KeyDetails {
    /// Whether the scripts of a page may use the key: ours, and those of its organization's list
    /// where there is one (contract §1, *CORS*). What comes from no page may always.
    #[must_use]
    pub fn allows_origin(&self, origin: Option<&str>, trusted: &TrustedOrigins) -> bool {
        let Some(origin) = origin.filter(|_| !self.allowed_origins.is_empty()) else {
            return true;
        };
        let is_listed =
            |origin: Origin| self.allowed_origins.iter().any(|it| it == origin.as_str());
        trusted.contains(origin) || Origin::parse(origin).is_ok_and(is_listed)
    }
}

impl Credential {
    /// The key or personal token, where it is not a person's session.
    #[must_use]
    pub const fn key(&self) -> Option<&KeyDetails> {
        match self {
            Self::Key(key, _) | Self::PersonalToken(_, key) => Some(key),
            Self::Session(..) => None,
        }
    }

    /// The session, a person's own or the one that a key was exchanged for.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Key(_, session) => *session,
            Self::PersonalToken(..) => None,
            Self::Session(_, session) => Some(*session),
        }
    }

    /// Whose requests count as one's own when they come again (contract §1, *Idempotency-Key*): the
    /// organization's key, or the account. Also whom the log names.
    #[must_use]
    pub fn principal(&self) -> String {
        match self {
            Self::Key(key, _) => key.id.to_string(),
            Self::PersonalToken(account, _) | Self::Session(account, _) => account.to_string(),
        }
    }
}

/// Whose a credential is, good or not.
#[derive(Clone, Debug)]
pub enum CredentialStatus {
    /// It is good.
    Valid(Identity),
    /// It was good once, or is not just now.
    Rejected(RejectedKey),
}

/// A key that is known and not good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RejectedKey {
    /// Whose trail tells of it.
    pub organization: OrganizationId,
    /// The key.
    pub key: KeyId,
    /// The 8 characters that may be shown of the key.
    pub key_display_id: String,
    /// Why it is not good.
    pub reason: KeyRejectionReason,
}

/// Why a known key is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRejectionReason {
    /// It was revoked.
    Revoked,
    /// It is over.
    Expired,
    /// It is disabled.
    Disabled,
    /// The session that it was exchanged for has ended.
    SessionEnded,
    /// Its organization was deleted.
    OrganizationDeleted,
    /// It may not be used from there.
    Address,
    /// It may not be used by a script of that page.
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

    /// Reads a reason's word.
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
    /// Passes a caller whose organization the operator has not suspended.
    ///
    /// # Errors
    /// [`ErrorKind::OrganizationSuspended`].
    pub fn require_active(&self) -> Result<()> {
        if self.is_suspended {
            return Err(organization_suspended());
        }
        Ok(())
    }

    /// Passes a caller whose credential holds `scope`, and whose role goes with it.
    ///
    /// # Errors
    /// [`ErrorKind::MissingScopes`], naming the scope; [`ErrorKind::MissingRole`], naming the least
    /// role.
    pub fn authorize(&self, scope: &'static str) -> Result<()> {
        require_scope(&self.scopes, scope)?;
        self.require_role(Role::required_for(scope))
    }

    /// Passes a caller whose credential holds `scope`, whatever their role.
    ///
    /// # Errors
    /// [`ErrorKind::MissingScopes`], naming the scope.
    pub fn require_scope(&self, scope: &'static str) -> Result<()> {
        require_scope(&self.scopes, scope)
    }

    /// Passes a caller who has at least this role, or who is no person: an organization's own key
    /// needs scopes alone.
    ///
    /// # Errors
    /// [`ErrorKind::MissingRole`], naming the role.
    pub fn require_role(&self, needed: Role) -> Result<()> {
        if self.role.is_none_or(|role| role >= needed) { Ok(()) } else { Err(missing_role(needed)) }
    }

    /// Passes whoever may make, change and remove owners: an owner, or a key that an owner minted.
    /// Here scopes alone are not enough for a key: an admin could mint one and become an owner.
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

    /// The public id of whoever did something, for the trail: the organization's key, or the
    /// person's seat.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.credential {
            Credential::Key(key, _) => key.id.to_string(),
            _ => self.membership_handle.clone(),
        }
    }
}

impl Person {
    /// Passes a person whose credential holds `scope`.
    ///
    /// # Errors
    /// [`ErrorKind::MissingScopes`], naming the scope.
    pub fn require_scope(&self, scope: &'static str) -> Result<()> {
        require_scope(&self.scopes, scope)
    }
}

/// The rejection of what is done in the name of a suspended organization.
#[must_use]
pub fn organization_suspended() -> Error {
    Error::new(ErrorKind::OrganizationSuspended, "This organization is suspended")
}

fn missing_role(needed: Role) -> Error {
    let message = format!("This needs the role {} in the organization", needed.as_str());
    Error::new(ErrorKind::MissingRole(needed.as_str().to_owned()), message)
}

fn require_scope(scopes: &ScopeSet, scope: &'static str) -> Result<()> {
    if scopes.grants(scope) {
        return Ok(());
    }
    let message = format!("This credential lacks the scope {scope}");
    Err(Error::new(ErrorKind::MissingScopes(vec![scope.to_owned()]), message))
}
