//! Keys: the one way to mint one, and what an organization does with them.
//!
//! Containment: a key makes, changes and ends only keys whose scopes and expiry lie within its
//! own, and makes and changes only keys that are used from within where it is; it may always end
//! itself. All functions work in the caller's transaction.

pub mod changes;
pub mod claims;
pub mod containment;
pub mod default_key;
pub mod import;
pub mod invites;
pub mod sessions;

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::containment::{KeyPermissions, require_scopes_and_expiry_within};
use crate::domain::organizations::plan_limits::{LimitedResource, check_plan_limit};
use crate::error::{Error, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::{ApiKey, NewApiKey};
use crate::model::audit::{AuditContext, EventType, NewAuditEvent};
use crate::model::caller::{Caller, Credential};
use crate::model::ids::{KeyId, MembershipId, OrganizationId, SessionId};
use crate::model::key_name::KeyName;
use crate::model::member::KeyInvitedMembership;
use crate::model::metadata::Metadata;
use crate::model::scope::ScopeSet;
use crate::model::secret::Secret;
use crate::model::timestamp;
use crate::repo::{account_callers, audit_events, callers, key_lifecycle, keys, organizations};

/// A new key, and the only place its text ever is.
pub struct CreatedKey {
    /// The text, to be shown once.
    pub secret: Secret,
    /// What may be shown again.
    pub key: ApiKey,
}

/// What a key is to be.
pub struct KeySpec {
    /// Its label.
    pub name: Option<KeyName>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When it ends; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Where it may be used from.
    pub allowed_ips: AllowedIps,
    /// What its organization notes down about it.
    pub metadata: Metadata,
    /// Whether it may be used.
    pub enabled: bool,
    /// The key that it takes over from.
    pub rotated_from: Option<KeyId>,
}

impl KeySpec {
    /// A key with a name, scopes and an expiry, and nothing special about it.
    #[must_use]
    pub fn plain(
        name: Option<KeyName>,
        scopes: ScopeSet,
        expires_at: Option<DateTime<Utc>>,
    ) -> Self {
        Self {
            name,
            scopes,
            expires_at,
            allowed_ips: AllowedIps::default(),
            metadata: Metadata::default(),
            enabled: true,
            rotated_from: None,
        }
    }
}

/// Mints a key. Who asks for it has made sure that it may be.
///
/// # Errors
/// Conflict where a live key has the name.
pub async fn mint(
    app: &App,
    tx: &mut PgConnection,
    (organization, user): (OrganizationId, MembershipId),
    spec: KeySpec,
    at: DateTime<Utc>,
) -> Result<CreatedKey> {
    let format = &app.config.keys.format;
    let secret = format.mint(&*app.entropy);
    let (digest, pepper_id) = app.peppers.digest(secret.expose());
    let display_id = format.display_id(secret.expose()).unwrap_or_default();
    let new = NewApiKey {
        id: KeyId::new(at, &*app.entropy),
        organization,
        membership: user,
        digest,
        pepper_id,
        prefix: format.prefix(),
        display_id,
        name: spec.name.as_ref(),
        scopes: &spec.scopes,
        created_at: at,
        expires_at: spec.expires_at,
        allowed_ips: &spec.allowed_ips,
        metadata: &spec.metadata,
        enabled: spec.enabled,
        rotated_from: spec.rotated_from,
    };
    keys::insert(tx, &new).await?;
    let id = new.id;
    let key = keys::find(tx, organization, id).await?;
    let key = key.ok_or_else(|| Error::internal("a key just stored is not there"))?;
    Ok(CreatedKey { secret, key })
}

/// Makes a key of the caller's organization. Without scopes it may what the caller's own may.
///
/// # Errors
/// Unauthenticated where the caller's own key ended meanwhile, forbidden beyond its scopes, expiry
/// or networks, plan limit, conflict where a live key has the name.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    spec: impl FnOnce(&Caller) -> KeySpec,
    audit: &AuditContext,
) -> Result<CreatedKey> {
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize("api-keys:write")?;
    let spec = spec(&caller);
    spec.permissions().require_within(&caller)?;
    check_plan_limit(app, tx, (caller.organization, caller.plan), LimitedResource::Keys).await?;
    let minted = mint(app, tx, (caller.organization, caller.membership), spec, audit.at).await?;
    let detail = json!({
        "display_id": minted.key.display_id,
        "name": minted.key.name,
        "scopes": minted.key.scopes.to_stored(),
        "expires_at": minted.key.expires_at.map(timestamp::format),
        "never_expires": minted.key.expires_at.is_none(),
    });
    record_caller_event(tx, &caller, EventType::KeyCreated, minted.key.id, detail, audit).await?;
    Ok(minted)
}

/// Ends a key of the caller's organization at once, with the open invitations that it or a key
/// that it took over from made; one that is ended already stays as it was. Any key may end itself.
/// The memberships that began by their other invitations.
///
/// # Errors
/// Not found, forbidden without `api-keys:write` or beyond the caller's scopes or expiry.
pub async fn revoke(
    tx: &mut PgConnection,
    caller: &Caller,
    id: KeyId,
    reason: Option<&str>,
    audit: &AuditContext,
) -> Result<Vec<KeyInvitedMembership>> {
    let key = if is_own(caller, id) {
        keys::lock(tx, caller.organization, &[id]).await?;
        find(tx, caller, id).await?
    } else {
        let caller = confirm_caller_and_lock_key(tx, caller, id, audit).await?;
        caller.authorize("api-keys:write")?;
        let key = find(tx, &caller, id).await?;
        require_scopes_and_expiry_within(&caller, &key.scopes, key.expires_at)?;
        key
    };
    let (organization, by) = (caller.organization, caller.actor());
    let chain = key_lifecycle::list_predecessors(tx, organization, id).await?;
    if !key_lifecycle::revoke(tx, organization, id, reason, &by, audit.at).await? {
        return invites::find_memberships(tx, organization, Some(&chain)).await;
    }
    let ended = invites::revoke(tx, organization, Some(&chain), audit).await?;
    let mut detail = json!({ "display_id": key.display_id, "name": key.name, "reason": reason });
    ended.add_to(&mut detail);
    record_caller_event(tx, caller, EventType::KeyRevoked, id, detail, audit).await?;
    Ok(ended.memberships)
}

/// Whether the key is the one that the caller shows.
#[must_use]
pub fn is_own(caller: &Caller, id: KeyId) -> bool {
    matches!(&caller.credential, Credential::Key(key, _) if key.id == id)
}

/// A key of the caller's organization.
///
/// # Errors
/// Not found.
pub async fn find(tx: &mut PgConnection, caller: &Caller, id: KeyId) -> Result<ApiKey> {
    let key = keys::find(tx, caller.organization, id).await?;
    key.ok_or_else(|| Error::not_found("There is no such key"))
}

/// The caller as the database knows it now, what it shows held until the transaction ends, and
/// still allowed from where it calls.
///
/// Invariant: whatever mints, widens or ends a credential asks here or in [`lock_live_key`] first,
/// so that a credential ended or narrowed a moment ago does nothing more. Sessions and personal
/// tokens are held before seats, and those before keys.
///
/// # Errors
/// Unauthenticated where the credential has ended, forbidden from where it may not be used, or
/// where its person has no seat any more; suspended where the organization is.
pub async fn confirm_caller(
    tx: &mut PgConnection,
    caller: &Caller,
    audit: &AuditContext,
) -> Result<Arc<Caller>> {
    let organization = caller.organization;
    let identity = match &caller.credential {
        Credential::Key(key, session) => {
            if let Some(session) = session {
                callers::lock_session(tx, organization, *session).await?;
            }
            return confirm_key_caller(tx, organization, key.id, *session, audit).await;
        }
        Credential::PersonalToken(account, token) => {
            account_callers::lock_and_confirm_token(tx, (*account, organization), token.id).await?
        }
        Credential::Session(account, session) => {
            account_callers::lock_and_confirm_session(tx, Some((*account, organization)), *session)
                .await?
        }
    };
    let no_seat = || Error::forbidden("You have no seat in this organization any more");
    let person = identity.person.ok_or_else(no_seat)?;
    let caller =
        account_callers::find_caller_in(tx, &person, organization).await?.ok_or_else(no_seat)?;
    caller.require_active()?;
    Ok(caller)
}

async fn confirm_key_caller(
    tx: &mut PgConnection,
    organization: OrganizationId,
    key: KeyId,
    session: Option<SessionId>,
    audit: &AuditContext,
) -> Result<Arc<Caller>> {
    let caller = callers::lock_and_confirm(tx, organization, key, session).await?;
    let facts = caller.credential.key();
    let is_admitted = facts.is_some_and(|key| key.allowed_ips.allows(audit.address));
    if !is_admitted {
        return Err(address_not_allowed(audit.address));
    }
    caller.require_active()?;
    Ok(caller)
}

/// The same, with another key of the organization held too.
async fn confirm_caller_and_lock_key(
    tx: &mut PgConnection,
    caller: &Caller,
    id: KeyId,
    audit: &AuditContext,
) -> Result<Arc<Caller>> {
    let organization = caller.organization;
    let Credential::Key(own, session) = &caller.credential else {
        let caller = confirm_caller(tx, caller, audit).await?;
        keys::lock(tx, organization, &[id]).await?;
        return Ok(caller);
    };
    if let Some(session) = session {
        callers::lock_session(tx, organization, *session).await?;
    }
    keys::lock(tx, organization, &[own.id, id]).await?;
    confirm_key_caller(tx, organization, own.id, *session, audit).await
}

/// What a key is told that is used from where it may not be.
#[must_use]
pub fn address_not_allowed(address: Option<IpAddr>) -> Error {
    Error::forbidden(match address {
        Some(_) => "This key may not be used from this address",
        None => {
            "The client address of this request is not known, and this key may be used only from \
             certain addresses"
        }
    })
}

/// What a key is told that a page's script uses which may not.
#[must_use]
pub fn origin_not_allowed() -> Error {
    Error::forbidden("This key may not be used from that page")
}

/// The caller as the database knows it now, and a live key of its organization within its
/// containment; both are held until the transaction ends. Whether the caller has the scope for
/// what it is about to do is not asked here.
///
/// # Errors
/// Unauthenticated, forbidden, not found, or conflict where the key is not live.
pub async fn lock_live_key(
    tx: &mut PgConnection,
    caller: &Caller,
    id: KeyId,
    audit: &AuditContext,
) -> Result<(Arc<Caller>, ApiKey)> {
    let caller = confirm_caller_and_lock_key(tx, caller, id, audit).await?;
    let key = find(tx, &caller, id).await?;
    KeyPermissions::of(&key).require_within(&caller)?;
    if key.is_live() {
        return Ok((caller, key));
    }
    Err(Error::conflict("This key is revoked, expired or already rotated"))
}

/// Writes down what the caller did to a key, or to another thing of the organization.
pub async fn record_caller_event(
    tx: &mut PgConnection,
    caller: &Caller,
    event_type: EventType,
    target: impl std::fmt::Display,
    detail: serde_json::Value,
    audit: &AuditContext,
) -> Result<()> {
    let event = NewAuditEvent {
        organization: caller.organization,
        event_type,
        actor: &caller.actor(),
        target: &target.to_string(),
        key_display_id: caller.credential.key().map(|key| key.display_id.as_str()),
        detail,
        audit,
    };
    audit_events::insert(tx, &event).await
}
