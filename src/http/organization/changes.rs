//! `/v1/organization/api-keys/{id}`: changed, rotated, revoked.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::containment;
use crate::domain::key_changes::{self, GRACE, KeyChanges};
use crate::domain::keys::{self, Minted};
use crate::error::Result;
use crate::http::body::{
    Fields, FromFields, JsonBody, Node, Said, allowed_ips, metadata_changes, text,
};
use crate::http::caller::{ApiKeysWrite, Authenticated, Scoped};
use crate::http::context::RequestContext;
use crate::http::idempotency::{Idempotency, IdempotencyHeader, Reply};
use crate::http::limits;
use crate::http::organization::dialect::{
    BadRequest, Conflict, Forbidden, NotFound, Reused, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::organization::keys::parse_id;
use crate::http::organization::wire::KeyAnswer;
use crate::http::path::PathId;
use crate::http::query::{Query, reason};
use crate::http::wire::Timestamp;
use crate::model::allowed_ips::AllowedIps;
use crate::model::key_name::KeyName;
use crate::model::member::JoinedByKey;
use crate::model::metadata::MetadataChanges;
use crate::model::scope::ScopeSet;

/// The settings to change, at least one; what is left out stays.
#[derive(ToSchema)]
#[schema(as = organization::UpdateApiKeyRequest)]
pub struct UpdateRequest {
    /// A label, unique among the organization's live keys.
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 255,
             examples("ci"))]
    name: Option<KeyName>,
    /// What it may do, within what the caller may.
    #[schema(value_type = Option<Vec<String>>, nullable = false, min_items = 1,
             examples("usage:read"))]
    scopes: Option<ScopeSet>,
    /// When it ends; null is never.
    #[schema(value_type = Option<String>, format = DateTime, examples("2036-01-01T00:00:00Z"))]
    #[expect(clippy::option_option, reason = "absent, null and a time are three things")]
    expires_at: Option<Option<DateTime<Utc>>>,
    /// Strings to add or replace; null removes one.
    #[schema(value_type = Option<Object>, nullable = false,
             examples(json!({ "team": "ops", "owner": null })))]
    metadata: Option<MetadataChanges>,
    /// The networks it may be used from; an empty list is everywhere.
    #[schema(value_type = Option<Vec<String>>, nullable = false, max_items = 100,
             examples("2001:db8::/32"))]
    allowed_ips: Option<AllowedIps>,
    /// Whether it may be used.
    #[schema(nullable = false)]
    enabled: Option<bool>,
}

impl FromFields for UpdateRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let catalogue = &fields.rules.config.keys.scopes;
        if fields.are_none() {
            fields.refuse("Name at least one setting to change");
        }
        Some(Self {
            name: fields.changed("name", text(|it| KeyName::parse(it, KeyName::MAX))),
            scopes: fields.changed("scopes", |it| catalogue.parse(&it.into_texts()?)),
            expires_at: fields.nullable_future("expires_at"),
            metadata: fields.changed("metadata", metadata_changes),
            allowed_ips: fields.changed("allowed_ips", allowed_ips),
            enabled: fields.changed("enabled", Node::into_bool),
        })
    }
}

/// Change a key's settings.
///
/// What the key was and what it becomes lie within the caller's own scopes, expiry and
/// addresses. A key that
/// is revoked, expired or rotated away stays as it is.
#[utoipa::path(patch, path = "/v1/organization/api-keys/{id}", operation_id = "updateApiKey",
    tag = "organization", request_body = UpdateRequest,
    params(("id" = String, Path, description = "The key's id."),
           IdempotencyHeader),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed.", body = KeyAnswer), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType, Reused,
              Unavailable))]
pub(super) async fn update(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
    JsonBody { value, said }: JsonBody<UpdateRequest>,
) -> Result<Response> {
    let id = parse_id(&id)?;
    let UpdateRequest { name, scopes, expires_at, metadata, allowed_ips, enabled } = value;
    let changes = KeyChanges { name, scopes, expires_at, metadata, allowed_ips, enabled };
    let check = async |tx: &mut _| containment::require_reach(tx, &caller, id).await;
    idempotency
        .run_checked(&app, &caller, said, check, async |tx| {
            let trail = context.trail();
            let key = key_changes::update(tx, &caller, id, &changes, &trail).await?;
            let request_id = context.id.clone();
            let body = KeyAnswer { key: None, api_key: key.into(), request_id };
            Ok(Reply::ok(body))
        })
        .await
}

/// How a key is to be rotated.
#[derive(ToSchema)]
#[schema(as = organization::RotateApiKeyRequest)]
pub struct RotateRequest {
    /// For how many seconds the old key still works; not at all, where left out.
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 604_800,
             examples(3600))]
    grace_period: Option<i32>,
}

impl FromFields for RotateRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let grace_period = fields.optional("grace_period", |node| node.into_whole(GRACE));
        Some(Self { grace_period })
    }
}

/// Rotate a key: a new one with the same name and settings takes over.
///
/// The old key works for the grace period, and never longer than it would have. The new key's text
/// is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/organization/api-keys/{id}/rotate", operation_id = "rotateApiKey",
    tag = "organization",
    request_body(content = Option<RotateRequest>, description = "May be left out."),
    params(("id" = String, Path, description = "The key's id."),
           IdempotencyHeader),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The new key.", body = KeyAnswer), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType, Reused,
              Unavailable))]
pub(super) async fn rotate(
    State(app): State<App>,
    Scoped(caller, _): Scoped<ApiKeysWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
    JsonBody { value, said }: JsonBody<RotateRequest>,
) -> Result<Response> {
    let id = parse_id(&id)?;
    let grace = value.grace_period.unwrap_or(0);
    let count = limits::count_mint(&app, &context, caller.organization);
    idempotency.limit(&app, &caller, &said, count).await?;
    let check = async |tx: &mut _| containment::require_reach(tx, &caller, id).await;
    idempotency
        .run_checked(&app, &caller, said, check, async |tx| {
            let trail = context.trail();
            let Minted { secret, key } =
                key_changes::rotate(&app, tx, &caller, id, grace, &trail).await?;
            let request_id = context.id.clone();
            let body = KeyAnswer { key: None, api_key: key.into(), request_id };
            Ok(Reply::ok(body).showing(secret, |body| &mut body.key))
        })
        .await
}

/// That a key is revoked.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::RevokedApiKey)]
pub struct Revoked {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("api_key"))]
    object: &'static str,
    deleted: bool,
    /// The memberships that began by invitations of the key, or of one that it took over from, the
    /// newest 500. They go on; the invitations that were open have ended.
    memberships: Vec<JoinedMembership>,
    request_id: String,
}

/// A membership that began by an invitation of a key.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::JoinedMembership)]
pub struct JoinedMembership {
    #[schema(examples("user_FuHtj0C14AaKHJq1"))]
    user_id: String,
    /// The role that it has now: `owner`, `admin` or `member`.
    #[schema(examples("admin"))]
    role: &'static str,
    joined_at: Timestamp,
}

impl From<JoinedByKey> for JoinedMembership {
    fn from(joined: JoinedByKey) -> Self {
        let joined_at = Timestamp(joined.joined_at);
        Self { user_id: joined.handle, role: joined.role.as_str(), joined_at }
    }
}

/// Revoke a key at once. A second time changes nothing. Any key may revoke itself.
///
/// The open invitations that it made or sent again last end, too. The key stays in the list of all
/// keys, with the time and the reason.
#[utoipa::path(delete, path = "/v1/organization/api-keys/{id}", operation_id = "revokeApiKey",
    tag = "organization",
    params(("id" = String, Path, description = "The key's id."),
           ("reason" = Option<String>, Query, description = "Why, in at most 256 characters."),
           IdempotencyHeader),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "It is revoked.", body = Revoked), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, Reused, Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
    mut query: Query,
) -> Result<Response> {
    let id = parse_id(&id)?;
    let reason = query.optional("reason", reason);
    query.finish()?;
    let check = async |tx: &mut _| containment::require_revocable(tx, &caller, id).await;
    idempotency
        .run_checked(&app, &caller, Said::NOTHING, check, async |tx| {
            let trail = context.trail();
            let joined = keys::revoke(tx, &caller, id, reason.as_deref(), &trail).await?;
            let body = Revoked {
                id: id.to_string(),
                object: "api_key",
                deleted: true,
                memberships: joined.into_iter().map(JoinedMembership::from).collect(),
                request_id: context.id.clone(),
            };
            Ok(Reply::ok(body))
        })
        .await
}
