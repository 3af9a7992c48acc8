//! API keys: create, find, update, rotate, revoke, claim and import.
//!
//! Containment: a key creates, updates and revokes only keys whose scopes and expiry lie within its
//! own, and creates and updates only keys whose allowed addresses lie within its own; it may always
//! revoke itself. Functions with a parameter `tx` work in the caller's transaction.

pub mod changes;
pub mod claims;
pub mod containment;
pub mod credits;
pub mod default_key;
pub mod import;
pub mod invites;
pub mod presented;
pub mod sessions;

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::containment::{
    KeyPermissions, require_scopes_and_expiry_within, require_unmetered,
};
use crate::domain::organizations::plan_limits::{LimitedResource, check_plan_limit};
use crate::error::{Error, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::{ApiKey, NewApiKey};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::caller::{Caller, Credential, Person};
use crate::model::credits::Credits;
use crate::model::ids::{AccountId, GrantId, KeyId, MembershipId, OrganizationId, SessionId};
use crate::model::member::KeyInvitedMembership;
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::names::{ExternalId, KeyName};
use crate::model::scope::{BuiltInScope, ScopeSet};
use crate::model::secret::Secret;
use crate::model::timestamp;
use crate::repo::{
    account_callers, audit_events, callers, credit_balances, key_lifecycle, keys, oauth_callers,
    organizations,
};

/// A new key and its text, which is stored nowhere.
pub struct CreatedKey {
    /// The text, which the response shows once.
    pub secret: Secret,
    /// Its data.
    pub key: ApiKey,
}

/// The attributes of a key to create.
#[derive(Clone)]
pub struct KeySpec {
    /// Its name.
    pub name: Option<KeyName>,
    /// Its scopes.
    pub scopes: ScopeSet,
    /// When it expires; `None` means never.
    pub expires_at: Option<DateTime<Utc>>,
    /// The addresses that it may be used from.
    pub allowed_ips: AllowedIps,
    /// The metadata that its organization stores with it.
    pub metadata: Metadata,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Its id in another system, which its organization can set.
    pub external_id: Option<ExternalId>,
    /// The rate limits that checks of it count against.
    pub limits: NamedLimits,
    /// Its credits; `None` if its checks need none, or if it shares those of `metered_key`.
    pub credits: Option<Credits>,
    /// The first key of the rotations that lead to it; `None` if it is the first itself.
    pub metered_key: Option<KeyId>,
    /// The key that it replaces by rotation.
    pub rotated_from: Option<KeyId>,
}

impl KeySpec {
    /// Returns the attributes of an enabled key with a name, scopes and an expiry; everything else
    /// is the default.
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
            external_id: None,
            limits: NamedLimits::default(),
            credits: None,
            metered_key: None,
            rotated_from: None,
        }
    }
}

/// Generates the text of a key and inserts the key. Does not check permissions and plan limits.
///
/// # Errors
/// Conflict if a live key has the name.
pub async fn insert_key(
    app: &App,
    tx: &mut PgConnection,
    (organization, membership): (OrganizationId, MembershipId),
    spec: KeySpec,
    at: DateTime<Utc>,
) -> Result<CreatedKey> {
    let format = &app.config.keys.format;
    let secret = format.generate(&*app.entropy);
    let (digest, pepper_id) = app.peppers.digest(secret.expose());
    let display_id = format.display_id(secret.expose()).unwrap_or_default();
    let new = NewApiKey {
        id: KeyId::new(at, &*app.entropy),
        organization,
        membership,
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
        external_id: spec.external_id.as_ref(),
        limits: &spec.limits,
        metered_key: spec.metered_key,
        rotated_from: spec.rotated_from,
    };
    let mut key = keys::insert(tx, &new).await?;
    if let Some(credits) = spec.credits {
        credit_balances::set(tx, (organization, key.id.uuid()), &credits).await?;
        key.credits = Some(credits);
    }
    Ok(CreatedKey { secret, key })
}

/// Creates a key of the caller's organization, with the attributes that `spec` returns for the
/// caller as the database has it now.
///
/// # Errors
/// Unauthenticated if the caller's own key has ended meanwhile; forbidden beyond its scopes, expiry
/// or addresses, or if it has limits or credits; plan limit; conflict if a live key has the name.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    spec: impl FnOnce(&Caller) -> KeySpec,
    audit: &AuditContext,
) -> Result<CreatedKey> {
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize(BuiltInScope::ApiKeysWrite)?;
    let spec = spec(&caller);
    spec.permissions().require_within(&caller)?;
    require_unmetered(tx, &caller).await?;
    check_plan_limit(app, tx, (caller.organization, caller.plan), LimitedResource::Keys).await?;
    let created_key =
        insert_key(app, tx, (caller.organization, caller.membership), spec, audit.at).await?;
    let mut detail = json!({
        "display_id": created_key.key.display_id,
        "name": created_key.key.name,
        "scopes": created_key.key.scopes.to_stored(),
        "expires_at": created_key.key.expires_at.map(timestamp::format),
        "never_expires": created_key.key.expires_at.is_none(),
    });
    credits::add_metering(&mut detail, &created_key.key);
    record_caller_event(tx, &caller, AuditEventType::KeyCreated, created_key.key.id, detail, audit)
        .await?;
    Ok(created_key)
}

/// Revokes a key of the caller's organization, and the open invitations that were sent by it or by
/// the keys that it replaced. A key that has already ended is not changed. Any key may revoke
/// itself. Returns the memberships from accepted invitations of these keys.
///
/// # Errors
/// Not found; forbidden without `api-keys:write` or beyond the caller's scopes or expiry.
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
        caller.authorize(BuiltInScope::ApiKeysWrite)?;
        let key = find(tx, &caller, id).await?;
        require_scopes_and_expiry_within(&caller, &key.scopes, key.expires_at)?;
        key
    };
    let (organization, actor) = (caller.organization, caller.actor());
    let chain = key_lifecycle::list_with_predecessors(tx, organization, id).await?;
    if !key_lifecycle::revoke(tx, organization, id, reason, &actor, audit.at).await? {
        return invites::find_memberships(tx, organization, Some(&chain)).await;
    }
    let revoked = invites::revoke(tx, organization, Some(&chain), audit).await?;
    let mut detail = json!({ "display_id": key.display_id, "name": key.name, "reason": reason });
    revoked.add_to(&mut detail);
    record_caller_event(tx, caller, AuditEventType::KeyRevoked, id, detail, audit).await?;
    Ok(revoked.memberships)
}

/// Returns whether the key is the one that the caller presented, directly or through a session.
#[must_use]
pub fn is_own(caller: &Caller, id: KeyId) -> bool {
    matches!(&caller.credential, Credential::Key(key, _) if key.id == id)
}

/// Returns a key of the caller's organization.
///
/// # Errors
/// Not found if there is no such key.
pub async fn find(tx: &mut PgConnection, caller: &Caller, id: KeyId) -> Result<ApiKey> {
    let key = keys::find(tx, caller.organization, id).await?;
    key.ok_or_else(|| Error::not_found("There is no such key"))
}

/// Locks the caller's credential until the transaction ends, checks that it may still be used, also
/// from the address of the request, and returns the caller as the database has it now.
///
/// Invariant: every operation by which a key, token or session creates, extends or revokes another
/// credential of an organization calls this or [`lock_live_key`] first, so that a credential that
/// has just ended or lost scopes cannot act any more. Sessions and personal access tokens are
/// locked before memberships, and memberships before keys.
///
/// # Errors
/// Unauthenticated if the credential has ended; forbidden from an address that it may not be used
/// from, or if the account is no longer a member; suspended if the organization is.
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
        Credential::OauthToken(account, token) => {
            return confirm_oauth_caller(tx, caller, (*account, token.grant)).await;
        }
    };
    let not_a_member = || Error::forbidden("You are no longer a member of this organization");
    let person = identity.person.ok_or_else(not_a_member)?;
    let caller = account_callers::find_caller_in(tx, &person, organization)
        .await?
        .ok_or_else(not_a_member)?;
    caller.require_active()?;
    Ok(caller)
}

/// Confirms that a client may still act for the account: that the grant is not revoked, and that
/// the membership exists. The role is the one that it has now.
async fn confirm_oauth_caller(
    tx: &mut PgConnection,
    caller: &Caller,
    (account, grant): (AccountId, GrantId),
) -> Result<Arc<Caller>> {
    oauth_callers::lock_grant(tx, (account, caller.membership), grant).await?;
    account_callers::lock_membership(tx, (account, caller.organization)).await?;
    let person = Person {
        account,
        home_organization: caller.organization,
        pinned_to: Some(caller.organization),
        scopes: caller.scopes.clone(),
        credential: caller.credential.clone(),
    };
    let confirmed = account_callers::find_caller_in(tx, &person, caller.organization).await?;
    let not_a_member = || Error::forbidden("You are no longer a member of this organization");
    let confirmed = confirmed.ok_or_else(not_a_member)?;
    confirmed.require_active()?;
    Ok(confirmed)
}

async fn confirm_key_caller(
    tx: &mut PgConnection,
    organization: OrganizationId,
    key: KeyId,
    session: Option<SessionId>,
    audit: &AuditContext,
) -> Result<Arc<Caller>> {
    let caller = callers::lock_and_confirm(tx, organization, key, session).await?;
    let key = caller.credential.key();
    let is_allowed = key.is_some_and(|key| key.allowed_ips.allows(audit.address));
    if !is_allowed {
        return Err(address_not_allowed(audit.address));
    }
    caller.require_active()?;
    Ok(caller)
}

/// Confirms the caller as [`confirm_caller`] does, and locks another key of the organization, too.
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

/// Returns the error for a key that is used from an address that is not allowed.
#[must_use]
pub fn address_not_allowed(address: Option<IpAddr>) -> Error {
    Error::forbidden(match address {
        Some(_) => "This key may not be used from this address",
        None => {
            "The client address of this request is unknown, and this key may be used only from \
             certain addresses"
        }
    })
}

/// Returns the error for a key that is used from a browser origin that is not allowed.
#[must_use]
pub fn origin_not_allowed() -> Error {
    Error::forbidden("This key may not be used from this origin")
}

/// Locks the caller's credential and a live key of its organization until the transaction ends.
/// Returns the caller as the database has it now, and the key, whose permissions lie within the
/// caller's own. Does not check that the caller has the scope for the operation.
///
/// # Errors
/// Unauthenticated, forbidden, not found, or conflict if the key is not live.
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

/// Records an event that the caller caused in its organization's audit log.
pub async fn record_caller_event(
    tx: &mut PgConnection,
    caller: &Caller,
    event_type: AuditEventType,
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
