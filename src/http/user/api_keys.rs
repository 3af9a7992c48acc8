//! `/api/user/organizations/{organizationId}/api-keys`: create and list an organization's keys.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::{CreatedKey, KeySpec};
use crate::error::Result;
use crate::http::auth::{ApiKeysRead, ApiKeysWrite, OrganizationScoped};
use crate::http::body::{Fields, FromFields, JsonBody, parse_allowed_ips, parse_metadata, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{Idempotency, IdempotencyHeader};
use crate::http::key_endpoints::KeyChangeRequest;
use crate::http::limits_and_credits::{
    CAMEL_CASE, CamelCaseLimit, Credits, take_credits, take_limits,
};
use crate::http::query::{Query, parse_bool};
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::shown_once::ShownOnce;
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{OffsetList, Success};
use crate::http::user::wire::key_start;
use crate::http::wire::Timestamp;
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::ApiKey;
use crate::model::caller::Caller;
use crate::model::credits;
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::names::{ExternalId, KeyName};
use crate::model::scope::ScopeSet;
use crate::repo;

/// An organization key.
#[derive(Serialize, ToSchema)]
#[schema(as = user::OrganizationKey)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationKey {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(required, examples("Analytics Dashboard"))]
    name: Option<String>,
    /// The key's text. Only the response that creates the key contains it; a replay does not.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>,
             examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    key: ShownOnce,
    /// The start of its text: the prefix and 4 characters.
    #[schema(examples("tnt_live_LfbR"))]
    start: String,
    #[schema(examples("usage:read", "billing:read"))]
    scopes: Vec<String>,
    #[schema(examples("org_79d0fHwDRh"))]
    organization_id: String,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    /// Whether it never expires. Only the response that creates the key contains this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    never_expires: Option<bool>,
    /// When it was last used, up to 10 seconds behind.
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
    /// Whether it is enabled; a disabled key is rejected.
    enabled: bool,
    #[schema(required)]
    revoked_at: Option<Timestamp>,
    /// Its id in another system.
    #[schema(required, examples("cus_1042"))]
    external_id: Option<String>,
    /// The rate limits that checks of it (`/v1/verify`) count against.
    limits: Vec<CamelCaseLimit>,
    /// Its credits; null if checks of it (`/v1/verify`) need none.
    #[schema(required)]
    credits: Option<Credits>,
}

impl OrganizationKey {
    /// Describes a key of the caller's organization, without its text.
    pub(super) fn new(caller: &Caller, key: ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            key: ShownOnce::NONE,
            start: key_start(&key.prefix, &key.display_id),
            scopes: key.scopes.to_stored(),
            organization_id: caller.organization_handle.clone(),
            expires_at: key.expires_at.map(Timestamp),
            never_expires: None,
            last_used_at: key.last_used_at.map(Timestamp),
            created_at: Timestamp(key.created_at),
            enabled: key.enabled,
            revoked_at: key.revoked_at.map(Timestamp),
            external_id: key.external_id,
            limits: CamelCaseLimit::list(&key.limits),
            credits: key.credits.map(Credits::from),
        }
    }

    /// Describes a key that was just created, with its text.
    pub(super) fn created(caller: &Caller, CreatedKey { secret, key }: CreatedKey) -> Self {
        Self { key: secret.into(), ..Self::new(caller, key) }
    }
}

/// The attributes of a key to create.
#[derive(ToSchema)]
#[schema(as = user::CreateOrganizationKeyRequest)]
#[expect(non_snake_case, reason = "the contract's names")]
pub struct CreateOrganizationKeyRequest {
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
    expiresAt: Option<DateTime<Utc>>,
    /// Strings by name, at most 4 KiB in total.
    #[schema(value_type = Option<Object>, examples(json!({ "team": "data" })))]
    metadata: Option<Metadata>,
    /// The networks that the key may be used from. Default: any.
    #[schema(value_type = Option<Vec<String>>, max_items = 100,
             examples("203.0.113.0/24"))]
    allowedIps: Option<AllowedIps>,
    /// Its id in another system, at most 128 characters.
    #[schema(value_type = Option<String>, max_length = 128, examples("cus_1042"))]
    externalId: Option<ExternalId>,
    /// Rate limits that checks of it (`/v1/verify`) count against, in addition to those of the
    /// organization.
    #[schema(value_type = Option<Vec<CamelCaseLimit>>, max_items = 10)]
    limits: Option<NamedLimits>,
    /// Prepaid units that checks of it (`/v1/verify`) take. Default: checks need none.
    #[schema(value_type = Option<Credits>)]
    credits: Option<credits::Credits>,
}

impl FromFields for CreateOrganizationKeyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let catalogue = &fields.context.config.keys.scopes;
        let name = fields.required("name", text(KeyName::parse));
        let scopes = fields.required("scopes", |it| catalogue.parse(&it.into_strings()?));
        let expires_at = fields.future_time("expiresAt");
        let metadata = fields.optional("metadata", parse_metadata);
        let allowed_ips = fields.optional("allowedIps", parse_allowed_ips);
        let external_id = fields.optional("externalId", text(ExternalId::parse));
        let limits = take_limits::<CAMEL_CASE>(fields);
        let credits = take_credits(fields);
        Some(Self {
            name: name?,
            scopes: scopes?,
            expiresAt: expires_at,
            metadata,
            allowedIps: allowed_ips,
            externalId: external_id,
            limits,
            credits,
        })
    }
}

/// Create a key of the organization, within the caller's own scopes, expiry and allowed addresses.
///
/// Only this response contains the key's text.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/api-keys",
    operation_id = "createOrganizationKey", tag = "user",
    request_body = CreateOrganizationKeyRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 201, description = "Created.", body = Success<OrganizationKey>), BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, IdempotencyReused,
              Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value, fingerprint }: JsonBody<CreateOrganizationKeyRequest>,
) -> Result<Response> {
    let spec = KeySpec {
        metadata: value.metadata.unwrap_or_default(),
        allowed_ips: value.allowedIps.unwrap_or_default(),
        external_id: value.externalId,
        limits: value.limits.unwrap_or_default(),
        credits: value.credits,
        ..KeySpec::plain(Some(value.name), value.scopes, value.expiresAt)
    };
    let request = KeyChangeRequest { app: &app, caller: &caller, context: &context, idempotency };
    let respond = |created: CreatedKey| {
        let never_expires = Some(created.key.expires_at.is_none());
        let key = OrganizationKey { never_expires, ..OrganizationKey::created(&caller, created) };
        Success::created("API key created", key)
    };
    request.create(fingerprint, |_| spec.clone(), respond).await
}

/// List the organization's keys, newest first.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/api-keys",
    operation_id = "listOrganizationKeys", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query, description = "Text that the name must contain."),
           ("includeRevoked" = Option<bool>, Query,
            description = "Whether to include revoked and expired keys."),
           ("externalId" = Option<String>, Query,
            description = "Only keys with this external id.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The keys.", body = OffsetList<OrganizationKey>),
              BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ApiKeysRead>,
    mut query: Query,
) -> Result<Json<OffsetList<OrganizationKey>>> {
    let page = OffsetPage::from_query(&mut query);
    let include_revoked = query.optional("includeRevoked", parse_bool).unwrap_or(false);
    let external_id = query.optional("externalId", ExternalId::parse);
    query.finish()?;
    let (organization, render) = (caller.organization, |key| OrganizationKey::new(&caller, key));
    page.respond(&app, organization, ("API keys fetched", render), async |db, search, window| {
        let filter = (include_revoked, external_id.as_ref().map(ExternalId::as_str));
        repo::key_lists::list_page(db, organization, filter, search, window).await
    })
    .await
}
