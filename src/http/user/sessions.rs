//! `/api/auth/list-sessions`, `/revoke-session`, `/revoke-other-sessions`

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts::sessions;
use crate::error::{Error, Result};
use crate::http::auth::InAnySession;
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, RequestFingerprint};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::user::responses::{DONE, Done, Success};
use crate::http::user::wire::Session;
use crate::model::ids::SessionId;
use crate::repo;

/// List the account's sessions, newest first.
#[utoipa::path(get, path = "/api/auth/list-sessions", operation_id = "listSessions", tag = "user",
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "The sessions.", body = Success<Vec<Session>>),
              BadRequest, Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    InAnySession { person, session, .. }: InAnySession,
) -> Result<Json<Success<Vec<Session>>>> {
    let sessions = app.db.run(async |db| repo::sessions::list(db, person.reach()).await).await?;
    let current = (person.account, session);
    let sessions = sessions.into_iter().map(|session| Session::new(session, current)).collect();
    Ok(Json(Success::ok("Sessions fetched", sessions)))
}

/// The session to end. Either field names it.
#[derive(ToSchema)]
#[schema(as = user::RevokeSessionRequest)]
pub struct RevokeSessionRequest {
    /// The session's id.
    #[schema(nullable = false, examples("sess_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: Option<String>,
    /// The session's `token`, which equals its id.
    #[schema(nullable = false, examples("sess_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    token: Option<String>,
}

impl FromFields for RevokeSessionRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let token = fields.optional("token", JsonNode::into_string);
        if token.is_none() {
            let id = fields.required("id", JsonNode::into_string);
            return Some(Self { id: Some(id?), token });
        }
        let id = fields.optional("id", JsonNode::into_string);
        if id.is_some() && id != token {
            fields.add_body_issue("`id` and `token` must refer to the same session");
        }
        Some(Self { id, token })
    }
}

/// End one of the account's sessions, effective immediately.
#[utoipa::path(post, path = "/api/auth/revoke-session", operation_id = "revokeSession",
    tag = "user", request_body = RevokeSessionRequest, params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Session ended.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused,
              Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    InAnySession { person, session, .. }: InAnySession,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<RevokeSessionRequest>,
) -> Result<Response> {
    let id = request.id.or(request.token).and_then(|id| SessionId::parse(&id));
    let id = id.ok_or_else(|| Error::not_found("There is no such session"))?;
    idempotency
        .run(&app, &person, fingerprint, async |tx| {
            sessions::revoke_session(tx, (&person, session), id, &context.audit_context()).await?;
            let body = Success::ok("Session ended", DONE);
            Ok(ChangeResponse::ok(body))
        })
        .await
}

/// The number of sessions that have ended.
#[derive(Serialize, ToSchema)]
#[schema(as = user::RevokedSessions)]
pub struct RevokedSessions {
    #[schema(examples(2))]
    count: u64,
}

/// End all sessions of the account except the current one.
#[utoipa::path(post, path = "/api/auth/revoke-other-sessions",
    operation_id = "revokeOtherSessions", tag = "user", params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Sessions ended.", body = Success<RevokedSessions>),
              BadRequest, Unauthorized, Forbidden, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn revoke_others(
    State(app): State<App>,
    InAnySession { person, session, .. }: InAnySession,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    idempotency
        .run(&app, &person, RequestFingerprint::NOTHING, async |tx| {
            let count =
                sessions::revoke_other_sessions(tx, (&person, session), &context.audit_context())
                    .await?;
            let body = Success::ok("The other sessions ended", RevokedSessions { count });
            Ok(ChangeResponse::ok(body))
        })
        .await
}
