//! Who is calling: what one lookup says of a good credential.

use chrono::{DateTime, Utc};

use crate::error::{Error, Kind, Result};
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
    /// The 8 characters that may be shown of the key.
    pub key_display_id: String,
    /// What the key may do.
    pub scopes: ScopeSet,
    /// When the key ends; `None` is never.
    pub key_expires_at: Option<DateTime<Utc>>,
    /// The session, where a token was sent and not the key itself.
    pub session: Option<SessionId>,
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
