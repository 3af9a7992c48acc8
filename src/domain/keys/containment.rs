//! Containment: a key creates, updates and revokes only keys whose scopes and expiry lie within its
//! own, and creates and updates only keys whose allowed addresses lie within its own.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::domain::keys::{KeySpec, is_own};
use crate::error::{Error, ErrorKind, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::ApiKey;
use crate::model::caller::Caller;
use crate::model::ids::KeyId;
use crate::model::scope::{BuiltInScope, ScopeSet};
use crate::repo::keys;

/// The scopes, expiry and allowed addresses of a key, to be compared with the caller's own.
pub struct KeyPermissions {
    scopes: ScopeSet,
    expires_at: Option<DateTime<Utc>>,
    allowed_ips: AllowedIps,
}

impl KeySpec {
    /// Returns the permissions of the key to create.
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
    /// Returns the permissions of an existing key.
    #[must_use]
    pub fn of(key: &ApiKey) -> Self {
        let (scopes, allowed_ips) = (key.scopes.clone(), key.allowed_ips.clone());
        Self { scopes, expires_at: key.expires_at, allowed_ips }
    }

    /// Checks that these permissions lie within the caller's own.
    ///
    /// # Errors
    /// Missing scopes, or forbidden for the expiry or the addresses.
    pub fn require_within(&self, caller: &Caller) -> Result<()> {
        require_scopes_and_expiry_within(caller, &self.scopes, self.expires_at)?;
        require_networks_within(caller, &self.allowed_ips)
    }
}

/// Checks that the caller may still update a key, which may have ended: called before a stored
/// response is replayed.
///
/// # Errors
/// Missing scopes, or forbidden for the expiry or the addresses.
pub async fn require_updatable(tx: &mut PgConnection, caller: &Caller, id: KeyId) -> Result<()> {
    let Some(key) = keys::find(tx, caller.organization, id).await? else { return Ok(()) };
    KeyPermissions::of(&key).require_within(caller)
}

/// Checks that the caller may still revoke a key, which may have ended: called before a stored
/// response is replayed.
///
/// # Errors
/// Missing scopes or role, or forbidden.
pub async fn require_revocable(tx: &mut PgConnection, caller: &Caller, id: KeyId) -> Result<()> {
    if is_own(caller, id) {
        return Ok(());
    }
    caller.authorize(BuiltInScope::ApiKeysWrite)?;
    let Some(key) = keys::find(tx, caller.organization, id).await? else { return Ok(()) };
    require_scopes_and_expiry_within(caller, &key.scopes, key.expires_at)
}

/// Checks that scopes and an expiry lie within the caller's own.
///
/// # Errors
/// Missing scopes, or forbidden if the key would outlive the caller's.
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
            "This credential expires, so the key must expire, too, no later than the credential",
        )),
        (Some(own), Some(requested)) if requested > own => {
            Err(Error::forbidden("The key must expire no later than this credential"))
        }
        _ => Ok(()),
    }
}

/// Checks that the caller's own key, if it has one, has no limits or credits. Otherwise the caller
/// could get, enable or extend a key without them.
///
/// # Errors
/// Forbidden.
pub async fn require_unmetered(tx: &mut PgConnection, caller: &Caller) -> Result<()> {
    let Some(own) = caller.credential.key() else { return Ok(()) };
    let own = keys::find(tx, caller.organization, own.id).await?;
    if own.is_some_and(|own| own.is_metered()) {
        return Err(Error::forbidden(
            "This key has limits or credits of its own, so it may not invite members, create, \
             rotate or update other keys, or change limits and credits",
        ));
    }
    Ok(())
}

/// Checks that allowed addresses lie within those of the caller's own key.
fn require_networks_within(caller: &Caller, requested: &AllowedIps) -> Result<()> {
    match caller.credential.key() {
        Some(own) if !own.allowed_ips.allows_all_of(requested) => Err(Error::forbidden(
            "This credential is restricted to certain addresses, so the key's allowed addresses \
             must lie within them",
        )),
        _ => Ok(()),
    }
}
