//! What several of this family's routes send.

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::wire::Timestamp;
use crate::model::api_key::ApiKey;

/// A page of a list, newest first.
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
    /// The page with these items, and the cursor of the next one.
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

/// Where the next page begins.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::Pagination)]
pub struct Pagination {
    /// For the `cursor` of the next request; null on the last page.
    #[schema(required)]
    cursor: Option<String>,
}

/// A key: everything but its text.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::ApiKey)]
pub struct Key {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("api_key"))]
    object: &'static str,
    #[schema(required, examples("Analytics Dashboard"))]
    name: Option<String>,
    /// What the key's text starts with, and the 4 characters after that.
    #[schema(examples("tnt_live_a1b2"))]
    prefix: String,
    /// The 8 characters after the configured prefix.
    #[schema(examples("a1b2c3d4"))]
    display_id: String,
    #[schema(examples("usage:read", "billing:read"))]
    scopes: Vec<String>,
    /// Whether the key may be used while it lives.
    enabled: bool,
    /// Where it may be used from; empty is everywhere.
    #[schema(examples("203.0.113.0/24"))]
    allowed_ips: Vec<String>,
    /// What was noted down about it.
    #[schema(value_type = Object, examples(json!({ "team": "data" })))]
    metadata: serde_json::Value,
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
    /// The key that this one took over from.
    #[schema(required)]
    rotated_from: Option<String>,
    /// The key that took over from this one.
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

/// A key, alone in an answer.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::ApiKeyAnswer)]
pub struct KeyResponse {
    /// The key's text: in the answer that mints it, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(flatten)]
    pub api_key: Key,
    pub request_id: String,
}

/// This family's `prefix`: what the key's text starts with, and 4 characters more.
pub fn short_prefix(prefix: &str, display_id: &str) -> String {
    format!("{prefix}{}", display_id.get(..4).unwrap_or(display_id))
}
