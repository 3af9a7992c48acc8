//! `/v1/organization/api-keys`: create, list and show keys.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::domain::keys::{self, CreatedKey, KeySpec};
use crate::error::Result;
use crate::http::auth::{ApiKeysRead, ApiKeysWrite, Scoped};
use crate::http::body::{Fields, FromFields, JsonBody, parse_allowed_ips, parse_metadata, text};
use crate::http::cursor_page::CursorPage;
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{Idempotency, IdempotencyHeader};
use crate::http::key_endpoints::{KeyChangeRequest, parse_key_id};
use crate::http::limits_and_credits::{
    Credits as CreditsBody, NamedRateLimit, SNAKE_CASE, take_credits, take_limits,
};
use crate::http::organization::wire::{CursorList, Key, KeyResponse, short_prefix};
use crate::http::path::PathId;
use crate::http::query::{Query, parse_bool};
use crate::http::render::organization::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::shown_once::ShownOnce;
use crate::http::wire::Timestamp;
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::ApiKey;
use crate::model::credits::Credits;
use crate::model::cursor::PagedList;
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::names::{ExternalId, KeyName};
use crate::model::scope::ScopeSet;
use crate::repo;

/// The attributes of a key to create.
#[derive(ToSchema)]
#[schema(as = organization::CreateApiKeyRequest)]
pub struct CreateApiKeyRequest {
    /// A label, unique among the organization's live keys.
    #[schema(value_type = String, min_length = 1, max_length = 255,
             examples("Analytics Dashboard"))]
    name: KeyName,
    /// The scopes of the key, within the caller's own.
    #[schema(value_type = Vec<String>, min_items = 1,
             examples("usage:read", "billing:read"))]
    scopes: ScopeSet,
    /// When it expires, no later than the caller's own key or token. Required if that expires;
    /// otherwise the default is never.
    #[schema(value_type = Option<String>, format = DateTime,
             examples("2036-01-01T00:00:00Z"))]
    expires_at: Option<DateTime<Utc>>,
    /// An object with string values, at most 4 KiB in total.
    #[schema(value_type = Option<Object>, examples(json!({ "team": "data" })))]
    metadata: Option<Metadata>,
    /// The networks that it may be used from. Default: all.
    #[schema(value_type = Option<Vec<String>>, max_items = 100,
             examples("203.0.113.0/24"))]
    allowed_ips: Option<AllowedIps>,
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

impl FromFields for CreateApiKeyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let catalogue = &fields.context.config.keys.scopes;
        let name = fields.required("name", text(KeyName::parse));
        let scopes = fields.required("scopes", |it| catalogue.parse(&it.into_strings()?));
        let expires_at = fields.future_time("expires_at");
        let metadata = fields.optional("metadata", parse_metadata);
        let allowed_ips = fields.optional("allowed_ips", parse_allowed_ips);
        let external_id = fields.optional("external_id", text(ExternalId::parse));
        let limits = take_limits::<SNAKE_CASE>(fields);
        let credits = take_credits(fields);
        let (name, scopes) = (name?, scopes?);
        Some(Self { name, scopes, expires_at, metadata, allowed_ips, external_id, limits, credits })
    }
}

/// A new key.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::CreatedApiKey)]
pub struct CreateApiKeyResponse {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("api_key"))]
    object: &'static str,
    #[schema(required, examples("Analytics Dashboard"))]
    name: Option<String>,
    /// The key's text. It is shown here and never again, not even in a replay.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>,
             examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    key: ShownOnce,
    /// The prefix of the key's text and the 4 characters after it.
    #[schema(examples("tnt_live_LfbR"))]
    prefix: String,
    #[schema(examples("usage:read", "billing:read"))]
    scopes: Vec<String>,
    created_at: Timestamp,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    /// Whether it never expires.
    never_expires: bool,
    request_id: String,
}

impl CreateApiKeyResponse {
    fn new(CreatedKey { secret, key }: CreatedKey, context: &RequestContext) -> Self {
        Self {
            id: key.id.to_string(),
            object: "api_key",
            key: secret.into(),
            prefix: short_prefix(&key.prefix, &key.display_id),
            name: key.name,
            scopes: key.scopes.to_stored(),
            created_at: Timestamp(key.created_at),
            expires_at: key.expires_at.map(Timestamp),
            never_expires: key.expires_at.is_none(),
            request_id: context.id.clone(),
        }
    }
}

/// Create a key of the caller's organization, within the caller's own scopes, expiry and addresses.
///
/// Only this response contains the key's text.
#[utoipa::path(post, path = "/v1/organization/api-keys", operation_id = "createApiKey",
    tag = "organization", request_body = CreateApiKeyRequest,
    params(IdempotencyHeader),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 201, description = "Created.", body = CreateApiKeyResponse), BadRequest,
              Unauthorized,
              Forbidden, Conflict, TooLarge, UnsupportedMediaType, IdempotencyReused, Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value, fingerprint }: JsonBody<CreateApiKeyRequest>,
) -> Result<Response> {
    let spec = KeySpec {
        metadata: value.metadata.unwrap_or_default(),
        allowed_ips: value.allowed_ips.unwrap_or_default(),
        external_id: value.external_id,
        limits: value.limits.unwrap_or_default(),
        credits: value.credits,
        ..KeySpec::plain(Some(value.name), value.scopes, value.expires_at)
    };
    let request = KeyChangeRequest { app: &app, caller: &caller, context: &context, idempotency };
    let respond = |created| CreateApiKeyResponse::new(created, &context);
    request.create(fingerprint, |_| spec.clone(), respond).await
}

/// List the organization's keys, newest first.
#[utoipa::path(get, path = "/v1/organization/api-keys", operation_id = "listApiKeys",
    tag = "organization",
    params(("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("cursor" = Option<String>, Query, description = "The previous page's `cursor`."),
           ("include_revoked" = Option<bool>, Query,
            description = "Whether to include revoked and expired keys."),
           ("external_id" = Option<String>, Query,
            description = "Only keys with this external id.")),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of keys.", body = CursorList<Key>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysRead>,
    context: RequestContext,
    mut query: Query,
) -> Result<Json<CursorList<Key>>> {
    let include_revoked = query.optional("include_revoked", parse_bool).unwrap_or(false);
    let external_id = query.optional("external_id", ExternalId::parse);
    let kind = if include_revoked { PagedList::AllKeys } else { PagedList::LiveKeys };
    let organization = caller.organization;
    let page = CursorPage::from_query(&mut query, &app, kind, organization.0);
    query.finish()?;
    let (rows, cursor) = page
        .read(
            &app,
            |key: &ApiKey| key.id.uuid().as_u128(),
            async |db, after, limit| {
                let after = after.map(Uuid::from_u128);
                let external_id = external_id.as_ref().map(ExternalId::as_str);
                let filter = (include_revoked, external_id);
                repo::key_lists::list(db, organization, filter, after, limit).await
            },
        )
        .await?;
    let keys = rows.into_iter().map(Key::from).collect();
    Ok(Json(CursorList::new(keys, cursor, &context.id)))
}

/// Show a key.
#[utoipa::path(get, path = "/v1/organization/api-keys/{id}", operation_id = "getApiKey",
    tag = "organization", params(("id" = String, Path, description = "The key's id.")),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The key.", body = KeyResponse), BadRequest,
              Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysRead>,
    context: RequestContext,
    PathId(id): PathId,
) -> Result<Json<KeyResponse>> {
    let id = parse_key_id(&id)?;
    let key = app
        .db
        .tenant_transaction(caller.organization, async |db| keys::find(db, &caller, id).await)
        .await?;
    Ok(Json(KeyResponse::new(key, &context)))
}
