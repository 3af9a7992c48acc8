//! `/api/user/authorized-apps`: what a person granted to apps, in all organizations.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use crate::app::App;
use crate::domain::oauth::grant_revocation;
use crate::error::Result;
use crate::http::auth::InAnySession;
use crate::http::body::RequestFingerprint;
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::path::PathId;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, Unauthorized, Unavailable,
};
use crate::http::switches::OauthIsOn;
use crate::http::user::app_grants::{AppGrant, parse_id};
use crate::http::user::responses::{DONE, Done, Success};
use crate::repo::app_grants;

/// List what the account granted to apps, newest first.
#[utoipa::path(get, path = "/api/user/authorized-apps", operation_id = "listAuthorizedApps",
    tag = "user", security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "The grants.", body = Success<Vec<AppGrant>>),
              BadRequest, Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn list(
    _: OauthIsOn,
    State(app): State<App>,
    InAnySession { person, .. }: InAnySession,
) -> Result<Json<Success<Vec<AppGrant>>>> {
    let list = async |db: &mut _| app_grants::list_of_account(db, person.reach()).await;
    let grants = app.db.run(list).await?;
    let catalogue = &app.config.keys.scopes;
    let grants = grants.into_iter().map(|it| AppGrant::of_person(it, catalogue)).collect();
    Ok(Json(Success::ok("Authorized apps fetched", grants)))
}

/// Revoke what the account granted to an app, effective immediately. Revoking it again is no error.
#[utoipa::path(delete, path = "/api/user/authorized-apps/{grantId}",
    operation_id = "revokeAuthorizedApp", tag = "user",
    params(("grantId" = String, Path, description = "The grant's id."), IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Revoked.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn revoke(
    _: OauthIsOn,
    State(app): State<App>,
    InAnySession { person, session, .. }: InAnySession,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    let id = parse_id(&id)?;
    idempotency
        .run(&app, &person, RequestFingerprint::NOTHING, async |tx| {
            grant_revocation::revoke_own(tx, (&person, session), id, &context.audit_context())
                .await?;
            Ok(ChangeResponse::ok(Success::ok("App grant revoked", DONE)))
        })
        .await
}
