//! Keys: the one way to mint one, and the ways they are made and ended.
//!
//! Containment: a key makes and ends only keys whose scopes and expiry lie within its own.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::error::{Error, Kind, Result};
use crate::model::api_key::{ApiKey, NewApiKey};
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::caller::Caller;
use crate::model::ids::{KeyId, OrganizationId, UserId};
use crate::model::key_name::KeyName;
use crate::model::scope::ScopeSet;
use crate::model::secret::Secret;
use crate::repo::{audit_events, callers, keys};

/// A new key, and the only place its text ever is.
pub struct Minted {
    /// The text, to be shown once.
    pub secret: Secret,
    /// What may be shown again.
    pub key: ApiKey,
}

/// What a key is to be.
pub struct MintRequest<'a> {
    /// Whose.
    pub organization: OrganizationId,
    /// The seat it acts for.
    pub user: UserId,
    /// Its label.
    pub name: Option<&'a KeyName>,
    /// What it may do.
    pub scopes: &'a ScopeSet,
    /// When it ends; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it is minted.
    pub at: DateTime<Utc>,
}

/// Mints a key in the caller's transaction. Who asks for it has made sure that it may be.
///
/// # Errors
/// Conflict where a live key has the name.
pub async fn mint(app: &App, tx: &mut PgConnection, request: &MintRequest<'_>) -> Result<Minted> {
    let format = &app.config.keys.format;
    let secret = format.mint(&*app.entropy);
    let (digest, pepper_id) = app.peppers.digest(&secret);
    let display_id = format.display_id(secret.expose()).unwrap_or_default();
    let new = NewApiKey {
        id: KeyId::new(request.at, &*app.entropy),
        organization: request.organization,
        user: request.user,
        digest,
        pepper_id,
        prefix: format.prefix(),
        display_id,
        name: request.name,
        scopes: request.scopes,
        created_at: request.at,
        expires_at: request.expires_at,
    };
    keys::insert(tx, &new).await?;
    let key = ApiKey {
        id: new.id,
        prefix: new.prefix.to_owned(),
        display_id: new.display_id.to_owned(),
        name: new.name.map(|name| name.as_str().to_owned()),
        scopes: new.scopes.clone(),
        is_active: true,
        created_at: new.created_at,
        expires_at: new.expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    Ok(Minted { secret, key })
}

/// What a caller wants a key to be.
pub struct CreateRequest {
    /// Its label.
    pub name: Option<KeyName>,
    /// What it may do; `None` is what the caller's own key may.
    pub scopes: Option<ScopeSet>,
    /// When it ends; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes a key of the caller's organization.
///
/// # Errors
/// Unauthenticated where the caller's own key ended meanwhile, forbidden beyond its scopes or
/// expiry, conflict where a live key has the name.
pub async fn create(
    app: &App,
    caller: &Caller,
    request: &CreateRequest,
    trail: &Trail,
) -> Result<Minted> {
    app.db
        .transaction(async |tx| {
            let caller = confirm(tx, caller).await?;
            caller.require("api-keys:write")?;
            let scopes = request.scopes.as_ref().unwrap_or(&caller.scopes);
            require_within(&caller, scopes, request.expires_at)?;
            let wanted = MintRequest {
                organization: caller.organization,
                user: caller.user,
                name: request.name.as_ref(),
                scopes,
                expires_at: request.expires_at,
                at: trail.at,
            };
            let minted = mint(app, tx, &wanted).await?;
            let detail = json!({
                "display_id": minted.key.display_id,
                "name": minted.key.name,
                "scopes": minted.key.scopes.to_stored(),
                "expires_at": minted.key.expires_at,
            });
            record(tx, &caller, EventType::KeyCreated, minted.key.id, detail, trail).await?;
            Ok(minted)
        })
        .await
}

/// Ends a key of the caller's organization at once; one that is ended already stays as it was.
/// Any key may end itself.
///
/// # Errors
/// Not found, forbidden without `api-keys:write` or beyond the caller's scopes or expiry.
pub async fn revoke(app: &App, caller: &Caller, id: KeyId, trail: &Trail) -> Result<()> {
    app.db
        .transaction(async |tx| {
            if id != caller.key {
                caller.require("api-keys:write")?;
            }
            let key = keys::lock(tx, caller.organization, id).await?;
            let key = key.ok_or_else(|| Error::not_found("There is no such key"))?;
            if id != caller.key {
                require_within(caller, &key.scopes, key.expires_at)?;
            }
            if keys::revoke(tx, caller.organization, id, trail.at).await? {
                let detail = json!({ "display_id": key.display_id, "name": key.name });
                record(tx, caller, EventType::KeyRevoked, id, detail, trail).await?;
            }
            Ok(())
        })
        .await
}

/// The caller as the database knows it now, its key held until the transaction ends.
///
/// # Errors
/// Unauthenticated where the key or the session has ended.
pub async fn confirm(tx: &mut PgConnection, caller: &Caller) -> Result<Caller> {
    let confirmed = callers::confirm(tx, caller).await?;
    confirmed.ok_or_else(|| Error::unauthenticated("This credential is not valid"))
}

/// Passes scopes and an expiry that lie within the caller's own.
fn require_within(
    caller: &Caller,
    scopes: &ScopeSet,
    expires_at: Option<DateTime<Utc>>,
) -> Result<()> {
    let missing = caller.scopes.missing_from(scopes);
    if !missing.is_empty() {
        let message = format!("This credential lacks the scopes {}", missing.join(", "));
        return Err(Error::new(Kind::MissingScopes(missing), message));
    }
    match (caller.key_expires_at, expires_at) {
        (Some(_), None) => Err(Error::forbidden(
            "This credential expires, so the key needs an expires_at that is no later",
        )),
        (Some(own), Some(wanted)) if wanted > own => {
            Err(Error::forbidden("This credential expires before the key would"))
        }
        _ => Ok(()),
    }
}

async fn record(
    tx: &mut PgConnection,
    caller: &Caller,
    event_type: EventType,
    target: KeyId,
    detail: serde_json::Value,
    trail: &Trail,
) -> Result<()> {
    let event = AuditEvent {
        organization: caller.organization,
        event_type,
        actor: &caller.key.to_string(),
        target: &target.to_string(),
        key_display_id: Some(&caller.key_display_id),
        detail,
        trail,
    };
    audit_events::insert(tx, &event).await
}
