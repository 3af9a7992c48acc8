//! Types that several of this family's routes share.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::keys::CreatedKey;
use crate::http::edge::context::RequestContext;
use crate::http::limits_and_credits::{Credits, NamedRateLimit};
use crate::http::shown_once::ShownOnce;
use crate::http::wire::Timestamp;
use crate::model::api_key::ApiKey;

/// A page of results, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::Listed)]
pub struct CursorList<T> {
    object: &'static str,
    data: Vec<T>,
    /// Whether there are older items.
    has_more: bool,
    pagination: Pagination,
    request_id: String,
}

impl<T> CursorList<T> {
    /// Returns the page with these items; `cursor` points to the next one.
    pub fn new(data: Vec<T>, cursor: Option<String>, request_id: &str) -> Self {
        Self {
            object: "list",
            data,
            has_more: cursor.is_some(),
            pagination: Pagination { cursor },
            request_id: request_id.to_owned(),
        }
    }
}

/// The cursor of the next page.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::Pagination)]
pub struct Pagination {
    /// The `cursor` parameter of the next request; null on the last page.
    #[schema(required)]
    cursor: Option<String>,
}

/// An API key, without its text.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::ApiKey)]
pub struct Key {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("api_key"))]
    object: &'static str,
    #[schema(required, examples("Analytics Dashboard"))]
    name: Option<String>,
    /// The prefix of the key's text and the 4 characters after it.
    #[schema(examples("tnt_live_a1b2"))]
    prefix: String,
    /// The 8 characters after the configured prefix.
    #[schema(examples("a1b2c3d4"))]
    display_id: String,
    #[schema(examples("usage:read", "billing:read"))]
    scopes: Vec<String>,
    /// Whether the key is enabled.
    enabled: bool,
    /// The addresses and networks that it may be used from; an empty list allows all.
    #[schema(examples("203.0.113.0/24"))]
    allowed_ips: Vec<String>,
    /// The metadata stored with it.
    #[schema(value_type = Object, examples(json!({ "team": "data" })))]
    metadata: serde_json::Value,
    /// Its id in another system.
    #[schema(required, examples("cus_1042"))]
    external_id: Option<String>,
    /// The rate limits that checks of it (`/v1/verify`) count against.
    limits: Vec<NamedRateLimit>,
    /// Its credits; null if checks of it (`/v1/verify`) need none.
    #[schema(required)]
    credits: Option<Credits>,
    created_at: Timestamp,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    /// Up to 10 seconds behind.
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    #[schema(required)]
    revoked_at: Option<Timestamp>,
    #[schema(required)]
    revoked_reason: Option<String>,
    /// The key that this one replaced by rotation.
    #[schema(required)]
    rotated_from: Option<String>,
    /// The key that replaced this one by rotation.
    #[schema(required)]
    rotated_to: Option<String>,
}

impl From<ApiKey> for Key {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            object: "api_key",
            prefix: short_prefix(&key.prefix, &key.display_id),
            name: key.name,
            display_id: key.display_id,
            scopes: key.scopes.to_stored(),
            enabled: key.enabled,
            allowed_ips: key.allowed_ips.to_strings(),
            metadata: key.metadata.to_stored(),
            external_id: key.external_id,
            limits: NamedRateLimit::list(&key.limits),
            credits: key.credits.map(Credits::from),
            created_at: Timestamp(key.created_at),
            expires_at: key.expires_at.map(Timestamp),
            last_used_at: key.last_used_at.map(Timestamp),
            revoked_at: key.revoked_at.map(Timestamp),
            revoked_reason: key.revoked_reason,
            rotated_from: key.rotated_from.map(|id| id.to_string()),
            rotated_to: key.rotated_to.map(|id| id.to_string()),
        }
    }
}

/// A response with one key.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::ApiKeyAnswer)]
pub struct KeyResponse {
    /// The key's text. Only the response that creates the key contains it.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>)]
    key: ShownOnce,
    #[serde(flatten)]
    api_key: Key,
    request_id: String,
}

impl KeyResponse {
    /// Describes a key.
    pub fn new(key: ApiKey, context: &RequestContext) -> Self {
        Self { key: ShownOnce::NONE, api_key: key.into(), request_id: context.id.clone() }
    }

    /// Describes a key that was just created, with its text.
    pub fn created(CreatedKey { secret, key }: CreatedKey, context: &RequestContext) -> Self {
        Self { key: secret.into(), ..Self::new(key, context) }
    }
}

/// Returns this family's `prefix`: the prefix of the key's text and 4 more characters.
pub fn short_prefix(prefix: &str, display_id: &str) -> String {
    format!("{prefix}{}", display_id.get(..4).unwrap_or(display_id))
}
