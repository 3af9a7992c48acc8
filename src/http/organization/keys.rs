//! `/v1/organization/api-keys`: made, listed, shown.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::{self, KeySpec, Minted};
use crate::error::{Error, Result};
use crate::http::body::{Fields, FromFields, JsonBody, allowed_ips, metadata, text};
use crate::http::caller::{ApiKeysRead, ApiKeysWrite, Scoped};
use crate::http::context::RequestContext;
use crate::http::idempotency::{Idempotency, IdempotencyHeader, Reply};
use crate::http::limits;
use crate::http::organization::dialect::{
    BadRequest, Conflict, Forbidden, NotFound, Reused, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::organization::wire::{Key, KeyAnswer, Listed, short_prefix};
use crate::http::page::Page;
use crate::http::path::PathId;
use crate::http::query::{Query, boolean};
use crate::http::wire::Timestamp;
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::ApiKey;
use crate::model::cursor::List;
use crate::model::ids::KeyId;
use crate::model::key_name::KeyName;
use crate::model::metadata::Metadata;
use crate::model::scope::ScopeSet;
use crate::repo;

/// What a key is to be.
#[derive(ToSchema)]
#[schema(as = organization::CreateApiKeyRequest)]
pub struct CreateRequest {
    /// A label, unique among the organization's live keys.
    #[schema(value_type = String, min_length = 1, max_length = 255,
             examples("Analytics Dashboard"))]
    name: KeyName,
    /// What it may do, within what the caller may.
    #[schema(value_type = Vec<String>, min_items = 1,
             examples("usage:read", "billing:read"))]
    scopes: ScopeSet,
    /// When it ends, no later than the caller's own key; never, where left out.
    #[schema(value_type = Option<String>, format = DateTime,
             examples("2036-01-01T00:00:00Z"))]
    expires_at: Option<DateTime<Utc>>,
    /// Strings, together at most 4 KiB.
    #[schema(value_type = Option<Object>, examples(json!({ "team": "data" })))]
    metadata: Option<Metadata>,
    /// The networks it may be used from; everywhere, where left out.
    #[schema(value_type = Option<Vec<String>>, max_items = 100,
             examples("203.0.113.0/24"))]
    allowed_ips: Option<AllowedIps>,
}

impl FromFields for CreateRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let catalogue = &fields.rules.config.keys.scopes;
        let name = fields.required("name", text(|it| KeyName::parse(it, KeyName::MAX)));
        let scopes = fields.required("scopes", |it| catalogue.parse(&it.into_texts()?));
        let expires_at = fields.future("expires_at");
        let metadata = fields.optional("metadata", metadata);
        let allowed_ips = fields.optional("allowed_ips", allowed_ips);
        Some(Self { name: name?, scopes: scopes?, expires_at, metadata, allowed_ips })
    }
}

/// A key just made.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::CreatedApiKey)]
pub struct MintedKey {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("api_key"))]
    object: &'static str,
    #[schema(required, examples("Analytics Dashboard"))]
    name: Option<String>,
    /// The key's text. It is shown here and never again, not even in a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    key: Option<String>,
    /// What the key's text starts with, and the 4 characters after that.
    #[schema(examples("tnt_live_LfbR"))]
    prefix: String,
    #[schema(examples("usage:read", "billing:read"))]
    scopes: Vec<String>,
    created_at: Timestamp,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    /// Whether it has no end.
    never_expires: bool,
    request_id: String,
}

impl MintedKey {
    /// Without its text.
    fn new(key: ApiKey, context: &RequestContext) -> Self {
        Self {
            id: key.id.to_string(),
            object: "api_key",
            key: None,
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

/// Make a key of the caller's organization, within the caller's own scopes, expiry and addresses.
///
/// The key's text is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/organization/api-keys", operation_id = "createApiKey",
    tag = "organization", request_body = CreateRequest,
    params(IdempotencyHeader),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 201, description = "Made.", body = MintedKey), BadRequest, Unauthorized,
              Forbidden, Conflict, TooLarge, UnsupportedMediaType, Reused, Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value, said }: JsonBody<CreateRequest>,
) -> Result<Response> {
    let CreateRequest { name, scopes, expires_at, metadata, allowed_ips } = value;
    let spec = KeySpec {
        metadata: metadata.unwrap_or_default(),
        allowed_ips: allowed_ips.unwrap_or_default(),
        ..KeySpec::plain(Some(name), scopes, expires_at)
    };
    let count = limits::count_mint(&app, &context, caller.organization);
    idempotency.limit(&app, &caller, &said, count).await?;
    let reach = spec.reach();
    let check = async |_: &mut _| reach.require_within(&caller);
    idempotency
        .run_checked(&app, &caller, said, check, async |tx| {
            let trail = context.trail_of(StatusCode::CREATED);
            let Minted { secret, key } = keys::create(&app, tx, &caller, |_| spec, &trail).await?;
            let body = MintedKey::new(key, &context);
            Ok(Reply::created(body).showing(secret, |body| &mut body.key))
        })
        .await
}

/// List the organization's keys, newest first.
#[utoipa::path(get, path = "/v1/organization/api-keys", operation_id = "listApiKeys",
    tag = "organization",
    params(("limit" = Option<i64>, Query, description = "1 to 100; 20 where left out."),
           ("cursor" = Option<String>, Query, description = "From the page before."),
           ("include_revoked" = Option<bool>, Query,
            description = "Also the revoked and expired ones.")),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of keys.", body = Listed<Key>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysRead>,
    context: RequestContext,
    mut query: Query,
) -> Result<Json<Listed<Key>>> {
    let all = query.optional("include_revoked", boolean).unwrap_or(false);
    let kind = if all { List::AllKeys } else { List::LiveKeys };
    let organization = caller.organization;
    let page = Page::read(&mut query, &app, kind, organization.0);
    query.finish()?;
    let after = page.after.map(uuid::Uuid::from_u128);
    let found = app.db.tenant(caller.organization, async |db| {
        repo::keys::list(db, organization, all, after, page.probe()).await
    });
    let mut found = found.await?;
    let cursor = page.cut(&app, &mut found, |key| key.id.uuid().as_u128());
    let data = found.into_iter().map(Key::from).collect();
    Ok(Json(Listed::new(data, cursor, &context.id)))
}

/// Show a key.
#[utoipa::path(get, path = "/v1/organization/api-keys/{id}", operation_id = "getApiKey",
    tag = "organization", params(("id" = String, Path, description = "The key's id.")),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The key.", body = KeyAnswer), BadRequest,
              Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysRead>,
    context: RequestContext,
    PathId(id): PathId,
) -> Result<Json<KeyAnswer>> {
    let id = parse_id(&id)?;
    let key =
        app.db.tenant(caller.organization, async |db| keys::find(db, &caller, id).await).await?;
    Ok(Json(KeyAnswer { key: None, api_key: key.into(), request_id: context.id.clone() }))
}

/// Reads the id in a path; what is no id of a key names no key.
pub(super) fn parse_id(text: &str) -> Result<KeyId> {
    KeyId::parse(text).ok_or_else(|| Error::not_found("There is no such key"))
}
