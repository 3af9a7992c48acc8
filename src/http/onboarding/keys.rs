//! `/me/api-keys`: list, create and revoke the organization's keys.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::KeySpec;
use crate::error::Result;
use crate::http::auth::{ApiKeysRead, ApiKeysWrite, Authenticated, Scoped};
use crate::http::body::{FieldContext, Fields, FromFields, JsonBody, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::key_endpoints::{KeyChangeRequest, parse_key_id};
use crate::http::limits_and_credits::{
    Credits as CreditsBody, NamedRateLimit, SNAKE_CASE, take_credits, take_limits,
};
use crate::http::onboarding::wire::{CreateKeyResponse, Key, parse_key_name};
use crate::http::path::PathId;
use crate::http::query::{Query, parse_bool};
use crate::http::render::onboarding::{
    BadRequest, Conflict, Forbidden, NotFound, TooLarge, Unauthorized, Unavailable, Unprocessable,
    UnsupportedMediaType,
};
use crate::model::caller::Caller;
use crate::model::credits::Credits;
use crate::model::named_limits::NamedLimits;
use crate::model::names::{ExternalId, KeyName};
use crate::model::scope::ScopeSet;
use crate::repo;

/// List the organization's keys, newest first, at most 1,000.
#[utoipa::path(get, path = "/me/api-keys", operation_id = "listMyKeys", tag = "onboarding",
    params(("include_revoked" = Option<bool>, Query,
            description = "Whether to include revoked and expired keys.")),
    security(("api_key" = []), ("bearer" = []), ("session" = [])),
    responses((status = 200, description = "The keys.", body = [Key]), BadRequest, Unauthorized,
              Forbidden, Unprocessable, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysRead>,
    mut query: Query,
) -> Result<Json<Vec<Key>>> {
    let include_revoked = query.optional("include_revoked", parse_bool).unwrap_or(false);
    query.finish()?;
    let keys = app
        .db
        .tenant_transaction(caller.organization, async |db| {
            repo::key_lists::list(db, caller.organization, (include_revoked, None), None, 1000)
                .await
        })
        .await?;
    Ok(Json(keys.into_iter().map(Key::from).collect()))
}

/// The attributes of a key to create, all of them optional.
#[derive(ToSchema)]
#[schema(as = onboarding::CreateKeyRequest)]
pub struct CreateKeyRequest {
    /// A label, unique among the organization's live keys.
    #[schema(value_type = Option<String>, max_length = 64, examples("ci"))]
    name: Option<KeyName>,
    /// The scopes of the key, within the caller's own. Default: the caller's scopes.
    #[schema(value_type = Option<Vec<String>>, examples("usage:read"))]
    scopes: Option<ScopeSet>,
    /// When it expires, no later than the caller's own key or token. Required if that expires;
    /// otherwise the default is never.
    #[schema(value_type = Option<String>, format = DateTime,
             examples("2036-01-01T00:00:00Z"))]
    expires_at: Option<DateTime<Utc>>,
    /// Its id in another system, at most 128 characters.
    #[schema(value_type = Option<String>, max_length = 128, examples("cus_1042"))]
    external_id: Option<ExternalId>,
    /// Rate limits that checks of it (`/v1/verify`) count against, in addition to those of the
    /// organization.
    #[schema(value_type = Option<Vec<NamedRateLimit>>, max_items = 10)]
    limits: Option<NamedLimits>,
    /// Prepaid units that checks of it (`/v1/verify`) take. Default: checks need none.
    #[schema(value_type = Option<CreditsBody>)]
    credits: Option<Credits>,
}

impl FromFields for CreateKeyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.optional("name", parse_key_name);
        let FieldContext { config, .. } = fields.context;
        let scopes = fields.optional("scopes", |it| config.keys.scopes.parse(&it.into_strings()?));
        let expires_at = fields.future_time("expires_at");
        let external_id = fields.optional("external_id", text(ExternalId::parse));
        let limits = take_limits::<SNAKE_CASE>(fields);
        let credits = take_credits(fields);
        Some(Self { name: name.flatten(), scopes, expires_at, external_id, limits, credits })
    }
}

/// Create a key of the caller's organization, within the caller's own scopes and expiry.
///
/// It has the allowed addresses of the caller's own key. Only this response contains the key's
/// text.
#[utoipa::path(post, path = "/me/api-keys", operation_id = "createMyKey", tag = "onboarding",
    request_body(content = Option<CreateKeyRequest>, description = "Optional."),
    params(IdempotencyHeader),
    security(("api_key" = []), ("bearer" = []), ("session" = [])),
    responses((status = 201, description = "Created.", body = CreateKeyResponse), BadRequest,
              Unauthorized,
              Forbidden, Conflict, TooLarge, UnsupportedMediaType, Unprocessable, Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value, fingerprint }: JsonBody<CreateKeyRequest>,
) -> Result<Response> {
    let CreateKeyRequest { name, scopes, expires_at, external_id, limits, credits } = value;
    let limits = limits.unwrap_or_default();
    let spec = |caller: &Caller| KeySpec {
        // This family has no field for allowed addresses.
        allowed_ips: caller.credential.key().map(|it| it.allowed_ips.clone()).unwrap_or_default(),
        external_id: external_id.clone(),
        limits: limits.clone(),
        credits,
        ..KeySpec::plain(
            name.clone(),
            scopes.as_ref().unwrap_or(&caller.scopes).clone(),
            expires_at,
        )
    };
    let request = KeyChangeRequest { app: &app, caller: &caller, context: &context, idempotency };
    request.create(fingerprint, spec, CreateKeyResponse::from).await
}

/// Revoke a key immediately.
///
/// Revoking it again changes nothing. Any key may revoke itself.
#[utoipa::path(delete, path = "/me/api-keys/{id}", operation_id = "revokeMyKey",
    tag = "onboarding",
    params(("id" = String, Path, description = "The key's id."),
           IdempotencyHeader),
    security(("api_key" = []), ("bearer" = []), ("session" = [])),
    responses((status = 204, description = "Revoked."), BadRequest, Unauthorized, Forbidden,
              NotFound, Conflict, Unprocessable, Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
) -> Result<Response> {
    let id = parse_key_id(&id)?;
    let request = KeyChangeRequest { app: &app, caller: &caller, context: &context, idempotency };
    let respond = |_| ChangeResponse::<()>::no_content();
    request.revoke(id, (None, StatusCode::NO_CONTENT), respond).await
}
