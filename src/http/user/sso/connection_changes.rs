//! `/api/user/organizations/{organizationId}/sso/connections/{id}`: changes.

use axum::extract::State;
use axum::response::Response;

use crate::app::App;
use crate::domain::sso::connections;
use crate::error::Result;
use crate::http::auth::{OrganizationScoped, SsoControl, SsoWrite};
use crate::http::body::{JsonBody, RequestFingerprint};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::path::PathId;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::switches::SsoIsOn;
use crate::http::user::responses::{DONE, Done, Success};
use crate::http::user::sso::connection_attributes::{UpdateConnection, UpdateConnectionRequest};
use crate::http::user::sso::connections::{Connection, not_fetched, parse_id};

/// Change a connection to an identity provider.
///
/// The issuer and the client id can be changed only before the first activation.
#[utoipa::path(put, path = "/api/user/organizations/{organizationId}/sso/connections/{id}",
    operation_id = "updateSsoConnection", tag = "user", request_body = UpdateConnectionRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The connection's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed.", body = Success<Connection>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused, Unavailable))]
pub(super) async fn update(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoWrite>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: UpdateConnection(changes), fingerprint }: JsonBody<UpdateConnection>,
) -> Result<Response> {
    let (id, organization) = (parse_id(&id)?, caller.organization);
    let mut discovered = None;
    if !idempotency.is_replay(&app, &caller, &fingerprint).await? {
        discovered = connections::discover_for_update(&app, organization, id, &changes).await?;
    }
    idempotency
        .run(&app, &caller, fingerprint, async |tx| {
            let (audit, wanted) = (context.audit_context(), (&changes, discovered.as_ref()));
            let updated = connections::update(&app, tx, &caller, id, wanted, &audit).await?;
            let body = Connection::new(updated, &app.config.http.public_url);
            Ok(ChangeResponse::ok(Success::ok("Connection updated", body)))
        })
        .await
}

/// Activate a connection: members can sign in with it.
///
/// Only an owner can do this. The provider's metadata is fetched again first.
#[utoipa::path(post,
    path = "/api/user/organizations/{organizationId}/sso/connections/{id}/activate",
    operation_id = "activateSsoConnection", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The connection's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Active.", body = Success<Connection>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn activate(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoControl>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    caller.require_owner()?;
    let (id, organization) = (parse_id(&id)?, caller.organization);
    let mut discovered = None;
    if !idempotency.is_replay(&app, &caller, &RequestFingerprint::NOTHING).await? {
        discovered = Some(connections::discover_for_activation(&app, organization, id).await?);
    }
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            let discovered = discovered.as_ref().ok_or_else(not_fetched)?;
            let audit = context.audit_context();
            let active = connections::activate(tx, &caller, id, discovered, &audit).await?;
            let body = Connection::new(active, &app.config.http.public_url);
            Ok(ChangeResponse::ok(Success::ok("Connection activated", body)))
        })
        .await
}

/// Disable a connection: members cannot sign in with it any more.
///
/// Only an owner can do this. The connection can be activated again.
#[utoipa::path(post,
    path = "/api/user/organizations/{organizationId}/sso/connections/{id}/disable",
    operation_id = "disableSsoConnection", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The connection's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Disabled.", body = Success<Connection>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn disable(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoControl>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    caller.require_owner()?;
    let id = parse_id(&id)?;
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            let audit = context.audit_context();
            let disabled = connections::disable(tx, &caller, id, &audit).await?;
            let body = Connection::new(disabled, &app.config.http.public_url);
            Ok(ChangeResponse::ok(Success::ok("Connection disabled", body)))
        })
        .await
}

/// Delete a connection to an identity provider. Only an owner can do this.
#[utoipa::path(delete, path = "/api/user/organizations/{organizationId}/sso/connections/{id}",
    operation_id = "deleteSsoConnection", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The connection's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Deleted.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn delete(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoControl>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    caller.require_owner()?;
    let id = parse_id(&id)?;
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            connections::delete(tx, &caller, id, &context.audit_context()).await?;
            Ok(ChangeResponse::ok(Success::ok("Connection deleted", DONE)))
        })
        .await
}
