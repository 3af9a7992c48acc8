//! Who is calling: what one lookup says of a good credential.

use chrono::{DateTime, Utc};

use crate::error::{Error, Kind, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::ids::{KeyId, OrganizationId, SessionId, UserId};
use crate::model::plan::Plan;
use crate::model::scope::ScopeSet;

/// The holder of a key, or of a token that a key was exchanged for.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The organization, inside.
    pub organization: OrganizationId,
    /// The organization, as callers see it.
    pub organization_handle: String,
    /// What it pays for.
    pub plan: Plan,
    /// The seat that minted the key, inside.
    pub user: UserId,
    /// The seat, as callers see it.
    pub user_handle: String,
    /// The key.
    pub key: KeyId,
    /// What the key's text starts with.
    pub key_prefix: String,
    /// The 8 characters that may be shown of the key.
    pub key_display_id: String,
    /// The pepper that the key is digested under.
    pub key_pepper_id: String,
    /// Where the key may be used from.
    pub key_allowed_ips: AllowedIps,
    /// What the key may do.
    pub scopes: ScopeSet,
    /// When the key ends; `None` is never.
    pub key_expires_at: Option<DateTime<Utc>>,
    /// The session, where a token was sent and not the key itself.
    pub session: Option<SessionId>,
}

/// Whose a credential is, good or not.
#[derive(Clone, Debug)]
pub enum Holder {
    /// It is good.
    Good(Box<Caller>),
    /// It was good once, or is not just now.
    Refused(RefusedKey),
}

/// A key that is known and not good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RefusedKey {
    /// Whose trail tells of it.
    pub organization: OrganizationId,
    /// The key.
    pub key: KeyId,
    /// The 8 characters that may be shown of the key.
    pub key_display_id: String,
    /// Why it is not good.
    pub reason: Refusal,
}

/// Why a known key is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It was revoked.
    Revoked,
    /// It is over.
    Expired,
    /// It is disabled.
    Disabled,
    /// The session that it was exchanged for has ended.
    SessionEnded,
    /// It may not be used from there.
    Address,
}

impl Refusal {
    const ALL: [Self; 5] =
        [Self::Revoked, Self::Expired, Self::Disabled, Self::SessionEnded, Self::Address];

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
            Self::Address => "address",
        }
    }
}

impl Caller {
    /// Passes a caller that holds `scope`.
    ///
    /// # Errors
    /// [`Kind::MissingScopes`], naming the scope.
    pub fn require(&self, scope: &'static str) -> Result<()> {
        if self.scopes.hold(scope) {
            return Ok(());
        }
        let message = format!("This credential lacks the scope {scope}");
        Err(Error::new(Kind::MissingScopes(vec![scope.to_owned()]), message))
    }
}
