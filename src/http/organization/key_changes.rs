//! `/v1/organization/api-keys/{id}`: update, rotate and revoke a key.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::changes::{GRACE_SECONDS, KeyChanges};
use crate::error::Result;
use crate::http::auth::{ApiKeysWrite, Authenticated, Scoped};
use crate::http::body::{
    Fields, FromFields, JsonBody, JsonNode, parse_allowed_ips, parse_metadata_changes, text,
};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::key_endpoints::{KeyChangeRequest, parse_key_id};
use crate::http::limits_and_credits::{
    CreditsUpdate, NamedRateLimit, SNAKE_CASE, take_credit_change, take_limits_update,
};
use crate::http::organization::wire::KeyResponse;
use crate::http::path::PathId;
use crate::http::query::{Query, parse_reason};
use crate::http::render::organization::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::wire::Timestamp;
use crate::model::allowed_ips::AllowedIps;
use crate::model::credits::CreditChange;
use crate::model::member::KeyInvitedMembership;
use crate::model::metadata::MetadataChanges;
use crate::model::named_limits::NamedLimits;
use crate::model::names::{ExternalId, KeyName};
use crate::model::scope::ScopeSet;

/// The settings to change, at least one. Omitted settings stay as they are.
#[derive(ToSchema)]
#[schema(as = organization::UpdateApiKeyRequest)]
pub struct UpdateApiKeyRequest {
    /// A label, unique among the organization's live keys.
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 255,
             examples("ci"))]
    name: Option<KeyName>,
    /// The scopes of the key, within the caller's own.
    #[schema(value_type = Option<Vec<String>>, nullable = false, min_items = 1,
             examples("usage:read"))]
    scopes: Option<ScopeSet>,
    /// When it expires; null means never.
    #[schema(value_type = Option<String>, format = DateTime, examples("2036-01-01T00:00:00Z"))]
    #[expect(clippy::option_option, reason = "absent, null and a time are three different values")]
    expires_at: Option<Option<DateTime<Utc>>>,
    /// Strings to add or replace; null removes an entry.
    #[schema(value_type = Option<Object>, nullable = false,
             examples(json!({ "team": "ops", "owner": null })))]
    metadata: Option<MetadataChanges>,
    /// The networks that it may be used from; an empty list allows all.
    #[schema(value_type = Option<Vec<String>>, nullable = false, max_items = 100,
             examples("2001:db8::/32"))]
    allowed_ips: Option<AllowedIps>,
    /// Whether the key is enabled.
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Its id in another system, at most 128 characters; null removes it.
    #[schema(value_type = Option<String>, max_length = 128, examples("cus_1042"))]
    #[expect(clippy::option_option, reason = "absent, null and an id are three different values")]
    external_id: Option<Option<ExternalId>>,
    /// Replaces the rate limits that checks of it (`/v1/verify`) count against.
    #[schema(value_type = Option<Vec<NamedRateLimit>>, nullable = false, max_items = 10)]
    limits: Option<NamedLimits>,
    /// Sets its credits or adds to them; null removes them, so that checks of it (`/v1/verify`)
    /// need none.
    #[schema(value_type = Option<CreditsUpdate>)]
    credits: Option<CreditChange>,
}

impl FromFields for UpdateApiKeyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let catalogue = &fields.context.config.keys.scopes;
        if fields.is_empty() {
            fields.add_body_issue("At least one setting is required");
        }
        Some(Self {
            name: fields.non_null("name", text(KeyName::parse)),
            scopes: fields.non_null("scopes", |it| catalogue.parse(&it.into_strings()?)),
            expires_at: fields.nullable_future_time("expires_at"),
            metadata: fields.non_null("metadata", parse_metadata_changes),
            allowed_ips: fields.non_null("allowed_ips", parse_allowed_ips),
            enabled: fields.non_null("enabled", JsonNode::into_bool),
            external_id: fields.nullable("external_id", text(ExternalId::parse)),
            limits: take_limits_update::<SNAKE_CASE>(fields),
            credits: take_credit_change(fields),
        })
    }
}

/// Update a key's settings.
///
/// The key's permissions before and after the change must lie within the caller's own scopes,
/// expiry and addresses. A key that is revoked, expired or rotated cannot be changed.
#[utoipa::path(patch, path = "/v1/organization/api-keys/{id}", operation_id = "updateApiKey",
    tag = "organization", request_body = UpdateApiKeyRequest,
    params(("id" = String, Path, description = "The key's id."),
           IdempotencyHeader),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Updated.", body = KeyResponse), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused,
              Unavailable))]
pub(super) async fn update(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
    JsonBody { value, fingerprint }: JsonBody<UpdateApiKeyRequest>,
) -> Result<Response> {
    let id = parse_key_id(&id)?;
    let changes = KeyChanges {
        name: value.name,
        scopes: value.scopes,
        expires_at: value.expires_at,
        metadata: value.metadata,
        allowed_ips: value.allowed_ips,
        enabled: value.enabled,
        external_id: value.external_id,
        limits: value.limits,
        credits: value.credits,
    };
    let request = KeyChangeRequest { app: &app, caller: &caller, context: &context, idempotency };
    request.update(fingerprint, id, changes, |key| KeyResponse::new(key, &context)).await
}

/// The options of a rotation.
#[derive(ToSchema)]
#[schema(as = organization::RotateApiKeyRequest)]
pub struct RotateApiKeyRequest {
    /// How many seconds the old key still works. Default: 0.
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 604_800,
             examples(3600))]
    grace_period: Option<i32>,
}

impl FromFields for RotateApiKeyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let grace_period = fields.optional("grace_period", |node| node.into_integer(GRACE_SECONDS));
        Some(Self { grace_period })
    }
}

/// Rotate a key: create a new one with the same name and settings, which replaces it.
///
/// The old key works for the grace period, and never longer than it would have. Only this response
/// contains the new key's text.
#[utoipa::path(post, path = "/v1/organization/api-keys/{id}/rotate", operation_id = "rotateApiKey",
    tag = "organization",
    request_body(content = Option<RotateApiKeyRequest>, description = "Optional."),
    params(("id" = String, Path, description = "The key's id."),
           IdempotencyHeader),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The new key.", body = KeyResponse), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused,
              Unavailable))]
pub(super) async fn rotate(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
    JsonBody { value, fingerprint }: JsonBody<RotateApiKeyRequest>,
) -> Result<Response> {
    let id = parse_key_id(&id)?;
    let grace = value.grace_period.unwrap_or(0);
    let request = KeyChangeRequest { app: &app, caller: &caller, context: &context, idempotency };
    let respond = |created| KeyResponse::created(created, &context);
    request.rotate(fingerprint, id, grace, respond).await
}

/// Confirms that a key is revoked.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::RevokedApiKey)]
pub struct RevokedApiKey {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("api_key"))]
    object: &'static str,
    deleted: bool,
    /// The memberships from accepted invitations of the key, or of keys that it replaced, the
    /// newest 500. They stay; the open invitations were revoked.
    memberships: Vec<JoinedMembership>,
    request_id: String,
}

/// A membership from an accepted invitation of a key.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::JoinedMembership)]
pub struct JoinedMembership {
    #[schema(examples("user_FuHtj0C14AaKHJq1"))]
    user_id: String,
    /// Its current role: `owner`, `admin` or `member`.
    #[schema(examples("admin"))]
    role: &'static str,
    joined_at: Timestamp,
}

impl From<KeyInvitedMembership> for JoinedMembership {
    fn from(joined: KeyInvitedMembership) -> Self {
        let joined_at = Timestamp(joined.joined_at);
        Self { user_id: joined.handle, role: joined.role.as_str(), joined_at }
    }
}

/// Revoke a key immediately.
///
/// Revoking it again changes nothing. Any key may revoke itself. The open invitations that it
/// created or was the last to resend are revoked, too. The key stays in the list of all keys, with
/// the time and the reason.
#[utoipa::path(delete, path = "/v1/organization/api-keys/{id}", operation_id = "revokeApiKey",
    tag = "organization",
    params(("id" = String, Path, description = "The key's id."),
           ("reason" = Option<String>, Query, description = "The reason, at most 256 characters."),
           IdempotencyHeader),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Revoked.", body = RevokedApiKey), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
    mut query: Query,
) -> Result<Response> {
    let id = parse_key_id(&id)?;
    let reason = query.optional("reason", parse_reason);
    query.finish()?;
    let request = KeyChangeRequest { app: &app, caller: &caller, context: &context, idempotency };
    request
        .revoke(id, (reason.as_deref(), StatusCode::OK), |joined| {
            ChangeResponse::ok(RevokedApiKey {
                id: id.to_string(),
                object: "api_key",
                deleted: true,
                memberships: joined.into_iter().map(JoinedMembership::from).collect(),
                request_id: context.id.clone(),
            })
        })
        .await
}
