//! The clients as the operator manages them: lists, disables and enables those of all kinds, and
//! publishes the apps of organizations.

use serde_json::json;
use sqlx::PgConnection;

use crate::domain::oauth::apps::set_grant_counts;
use crate::domain::oauth::grant_revocation::record_app_end;
use crate::domain::oauth::locks::no_such_app;
use crate::error::{Error, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::external_actor::ExternalActor;
use crate::model::ids::{AppId, OrganizationId};
use crate::model::oauth::app::OauthApp;
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::model::oauth::{ClientKind, is_client_id};
use crate::repo::{app_grants, audit_events, oauth_apps};

/// Returns at most `limit` clients, newest first, each with the number of its grants; only those of
/// the organization, of the kind, and older than the client `after`, if these are given.
pub async fn list(
    db: &mut PgConnection,
    (organization_handle, kind): (Option<&str>, Option<ClientKind>),
    after: Option<AppId>,
    limit: i64,
) -> Result<Vec<OauthApp>> {
    let mut apps = oauth_apps::list_of_all(db, (organization_handle, kind), after, limit).await?;
    set_grant_counts(db, &mut apps).await?;
    Ok(apps)
}

/// Publishes an app: members of all organizations may grant access to it. Publishing a public app
/// is no error.
///
/// # Errors
/// Not found if there is no such app; conflict if no organization registered it.
pub async fn publish(
    tx: &mut PgConnection,
    client_id: &str,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<OauthApp> {
    let (id, organization) = lock(tx, client_id).await?;
    if find(tx, organization, id).await?.kind != ClientKind::Registered {
        return Err(Error::conflict("An app that no organization registered cannot be published"));
    }
    if oauth_apps::publish(tx, id, audit.at).await? {
        let app = find(tx, organization, id).await?;
        let event_type = AuditEventType::AppPublished;
        let event = event(organization, event_type, client_id, (actor, &app.name), audit);
        audit_events::insert(tx, &event).await?;
    }
    find(tx, organization, id).await
}

/// Disables an app: it can neither authenticate nor request anything, and all its grants end.
/// Disabling a disabled app is no error. Returns the app and the number of grants that ended.
///
/// # Errors
/// Not found if there is no such app.
pub async fn disable(
    tx: &mut PgConnection,
    client_id: &str,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<(OauthApp, i64)> {
    let (id, organization) = lock(tx, client_id).await?;
    if !oauth_apps::set_disabled(tx, id, true, audit.at).await? {
        return Ok((find(tx, organization, id).await?, 0));
    }
    let ended =
        app_grants::end_all(tx, &[id], GrantRevocationReason::AppDisabled, audit.at).await?;
    let app = find(tx, organization, id).await?;
    let event_type = AuditEventType::AppDisabled;
    let event = event(organization, event_type, client_id, (actor, &app.name), audit);
    record_app_end(tx, event, GrantRevocationReason::AppDisabled, &ended).await?;
    Ok((app, ended.iter().map(|it| it.count).sum()))
}

/// Enables an app that is disabled. The grants that ended do not come back. Enabling an active app
/// is no error.
///
/// # Errors
/// Not found if there is no such app.
pub async fn enable(
    tx: &mut PgConnection,
    client_id: &str,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<OauthApp> {
    let (id, organization) = lock(tx, client_id).await?;
    let is_changed = oauth_apps::set_disabled(tx, id, false, audit.at).await?;
    let app = find(tx, organization, id).await?;
    if is_changed {
        let event_type = AuditEventType::AppEnabled;
        let event = event(organization, event_type, client_id, (actor, &app.name), audit);
        audit_events::insert(tx, &event).await?;
    }
    Ok(app)
}

async fn lock(tx: &mut PgConnection, client_id: &str) -> Result<(AppId, OrganizationId)> {
    // The database stores no other text, and would reject it with an error.
    if !is_client_id(client_id) {
        return Err(no_such_app());
    }
    oauth_apps::lock_any(tx, client_id).await?.ok_or_else(no_such_app)
}

/// Returns an app with the number of its grants.
async fn find(tx: &mut PgConnection, organization: OrganizationId, id: AppId) -> Result<OauthApp> {
    let mut app = [oauth_apps::find(tx, organization, id).await?.ok_or_else(no_such_app)?];
    set_grant_counts(tx, &mut app).await?;
    let [app] = app;
    Ok(app)
}

fn event<'a>(
    organization: OrganizationId,
    event_type: AuditEventType,
    target: &'a str,
    (actor, name): (ExternalActor, &str),
    audit: &'a AuditContext,
) -> NewAuditEvent<'a> {
    NewAuditEvent {
        organization,
        event_type,
        actor: actor.as_str(),
        target,
        key_display_id: None,
        detail: json!({ "name": name }),
        audit,
    }
}
