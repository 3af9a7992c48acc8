//! `POST /v1/admin/key/rotate` and `/revoke`: an organization key rotates or revokes itself.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys;
use crate::domain::keys::changes;
use crate::error::{Error, Result};
use crate::http::auth::Authenticated;
use crate::http::body::JsonBody;
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::Idempotency;
use crate::http::edge::rate_limits;
use crate::http::operator::forced_key_changes::RevokeKeysResponse;
use crate::http::operator::wire::{EmptyBody, KEY_WARNING, ResponseMeta};
use crate::http::render::operator::key_errors::{
    BadRequest, Conflict, Forbidden, TooLarge, Unauthorized, Unavailable, Unprocessable,
    UnsupportedMediaType,
};
use crate::http::shown_once::{JsonWithSecrets, ShownOnce};
use crate::http::wire::Timestamp;
use crate::model::caller::Caller;
use crate::model::ids::KeyId;
use crate::model::rate_limit::RateLimit;

/// The key that replaces the key of the request.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::RotatedKey)]
pub struct RotatedKey {
    /// The key's text. Only this response contains it.
    #[schema(value_type = String, examples("tnt_live_a1b2c3d4…"))]
    new_api_key: ShownOnce,
    /// The 8 characters after the prefix of the key's text, to tell keys apart.
    #[schema(examples("a1b2c3d4"))]
    prefix: String,
    rotated_at: Timestamp,
    warning: &'static str,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// Replace the key of the request by a new one with the same name and settings.
///
/// The old key no longer works when the response is sent, so the request cannot be repeated, not
/// even with an `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/admin/key/rotate", operation_id = "rotateOwnKey",
    tag = "operator", request_body(content = Option<EmptyBody>, description = "Optional."),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The new key.", body = RotatedKey), BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              Unavailable))]
pub(super) async fn rotate(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    context: RequestContext,
    _: Idempotency,
    JsonBody { .. }: JsonBody<EmptyBody>,
) -> Result<JsonWithSecrets<RotatedKey>> {
    let limit = (RateLimit::KeyMint, caller.organization);
    rate_limits::count_for_organization(&app, &context, limit).await?;
    let (id, audit) = (own_key_id(&caller)?, context.audit_context());
    let created = app
        .db
        .tenant_transaction(caller.organization, async |tx| {
            changes::rotate(&app, tx, &caller, id, 0, &audit).await
        })
        .await?;
    Ok(JsonWithSecrets(RotatedKey {
        new_api_key: created.secret.into(),
        prefix: created.key.display_id,
        rotated_at: Timestamp(context.received_at),
        warning: KEY_WARNING,
        stamp: ResponseMeta::from(&context),
    }))
}

/// Revoke the key of the request, and the open invitations that it created or last resent.
#[utoipa::path(post, path = "/v1/admin/key/revoke", operation_id = "revokeOwnKey",
    tag = "operator", request_body(content = Option<EmptyBody>, description = "Optional."),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Revoked.", body = RevokeKeysResponse), BadRequest,
              Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unprocessable, Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    context: RequestContext,
    _: Idempotency,
    JsonBody { .. }: JsonBody<EmptyBody>,
) -> Result<Json<RevokeKeysResponse>> {
    let (id, audit) = (own_key_id(&caller)?, context.audit_context());
    let revoking = app.db.tenant_transaction(caller.organization, async |tx| {
        keys::revoke(tx, &caller, id, None, &audit).await
    });
    let joined = revoking.await?;
    Ok(Json(RevokeKeysResponse::new(caller.organization_handle.clone(), joined, &context)))
}

/// Returns the id of the key of the request.
fn own_key_id(caller: &Caller) -> Result<KeyId> {
    let key = caller.credential.key().map(|key| key.id);
    key.ok_or_else(|| Error::internal("the operator family accepted a session"))
}
