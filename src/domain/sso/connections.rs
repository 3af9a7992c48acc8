//! Connections of an organization: create, update, activate, disable, delete.
//!
//! The provider decides who the members are, so what defines it cannot be changed
//! once members can sign in, and only an owner lets them.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::record_caller_event;
use crate::domain::oauth::locks::lock_and_confirm_caller;
use crate::domain::sso::discovery::{self, Discovered, invalid_issuer};
use crate::error::{Error, Issue, Result};
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::audit_detail::diff;
use crate::model::caller::Caller;
use crate::model::ids::{ConnectionId, OrganizationId};
use crate::model::scope::BuiltInScope;
use crate::model::secret::SealedSecret;
use crate::model::sso::connection::{ConnectionStatus, SsoConnection};
use crate::model::sso::issuer::Issuer;
use crate::model::sso::settings::{
    ConnectionChanges, ConnectionSpec, MAX_CONNECTIONS, NewConnection, adds_owner,
};
use crate::repo::{rls, sso_connections, sso_domains, sso_identities, sso_provider_metadata};

const WRITE_SCOPE: BuiltInScope = BuiltInScope::SsoWrite;

/// Fetches the metadata for a connection to create.
///
/// # Errors
/// Invalid, if the metadata cannot be fetched or used.
pub async fn discover_for_create(app: &App, issuer: &Issuer) -> Result<Discovered> {
    discovery::discover(app, issuer).await.map_err(|failure| invalid_issuer(&failure))
}

/// Fetches the metadata for a change of the issuer; `None` if the issuer stays the same.
///
/// # Errors
/// Not found; conflict if the connection is not inactive; invalid if the metadata cannot be fetched
/// or used.
pub async fn discover_for_update(
    app: &App,
    organization: OrganizationId,
    id: ConnectionId,
    changes: &ConnectionChanges,
) -> Result<Option<Discovered>> {
    let before = find_in(app, organization, id).await?;
    let Some(issuer) = changes.issuer.as_ref().filter(|it| it.as_str() != before.issuer) else {
        return Ok(None);
    };
    check_identity_change(&before, changes)?;
    discover_for_create(app, issuer).await.map(Some)
}

/// Fetches the metadata for the activation of a connection.
///
/// # Errors
/// Not found; invalid if the metadata cannot be fetched or used.
pub async fn discover_for_activation(
    app: &App,
    organization: OrganizationId,
    id: ConnectionId,
) -> Result<Discovered> {
    let connection = find_in(app, organization, id).await?;
    let discovered = discovery::discover_stored(app, &connection.issuer).await;
    discovered.map_err(|failure| invalid_issuer(&failure))
}

async fn find_in(
    app: &App,
    organization: OrganizationId,
    id: ConnectionId,
) -> Result<SsoConnection> {
    let find = async |db: &mut PgConnection| find(db, organization, id).await;
    app.db.tenant_transaction(organization, find).await
}

/// Returns a connection of the organization.
///
/// # Errors
/// Not found if there is no such connection.
pub async fn find(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: ConnectionId,
) -> Result<SsoConnection> {
    sso_connections::find(tx, organization, id).await?.ok_or_else(no_such_connection)
}

/// Creates a connection, inactive. The client secret is sealed with the newest key.
///
/// # Errors
/// Missing role if a mapping gives the role owner and the caller is no owner; conflict if the
/// organization has [`MAX_CONNECTIONS`]; unauthenticated or forbidden if the caller may no longer
/// do this.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    (spec, discovered): (&ConnectionSpec, &Discovered),
    audit: &AuditContext,
) -> Result<SsoConnection> {
    let caller = lock_and_confirm_caller(tx, caller, WRITE_SCOPE, audit).await?;
    if adds_owner(&[], &spec.role_mapping) {
        caller.require_owner()?;
    }
    if sso_connections::count(tx, caller.organization).await? >= MAX_CONNECTIONS {
        let message = format!("An organization has at most {MAX_CONNECTIONS} connections");
        return Err(Error::conflict(message));
    }
    let id = ConnectionId::new(audit.at, &*app.entropy);
    let new = NewConnection {
        id,
        organization: caller.organization,
        spec,
        client_secret: &app.sealing_keys.seal(id.uuid(), &spec.client_secret)?,
        metadata: &discovered.metadata,
        created_by: caller.membership,
        created_at: audit.at,
    };
    sso_connections::insert(tx, &new).await?;
    let created = find(tx, caller.organization, id).await?;
    let (event, detail) = (AuditEventType::SsoConnectionCreated, audited_fields(&created));
    record_caller_event(tx, &caller, event, id, detail, audit).await?;
    Ok(created)
}

/// Updates a connection. The client secret is sealed again with the newest key.
///
/// # Errors
/// Not found; conflict if the issuer or the client id changes and the connection is not inactive,
/// or the issuer has changed since `discovered` was fetched; invalid if the issuer changes without
/// a new secret, which would otherwise be sent to another provider; missing role if the issuer, the
/// client id, a mapping to owner or the synchronization of roles changes and the caller is no
/// owner; unauthenticated or forbidden if the caller may no longer do this.
pub async fn update(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    id: ConnectionId,
    (changes, discovered): (&ConnectionChanges, Option<&Discovered>),
    audit: &AuditContext,
) -> Result<SsoConnection> {
    let caller = lock_and_confirm_caller(tx, caller, WRITE_SCOPE, audit).await?;
    let organization = caller.organization;
    let before = lock(tx, organization, id).await?;
    check_identity_change(&before, changes)?;
    let after = SsoConnection {
        client_secret: reseal(app, &before, changes)?,
        ..apply(before.clone(), changes)
    };
    // An owner who activates a connection must get the one that they have seen, and an admin must
    // not take away what owners gave to owners.
    if changes_identity(&before, changes)
        || adds_owner(&before.role_mapping, &after.role_mapping)
        || adds_owner(&after.role_mapping, &before.role_mapping)
        || after.jit.syncs_role != before.jit.syncs_role
    {
        caller.require_owner()?;
    }
    sso_connections::update(tx, organization, &after, audit.at).await?;
    if after.issuer != before.issuer {
        let discovered = discovered.filter(|it| it.issuer == after.issuer);
        let discovered = discovered.ok_or_else(changed_meanwhile)?;
        let of = (id, after.issuer.as_str());
        sso_provider_metadata::store(tx, organization, of, &discovered.metadata, audit.at).await?;
    }
    let updated = find(tx, organization, id).await?;
    let mut detail = diff(audited_fields(&before), audited_fields(&updated));
    detail["client_secret_changed"] = json!(changes.client_secret.is_some());
    let event = AuditEventType::SsoConnectionUpdated;
    record_caller_event(tx, &caller, event, id, detail, audit).await?;
    Ok(updated)
}

/// Returns whether the changes define another provider or another client of it.
fn changes_identity(before: &SsoConnection, changes: &ConnectionChanges) -> bool {
    changes.issuer.as_ref().is_some_and(|it| it.as_str() != before.issuer)
        || changes.client_id.as_ref().is_some_and(|it| it.as_str() != before.client_id)
}

fn check_identity_change(before: &SsoConnection, changes: &ConnectionChanges) -> Result<()> {
    if !changes_identity(before, changes) {
        return Ok(());
    }
    if before.status != ConnectionStatus::Inactive {
        return Err(Error::conflict(
            "The issuer and the client id can be changed only before the first activation: create \
             another connection",
        ));
    }
    let issuer = changes.issuer.as_ref();
    if issuer.is_some_and(|it| it.as_str() != before.issuer) && changes.client_secret.is_none() {
        let message = "is required when the issuer changes";
        return Err(Error::invalid(vec![Issue::field("clientSecret", message)]));
    }
    Ok(())
}

/// Returns the connection with the changes, but with its earlier secret.
fn apply(before: SsoConnection, changes: &ConnectionChanges) -> SsoConnection {
    let mut after = before;
    if let Some(issuer) = &changes.issuer {
        issuer.as_str().clone_into(&mut after.issuer);
    }
    if let Some(client_id) = &changes.client_id {
        client_id.as_str().clone_into(&mut after.client_id);
    }
    let jit = &mut after.jit;
    jit.is_enabled = changes.jit.is_enabled.unwrap_or(jit.is_enabled);
    jit.default_role = changes.jit.default_role.unwrap_or(jit.default_role);
    jit.syncs_role = changes.syncs_role.unwrap_or(jit.syncs_role);
    if let Some(mapping) = &changes.role_mapping {
        after.role_mapping.clone_from(mapping);
    }
    after.session_hours = changes.session_hours.unwrap_or(after.session_hours);
    after
}

/// Returns the secret of the changed connection, sealed with the newest key. A secret whose key is
/// not configured any more stays as it is.
fn reseal(app: &App, before: &SsoConnection, changes: &ConnectionChanges) -> Result<SealedSecret> {
    let (keys, row) = (&app.sealing_keys, before.id.uuid());
    match &changes.client_secret {
        Some(secret) => keys.seal(row, secret),
        None if keys.newest_id() == Some(before.client_secret.key_id.as_str()) => {
            Ok(before.client_secret.clone())
        }
        None => match keys.open(row, &before.client_secret) {
            Ok(secret) => keys.seal(row, &secret),
            Err(_) => Ok(before.client_secret.clone()),
        },
    }
}

/// Activates a connection: members can sign in with it. `discovered` was fetched for this.
///
/// # Errors
/// Not found; missing role if the caller is no owner; conflict without a verified domain, or if the
/// issuer has changed since `discovered` was fetched; unauthenticated or forbidden if the caller
/// may no longer do this.
pub async fn activate(
    tx: &mut PgConnection,
    caller: &Caller,
    id: ConnectionId,
    discovered: &Discovered,
    audit: &AuditContext,
) -> Result<SsoConnection> {
    let caller = lock_and_confirm_owner(tx, caller, audit).await?;
    let organization = caller.organization;
    let before = lock(tx, organization, id).await?;
    if before.issuer != discovered.issuer {
        return Err(changed_meanwhile());
    }
    if !sso_domains::has_verified(tx, organization).await? {
        return Err(Error::conflict("Verify a domain of your members' e-mail addresses first"));
    }
    let of = (id, before.issuer.as_str());
    sso_provider_metadata::store(tx, organization, of, &discovered.metadata, audit.at).await?;
    let (status, event) = (ConnectionStatus::Active, AuditEventType::SsoConnectionActivated);
    set_status(tx, &caller, id, (status, event), audit).await
}

/// Disables a connection: members cannot sign in with it any more, and what it began ends.
///
/// # Errors
/// Not found; missing role if the caller is no owner; unauthenticated or forbidden if the caller
/// may no longer do this.
pub async fn disable(
    tx: &mut PgConnection,
    caller: &Caller,
    id: ConnectionId,
    audit: &AuditContext,
) -> Result<SsoConnection> {
    let caller = lock_and_confirm_owner(tx, caller, audit).await?;
    lock(tx, caller.organization, id).await?;
    let (status, event) = (ConnectionStatus::Disabled, AuditEventType::SsoConnectionDisabled);
    let connection = set_status(tx, &caller, id, (status, event), audit).await?;
    end_sign_ins(tx, &caller, id, audit).await?;
    Ok(connection)
}

/// Ends what a connection began: sessions, sign-ins that wait for an answer, and links to accounts.
async fn end_sign_ins(
    tx: &mut PgConnection,
    caller: &Caller,
    id: ConnectionId,
    audit: &AuditContext,
) -> Result<()> {
    // Row-level security hides sessions of accounts that are no longer members.
    rls::clear_tenant(tx).await?;
    sso_identities::end_all(tx, id, audit.at).await?;
    rls::set_tenant(tx, caller.organization).await
}

/// Sets the state, and records the event if that changed it.
async fn set_status(
    tx: &mut PgConnection,
    caller: &Caller,
    id: ConnectionId,
    (status, event): (ConnectionStatus, AuditEventType),
    audit: &AuditContext,
) -> Result<SsoConnection> {
    let organization = caller.organization;
    let is_changed = sso_connections::set_status(tx, organization, id, status, audit.at).await?;
    let connection = find(tx, organization, id).await?;
    if is_changed {
        let detail = json!({ "issuer": connection.issuer });
        record_caller_event(tx, caller, event, id, detail, audit).await?;
    }
    Ok(connection)
}

/// Deletes a connection. What it began ends, and a later connection inherits nothing.
///
/// # Errors
/// Not found; missing role if the caller is no owner; unauthenticated or forbidden if the caller
/// may no longer do this.
pub async fn delete(
    tx: &mut PgConnection,
    caller: &Caller,
    id: ConnectionId,
    audit: &AuditContext,
) -> Result<()> {
    let caller = lock_and_confirm_owner(tx, caller, audit).await?;
    let connection = lock(tx, caller.organization, id).await?;
    end_sign_ins(tx, &caller, id, audit).await?;
    sso_connections::delete(tx, caller.organization, id).await?;
    let (event, detail) = (AuditEventType::SsoConnectionDeleted, audited_fields(&connection));
    record_caller_event(tx, &caller, event, id, detail, audit).await
}

/// Does the same as [`lock_and_confirm_caller`] for an operation of owners. A key must have been
/// created by an owner: otherwise an admin could create one and use it.
async fn lock_and_confirm_owner(
    tx: &mut PgConnection,
    caller: &Caller,
    audit: &AuditContext,
) -> Result<Arc<Caller>> {
    let caller = lock_and_confirm_caller(tx, caller, WRITE_SCOPE, audit).await?;
    caller.require_owner()?;
    Ok(caller)
}

async fn lock(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: ConnectionId,
) -> Result<SsoConnection> {
    sso_connections::lock(tx, organization, id).await?.ok_or_else(no_such_connection)
}

/// Returns what the audit log shows of a connection.
fn audited_fields(connection: &SsoConnection) -> Value {
    let mapping = connection.role_mapping.iter().map(|mapping| {
        json!({ "claim": mapping.claim, "value": mapping.value, "role": mapping.role.as_str() })
    });
    json!({
        "issuer": connection.issuer,
        "client_id": connection.client_id,
        "jit": connection.jit.is_enabled,
        "default_role": connection.jit.default_role.as_str(),
        "role_sync": connection.jit.syncs_role,
        "role_mapping": mapping.collect::<Vec<_>>(),
        "session_hours": connection.session_hours,
    })
}

fn changed_meanwhile() -> Error {
    Error::conflict("The connection was changed meanwhile: try again")
}

/// Returns the error for a connection that does not exist or belongs to another organization.
#[must_use]
pub fn no_such_connection() -> Error {
    Error::not_found("There is no such connection")
}
