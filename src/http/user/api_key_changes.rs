//! `/api/user/organizations/{organizationId}/api-keys/{id}`: update, rotate and revoke a key.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::changes::{GRACE_SECONDS, KeyChanges};
use crate::error::Result;
use crate::http::auth::{ApiKeysWrite, InOrganization, OrganizationScoped};
use crate::http::body::{
    Fields, FromFields, JsonBody, JsonNode, parse_allowed_ips, parse_metadata_changes, text,
};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::key_endpoints::{KeyChangeRequest, parse_key_id};
use crate::http::limits_and_credits::{
    CAMEL_CASE, CamelCaseLimit, CreditsUpdate, take_credit_change, take_limits_update,
};
use crate::http::path::PathId;
use crate::http::query::{Query, parse_reason};
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::user::api_keys::OrganizationKey;
use crate::http::user::responses::Success;
use crate::http::wire::Timestamp;
use crate::model::allowed_ips::AllowedIps;
use crate::model::credits::CreditChange;
use crate::model::member::KeyInvitedMembership;
use crate::model::metadata::MetadataChanges;
use crate::model::named_limits::NamedLimits;
use crate::model::names::{ExternalId, KeyName};
use crate::model::scope::ScopeSet;

/// The settings to change, at least one. Omitted settings keep their values.
#[derive(ToSchema)]
#[schema(as = user::UpdateOrganizationKeyRequest)]
#[expect(non_snake_case, reason = "the contract's names")]
pub struct UpdateOrganizationKeyRequest {
    /// A label, unique among the organization's live keys.
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 255,
             examples("ci"))]
    name: Option<KeyName>,
    /// The scopes of the key, within the caller's own.
    #[schema(value_type = Option<Vec<String>>, nullable = false, min_items = 1,
             examples("usage:read"))]
    scopes: Option<ScopeSet>,
    /// When the key expires; null means never.
    #[schema(value_type = Option<String>, format = DateTime, examples("2036-01-01T00:00:00Z"))]
    #[expect(clippy::option_option, reason = "absent, null and a time are three things")]
    expiresAt: Option<Option<DateTime<Utc>>>,
    /// Strings to add or replace by name; null removes an entry.
    #[schema(value_type = Option<Object>, nullable = false,
             examples(json!({ "team": "ops", "owner": null })))]
    metadata: Option<MetadataChanges>,
    /// The networks that the key may be used from; an empty list means any.
    #[schema(value_type = Option<Vec<String>>, nullable = false, max_items = 100,
             examples("2001:db8::/32"))]
    allowedIps: Option<AllowedIps>,
    /// Whether the key may be used.
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Its id in another system, at most 128 characters; null removes it.
    #[schema(value_type = Option<String>, max_length = 128, examples("cus_1042"))]
    #[expect(clippy::option_option, reason = "absent, null and an id are three things")]
    externalId: Option<Option<ExternalId>>,
    /// Replaces the rate limits that checks of it (`/v1/verify`) count against.
    #[schema(value_type = Option<Vec<CamelCaseLimit>>, nullable = false, max_items = 10)]
    limits: Option<NamedLimits>,
    /// Sets its credits or adds to them; null removes them, so that checks of it (`/v1/verify`)
    /// need none.
    #[schema(value_type = Option<CreditsUpdate>)]
    credits: Option<CreditChange>,
}

impl FromFields for UpdateOrganizationKeyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let catalogue = &fields.context.config.keys.scopes;
        if fields.is_empty() {
            fields.add_body_issue("At least one setting is required");
        }
        Some(Self {
            name: fields.non_null("name", text(KeyName::parse)),
            scopes: fields.non_null("scopes", |it| catalogue.parse(&it.into_strings()?)),
            expiresAt: fields.nullable_future_time("expiresAt"),
            metadata: fields.non_null("metadata", parse_metadata_changes),
            allowedIps: fields.non_null("allowedIps", parse_allowed_ips),
            enabled: fields.non_null("enabled", JsonNode::into_bool),
            externalId: fields.nullable("externalId", text(ExternalId::parse)),
            limits: take_limits_update::<CAMEL_CASE>(fields),
            credits: take_credit_change(fields),
        })
    }
}

/// Update a key's settings.
///
/// The key must be within the caller's own scopes, expiry and allowed addresses, both before and
/// after the change. A key that is revoked, expired or replaced by a rotation cannot be changed.
#[utoipa::path(put, path = "/api/user/organizations/{organizationId}/api-keys/{id}",
    operation_id = "updateOrganizationKey", tag = "user",
    request_body = UpdateOrganizationKeyRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The key's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed.", body = Success<OrganizationKey>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused,
              Unavailable))]
pub(super) async fn update(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
    JsonBody { value, fingerprint }: JsonBody<UpdateOrganizationKeyRequest>,
) -> Result<Response> {
    let id = parse_key_id(&id)?;
    let changes = KeyChanges {
        name: value.name,
        scopes: value.scopes,
        expires_at: value.expiresAt,
        metadata: value.metadata,
        allowed_ips: value.allowedIps,
        enabled: value.enabled,
        external_id: value.externalId,
        limits: value.limits,
        credits: value.credits,
    };
    let request = KeyChangeRequest { app: &app, caller: &caller, context: &context, idempotency };
    let respond = |key| Success::ok("API key updated", OrganizationKey::new(&caller, key));
    request.update(fingerprint, id, changes, respond).await
}

/// The memberships that were created by accepting invitations of a revoked key.
#[derive(Serialize, ToSchema)]
#[schema(as = user::RevokedOrganizationKey)]
pub struct RevokedKey {
    success: bool,
    /// The newest 500 memberships that were created by accepting invitations of this key, or of a
    /// key that it replaced. They continue; the key's open invitations are revoked.
    memberships: Vec<JoinedMembership>,
}

/// A membership that was created by accepting an invitation of a key.
#[derive(Serialize, ToSchema)]
#[schema(as = user::JoinedMembership)]
#[serde(rename_all = "camelCase")]
pub struct JoinedMembership {
    #[schema(examples("user_FuHtj0C14AaKHJq1"))]
    user_id: String,
    /// The current role: `owner`, `admin` or `member`.
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

/// Revoke a key, effective immediately.
///
/// Revoking it again changes nothing. Any key may revoke itself. The open invitations that the key
/// created or was the last to resend are revoked, too. The key stays in the list with
/// `includeRevoked=true`, with the time of its revocation.
#[utoipa::path(delete, path = "/api/user/organizations/{organizationId}/api-keys/{id}",
    operation_id = "revokeOrganizationKey", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The key's id."),
           ("reason" = Option<String>, Query, description = "At most 256 characters."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The key is revoked.", body = Success<RevokedKey>),
              BadRequest, Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused,
              Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    InOrganization(caller): InOrganization,
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
            let memberships = joined.into_iter().map(JoinedMembership::from).collect();
            let revoked = RevokedKey { success: true, memberships };
            ChangeResponse::ok(Success::ok("API key revoked", revoked))
        })
        .await
}

/// The options of a rotation.
#[derive(ToSchema)]
#[schema(as = user::RotateOrganizationKeyRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct RotateOrganizationKeyRequest {
    /// How many seconds the old key remains valid. Default: 0.
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 604_800,
             examples(3600))]
    gracePeriod: Option<i32>,
}

impl FromFields for RotateOrganizationKeyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let grace_period = fields.optional("gracePeriod", |node| node.into_integer(GRACE_SECONDS));
        Some(Self { gracePeriod: grace_period })
    }
}

/// Rotate a key: replace it by a new key with the same name and settings.
///
/// The old key remains valid for the grace period, but not beyond its own expiry. Only this
/// response contains the new key's text.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/api-keys/{id}/rotate",
    operation_id = "rotateOrganizationKey", tag = "user",
    request_body(content = Option<RotateOrganizationKeyRequest>, description = "Optional."),
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The key's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The new key.", body = Success<OrganizationKey>),
              BadRequest, Unauthorized, Forbidden, NotFound, Conflict, TooLarge,
              UnsupportedMediaType, IdempotencyReused, Unavailable))]
pub(super) async fn rotate(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
    JsonBody { value, fingerprint }: JsonBody<RotateOrganizationKeyRequest>,
) -> Result<Response> {
    let id = parse_key_id(&id)?;
    let grace = value.gracePeriod.unwrap_or(0);
    let request = KeyChangeRequest { app: &app, caller: &caller, context: &context, idempotency };
    let respond =
        |created| Success::ok("API key rotated", OrganizationKey::created(&caller, created));
    request.rotate(fingerprint, id, grace, respond).await
}
