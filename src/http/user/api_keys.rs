//! `/api/user/organizations/{organizationId}/api-keys`: an organization's keys, made and listed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::{self, CreatedKey, KeySpec};
use crate::error::{Error, Result};
use crate::http::auth::{ApiKeysRead, ApiKeysWrite, OrganizationScoped};
use crate::http::body::{Fields, FromFields, JsonBody, parse_allowed_ips, parse_metadata, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::edge::rate_limits;
use crate::http::query::{Query, parse_bool};
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{OffsetList, Success};
use crate::http::user::wire::key_start;
use crate::http::wire::Timestamp;
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::ApiKey;
use crate::model::caller::Caller;
use crate::model::ids::KeyId;
use crate::model::key_name::KeyName;
use crate::model::metadata::Metadata;
use crate::model::scope::ScopeSet;
use crate::repo;

/// An organization's key.
#[derive(Serialize, ToSchema)]
#[schema(as = user::OrganizationKey)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationKey {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(required, examples("Analytics Dashboard"))]
    name: Option<String>,
    /// The key's text: in the answer that mints it and never again, not even in a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    pub(super) key: Option<String>,
    /// What its text starts with: the prefix and 4 characters.
    #[schema(examples("tnt_live_LfbR"))]
    start: String,
    #[schema(examples("usage:read", "billing:read"))]
    scopes: Vec<String>,
    #[schema(examples("org_79d0fHwDRh"))]
    organization_id: String,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    /// Whether it has no end: in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    never_expires: Option<bool>,
    /// Up to 10 seconds behind.
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
    /// Whether it may be used while it lives.
    enabled: bool,
    #[schema(required)]
    revoked_at: Option<Timestamp>,
}

impl OrganizationKey {
    /// A key of the caller's organization, without its text.
    pub(super) fn new(caller: &Caller, key: ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            key: None,
            start: key_start(&key.prefix, &key.display_id),
            scopes: key.scopes.to_stored(),
            organization_id: caller.organization_handle.clone(),
            expires_at: key.expires_at.map(Timestamp),
            never_expires: None,
            last_used_at: key.last_used_at.map(Timestamp),
            created_at: Timestamp(key.created_at),
            enabled: key.enabled,
            revoked_at: key.revoked_at.map(Timestamp),
        }
    }

    /// A key just made, without its text.
    fn created(caller: &Caller, key: ApiKey) -> Self {
        Self { never_expires: Some(key.expires_at.is_none()), ..Self::new(caller, key) }
    }
}

/// What a key is to be.
#[derive(ToSchema)]
#[schema(as = user::CreateOrganizationKeyRequest)]
#[expect(non_snake_case, reason = "the contract's names")]
pub struct CreateOrganizationKeyRequest {
    /// A label, unique among the organization's live keys.
    #[schema(value_type = String, min_length = 1, max_length = 255,
             examples("Analytics Dashboard"))]
    name: KeyName,
    /// What it may do, within what the caller may.
    #[schema(value_type = Vec<String>, min_items = 1,
             examples("usage:read", "billing:read"))]
    scopes: ScopeSet,
    /// When it ends, no later than the caller's own key or token; never, where left out.
    #[schema(value_type = Option<String>, format = DateTime,
             examples("2036-01-01T00:00:00Z"))]
    expiresAt: Option<DateTime<Utc>>,
    /// Strings, together at most 4 KiB.
    #[schema(value_type = Option<Object>, examples(json!({ "team": "data" })))]
    metadata: Option<Metadata>,
    /// The networks it may be used from; everywhere, where left out.
    #[schema(value_type = Option<Vec<String>>, max_items = 100,
             examples("203.0.113.0/24"))]
    allowedIps: Option<AllowedIps>,
}

impl FromFields for CreateOrganizationKeyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let catalogue = &fields.context.config.keys.scopes;
        let name = fields.required("name", text(|it| KeyName::parse(it, KeyName::MAX)));
        let scopes = fields.required("scopes", |it| catalogue.parse(&it.into_strings()?));
        let expires_at = fields.future_time("expiresAt");
        let metadata = fields.optional("metadata", parse_metadata);
        let allowed_ips = fields.optional("allowedIps", parse_allowed_ips);
        Some(Self {
            name: name?,
            scopes: scopes?,
            expiresAt: expires_at,
            metadata,
            allowedIps: allowed_ips,
        })
    }
}

/// Make a key of the organization, within the caller's own scopes, expiry and addresses.
///
/// The key's text is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/api-keys",
    operation_id = "createOrganizationKey", tag = "user",
    request_body = CreateOrganizationKeyRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 201, description = "Made.", body = Success<OrganizationKey>), BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, IdempotencyReused,
              Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value, fingerprint }: JsonBody<CreateOrganizationKeyRequest>,
) -> Result<Response> {
    let CreateOrganizationKeyRequest { name, scopes, expiresAt, metadata, allowedIps } = value;
    let spec = KeySpec {
        metadata: metadata.unwrap_or_default(),
        allowed_ips: allowedIps.unwrap_or_default(),
        ..KeySpec::plain(Some(name), scopes, expiresAt)
    };
    let count = rate_limits::count_key_creation(&app, &context, caller.organization);
    idempotency.count_unless_replay(&app, &caller, &fingerprint, count).await?;
    let reach = spec.permissions();
    let check = async |_: &mut _| reach.require_within(&caller);
    idempotency
        .run_checked(&app, &caller, fingerprint, check, async |tx| {
            let audit = context.audit_context_for(StatusCode::CREATED);
            let CreatedKey { secret, key } =
                keys::create(&app, tx, &caller, |_| spec, &audit).await?;
            let body = Success::created("API key created", OrganizationKey::created(&caller, key));
            Ok(ChangeResponse::created(body).with_secret(secret, |body| &mut body.data.key))
        })
        .await
}

/// List the organization's keys, newest first.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/api-keys",
    operation_id = "listOrganizationKeys", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("offset" = Option<i64>, Query, description = "How many to pass over."),
           ("limit" = Option<i64>, Query, description = "How many at most: 1 to 100."),
           ("q" = Option<String>, Query, description = "What the name has to contain."),
           ("includeRevoked" = Option<bool>, Query,
            description = "Also the revoked and expired ones.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The keys.", body = OffsetList<OrganizationKey>),
              BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ApiKeysRead>,
    mut query: Query,
) -> Result<Json<OffsetList<OrganizationKey>>> {
    let part = OffsetPage::from_query(&mut query);
    let all = query.optional("includeRevoked", parse_bool).unwrap_or(false);
    query.finish()?;
    let (organization, search, window) =
        (caller.organization, part.search.as_deref(), part.offset_and_limit());
    let (found, total) = app
        .db
        .tenant_transaction(caller.organization, async |db| {
            repo::keys::list_page(db, organization, all, search, window).await
        })
        .await?;
    let found = found.into_iter().map(|key| OrganizationKey::new(&caller, key)).collect();
    Ok(Json(OffsetList::ok("API keys fetched", found, part.meta(total))))
}

/// Reads the id in a path; what is no id of a key names no key.
pub(super) fn parse_id(text: &str) -> Result<KeyId> {
    KeyId::parse(text).ok_or_else(|| Error::not_found("There is no such key"))
}
