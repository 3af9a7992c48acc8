//! Updates and rotations of live keys.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::containment::{KeyPermissions, require_unmetered};
use crate::domain::keys::{
    CreatedKey, KeySpec, credits, insert_key, is_own, lock_live_key, record_caller_event,
};
use crate::error::{Error, Issue, Result};
use crate::model::ValidationError;
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::ApiKey;
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::audit_detail::diff;
use crate::model::caller::Caller;
use crate::model::credits::CreditChange;
use crate::model::ids::KeyId;
use crate::model::metadata::MetadataChanges;
use crate::model::named_limits::NamedLimits;
use crate::model::names::{ExternalId, KeyName};
use crate::model::scope::{BuiltInScope, ScopeSet};
use crate::model::timestamp;
use crate::repo::{key_lifecycle, keys};

/// The allowed grace periods of a rotated key, in seconds: at most a week.
pub const GRACE_SECONDS: RangeInclusive<i32> = 0..=604_800;

/// The settings to update; `None` leaves a setting unchanged.
#[derive(Default)]
pub struct KeyChanges {
    /// Its name.
    pub name: Option<KeyName>,
    /// Its scopes.
    pub scopes: Option<ScopeSet>,
    /// When it expires; `Some(None)` means never.
    pub expires_at: Option<Option<DateTime<Utc>>>,
    /// Changes of its metadata.
    pub metadata: Option<MetadataChanges>,
    /// The addresses that it may be used from.
    pub allowed_ips: Option<AllowedIps>,
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// Its id in another system; `Some(None)` removes it.
    pub external_id: Option<Option<ExternalId>>,
    /// The rate limits that checks of it count against.
    pub limits: Option<NamedLimits>,
    /// A change of its credits.
    pub credits: Option<CreditChange>,
}

/// Updates a live key of the caller's organization. Its permissions before and after must lie
/// within the caller's own scopes, expiry and addresses.
///
/// Invariant: only an owner extends a key that acts with an owner's rights. If a caller who is not
/// an owner updates a key of an owner's membership, the key is reassigned to the caller. Otherwise
/// someone who has the key's text, but could not use it while it had fewer scopes, was disabled or
/// was restricted to other addresses, would gain an owner's rights.
///
/// # Errors
/// Unauthenticated if the caller's own key has ended meanwhile; forbidden; not found; conflict if
/// the key is not live, another live key has the name, or units are added to a key without credits;
/// invalid if the metadata grows too large.
pub async fn update(
    tx: &mut PgConnection,
    caller: &Caller,
    id: KeyId,
    changes: &KeyChanges,
    audit: &AuditContext,
) -> Result<ApiKey> {
    let (caller, before) = lock_live_key(tx, caller, id, audit).await?;
    caller.authorize(BuiltInScope::ApiKeysWrite)?;
    let mut after = changes.apply_to(&before)?;
    KeyPermissions::of(&after).require_within(&caller)?;
    let is_own = is_own(&caller, id);
    if is_own && changes.external_id.is_some() {
        return Err(Error::forbidden("A key may not change its own external id"));
    }
    if !is_own || changes.limits.is_some() || changes.credits.is_some() {
        require_unmetered(tx, &caller).await?;
    }
    keys::update(tx, caller.organization, &after, changes.name.as_ref()).await?;
    if let Some(limits) = &changes.limits {
        // Also for the keys that it replaced, which work until their grace periods end.
        let chain = key_lifecycle::list_with_predecessors(tx, caller.organization, id).await?;
        keys::set_limits(tx, caller.organization, &chain, limits).await?;
    }
    if let Some(change) = changes.credits {
        let balance = (caller.organization, before.metered_key.uuid());
        after.credits = credits::apply(tx, balance, change).await?;
    }
    let mut detail = diff(audited_fields(&before), audited_fields(&after));
    if caller.require_owner().is_err()
        && keys::reassign_from_owner(tx, caller.organization, id, caller.membership).await?
    {
        detail["taken_from_owner_by"] = json!(caller.membership_handle);
    }
    record_caller_event(tx, &caller, AuditEventType::KeyUpdated, id, detail, audit).await?;
    Ok(after)
}

/// Rotates a live key: creates a key with its name and settings. The old key keeps working for
/// `grace_seconds`, but never longer than it would have. The new key belongs to the caller's
/// membership, because only the caller receives its text. Any key may rotate itself.
///
/// # Errors
/// Unauthenticated if the caller's own key has ended meanwhile; forbidden; not found; conflict if
/// the key is not live.
pub async fn rotate(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    id: KeyId,
    grace_seconds: i32,
    audit: &AuditContext,
) -> Result<CreatedKey> {
    let (caller, old) = lock_live_key(tx, caller, id, audit).await?;
    if !is_own(&caller, id) {
        caller.authorize(BuiltInScope::ApiKeysWrite)?;
        require_unmetered(tx, &caller).await?;
    }
    let (organization, membership) = (caller.organization, caller.membership);
    key_lifecycle::supersede(tx, organization, id, grace_seconds, audit.at).await?;
    let name = old.name.as_deref().map(KeyName::parse).transpose();
    let external_id = old.external_id.as_deref().map(ExternalId::parse).transpose();
    let spec = KeySpec {
        name: name.map_err(|ValidationError(message)| Error::internal(message))?,
        scopes: old.scopes,
        expires_at: old.expires_at,
        allowed_ips: old.allowed_ips,
        metadata: old.metadata,
        enabled: old.enabled,
        external_id: external_id.map_err(|ValidationError(message)| Error::internal(message))?,
        limits: old.limits,
        // The new key shares the old key's credits.
        credits: None,
        metered_key: Some(old.metered_key),
        rotated_from: Some(id),
    };
    let mut created_key = insert_key(app, tx, (organization, membership), spec, audit.at).await?;
    created_key.key.credits = old.credits;
    let detail = json!({
        "rotated_to": created_key.key.id.to_string(),
        "display_id": created_key.key.display_id,
        "grace_seconds": grace_seconds,
    });
    record_caller_event(tx, &caller, AuditEventType::KeyRotated, id, detail, audit).await?;
    Ok(created_key)
}

impl KeyChanges {
    /// Returns whether no setting is to be updated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.scopes.is_none()
            && self.expires_at.is_none()
            && self.metadata.is_none()
            && self.allowed_ips.is_none()
            && self.enabled.is_none()
            && self.external_id.is_none()
            && self.limits.is_none()
            && self.credits.is_none()
    }

    fn apply_to(&self, key: &ApiKey) -> Result<ApiKey> {
        let mut changed = key.clone();
        if let Some(name) = &self.name {
            changed.name = Some(name.as_str().to_owned());
        }
        if let Some(scopes) = &self.scopes {
            changed.scopes = scopes.clone();
        }
        if let Some(expires_at) = self.expires_at {
            changed.expires_at = expires_at;
        }
        if let Some(allowed_ips) = &self.allowed_ips {
            changed.allowed_ips = allowed_ips.clone();
        }
        if let Some(changes) = &self.metadata {
            let merged = key.metadata.merged(changes);
            let invalid =
                |ValidationError(message)| Error::invalid(vec![Issue::field("metadata", message)]);
            changed.metadata = merged.map_err(invalid)?;
        }
        if let Some(external_id) = &self.external_id {
            changed.external_id = external_id.as_ref().map(|it| it.as_str().to_owned());
        }
        if let Some(limits) = &self.limits {
            changed.limits = limits.clone();
        }
        changed.enabled = self.enabled.unwrap_or(key.enabled);
        Ok(changed)
    }
}

/// Returns a key's settings, as the audit log shows them.
fn audited_fields(key: &ApiKey) -> serde_json::Value {
    json!({
        "name": key.name,
        "scopes": key.scopes.to_stored(),
        "expires_at": key.expires_at.map(timestamp::format),
        "allowed_ips": key.allowed_ips.to_strings(),
        "metadata": key.metadata.to_stored(),
        "enabled": key.enabled,
        "external_id": key.external_id,
        "limits": key.limits.to_stored(),
        "credits": key.credits.map(credits::audited),
    })
}
