//! Containment: a key makes, changes and ends only keys whose scopes and expiry lie within its own,
//! and makes and changes only keys that may be used from within where it may be.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::domain::keys::{KeySpec, is_own};
use crate::error::{Error, ErrorKind, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::ApiKey;
use crate::model::caller::Caller;
use crate::model::ids::KeyId;
use crate::model::scope::ScopeSet;
use crate::repo::keys;

/// What a key may do, until when, and from where: what lies within the caller's own.
pub struct KeyPermissions {
    scopes: ScopeSet,
    expires_at: Option<DateTime<Utc>>,
    allowed_ips: AllowedIps,
}

impl KeySpec {
    /// What the key may do, until when, and from where.
    #[must_use]
    pub fn permissions(&self) -> KeyPermissions {
        KeyPermissions {
            scopes: self.scopes.clone(),
            expires_at: self.expires_at,
            allowed_ips: self.allowed_ips.clone(),
        }
    }
}

impl KeyPermissions {
    /// That of a key that there is.
    #[must_use]
    pub fn of(key: &ApiKey) -> Self {
        let (scopes, allowed_ips) = (key.scopes.clone(), key.allowed_ips.clone());
        Self { scopes, expires_at: key.expires_at, allowed_ips }
    }

    /// Passes what lies within the caller's own.
    ///
    /// # Errors
    /// Missing scopes, or forbidden.
    pub fn require_within(&self, caller: &Caller) -> Result<()> {
        require_scopes_and_expiry_within(caller, &self.scopes, self.expires_at)?;
        require_networks_within(caller, &self.allowed_ips)
    }
}

/// Passes a caller who may still change a key, which may have ended: for answers that are given
/// again.
///
/// # Errors
/// Missing scopes, or forbidden.
pub async fn require_updatable(tx: &mut PgConnection, caller: &Caller, id: KeyId) -> Result<()> {
    let Some(key) = keys::find(tx, caller.organization, id).await? else { return Ok(()) };
    KeyPermissions::of(&key).require_within(caller)
}

/// The same, who may still end it.
///
/// # Errors
/// Missing scopes or role, or forbidden.
pub async fn require_revocable(tx: &mut PgConnection, caller: &Caller, id: KeyId) -> Result<()> {
    if is_own(caller, id) {
        return Ok(());
    }
    caller.authorize("api-keys:write")?;
    let Some(key) = keys::find(tx, caller.organization, id).await? else { return Ok(()) };
    require_scopes_and_expiry_within(caller, &key.scopes, key.expires_at)
}

/// Passes scopes and an expiry that lie within the caller's own.
///
/// # Errors
/// Missing scopes, or forbidden where the key would outlive the caller's.
pub fn require_scopes_and_expiry_within(
    caller: &Caller,
    scopes: &ScopeSet,
    expires_at: Option<DateTime<Utc>>,
) -> Result<()> {
    let missing = caller.scopes.uncovered(scopes);
    if !missing.is_empty() {
        let message = format!("This credential lacks the scopes {}", missing.join(", "));
        return Err(Error::new(ErrorKind::MissingScopes(missing), message));
    }
    let own = caller.credential.key().and_then(|key| key.expires_at);
    match (own, expires_at) {
        (Some(_), None) => Err(Error::forbidden(
            "This credential expires, so the key needs an expiry that is no later",
        )),
        (Some(own), Some(wanted)) if wanted > own => {
            Err(Error::forbidden("This credential expires before the key would"))
        }
        _ => Ok(()),
    }
}

/// Passes networks that lie within those that the caller's own key may be used from.
fn require_networks_within(caller: &Caller, wanted: &AllowedIps) -> Result<()> {
    match caller.credential.key() {
        Some(own) if !own.allowed_ips.contains(wanted) => Err(Error::forbidden(
            "This credential may be used only from certain addresses, so the key needs allowed \
             addresses that lie within them",
        )),
        _ => Ok(()),
    }
}
