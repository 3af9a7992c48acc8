//! `POST /auth/api-key/regenerate`

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::default_key;
use crate::error::{Error, Result};
use crate::http::account::wire::DataEnvelope;
use crate::http::auth::{InAnySession, InSession};
use crate::http::body::RequestFingerprint;
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::edge::rate_limits;
use crate::http::render::account::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, Unauthorized, Unavailable,
};
use crate::http::shown_once::ShownOnce;
use crate::model::rate_limit::RateLimit;
use crate::model::scope::BuiltInScope;

/// A new default key.
#[derive(Serialize, ToSchema)]
#[schema(as = account::RegeneratedKey)]
pub struct RegeneratedKey {
    /// The key's text. It is shown here and never again, not even in a replay.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>,
             examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    api_key: ShownOnce,
    #[schema(examples("The key was replaced; its text is shown once"))]
    message: &'static str,
}

/// Replace the account's default key. The former one stops working immediately.
///
/// If the account has no default key, this creates the first one.
#[utoipa::path(post, path = "/auth/api-key/regenerate", operation_id = "regenerateKey",
    tag = "account", params(IdempotencyHeader),
    security(("bearer" = []), ("session" = [])),
    responses((status = 200, description = "The new key.", body = DataEnvelope<RegeneratedKey>),
              BadRequest, Unauthorized, Forbidden, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn regenerate(
    State(app): State<App>,
    InSession(InAnySession { person, caller, .. }): InSession,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    let no_home_organization =
        || Error::forbidden("This account no longer has a membership in its home organization");
    let caller = caller.ok_or_else(no_home_organization)?;
    let limit = (RateLimit::KeyMint, caller.organization);
    let count = rate_limits::count_for_organization(&app, &context, limit);
    idempotency.count_unless_replay(&app, &caller, &RequestFingerprint::NOTHING, count).await?;
    let check = async |_: &mut _| caller.authorize(BuiltInScope::ApiKeysWrite);
    idempotency
        .run_checked(&app, &caller, RequestFingerprint::NOTHING, check, async |tx| {
            let actor = (&*person, &*caller);
            let created =
                default_key::regenerate(&app, tx, actor, &context.audit_context()).await?;
            let message = "The key was replaced; its text is shown once";
            let body =
                DataEnvelope { data: RegeneratedKey { api_key: created.secret.into(), message } };
            Ok(ChangeResponse::ok(body))
        })
        .await
}
