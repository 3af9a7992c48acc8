//! Types that several of this family's routes share.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::keys::CreatedKey;
use crate::http::body::JsonNode;
use crate::http::limits_and_credits::{Credits, NamedRateLimit};
use crate::http::shown_once::ShownOnce;
use crate::http::wire::Timestamp;
use crate::model::ValidationError;
use crate::model::api_key::ApiKey;
use crate::model::names::KeyName;

/// The longest label of a key in this family.
const MAX_KEY_NAME_CHARS: usize = 64;

/// An API key, without its text.
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::Key)]
pub struct Key {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    /// The prefix of the key's text.
    #[schema(examples("tnt_live_"))]
    prefix: String,
    /// The 8 characters after the prefix, to tell keys apart.
    #[schema(examples("LfbRIlFW"))]
    display_id: String,
    #[schema(required, examples("acme corp"))]
    name: Option<String>,
    #[schema(examples("*"))]
    scopes: Vec<String>,
    /// Whether the key is valid: neither revoked nor expired.
    is_active: bool,
    created_at: Timestamp,
    /// Up to 10 seconds behind.
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    #[schema(required)]
    revoked_at: Option<Timestamp>,
    /// Its id in another system, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("cus_1042"))]
    external_id: Option<String>,
    /// The rate limits that checks of it (`/v1/verify`) count against, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    limits: Vec<NamedRateLimit>,
    /// Its credits; absent if checks of it (`/v1/verify`) need none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    credits: Option<Credits>,
}

impl From<ApiKey> for Key {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            prefix: key.prefix,
            display_id: key.display_id,
            name: key.name,
            scopes: key.scopes.to_stored(),
            is_active: key.is_active,
            created_at: Timestamp(key.created_at),
            last_used_at: key.last_used_at.map(Timestamp),
            expires_at: key.expires_at.map(Timestamp),
            revoked_at: key.revoked_at.map(Timestamp),
            external_id: key.external_id,
            limits: NamedRateLimit::list(&key.limits),
            credits: key.credits.map(Credits::from),
        }
    }
}

/// A new key, with its text.
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::MintedKey)]
pub struct CreateKeyResponse {
    /// The key's text. It is shown here and never again, not even in a replay.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>,
             examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    api_key: ShownOnce,
    /// Whether it never expires.
    never_expires: bool,
    /// The key without its text.
    key: Key,
}

impl From<CreatedKey> for CreateKeyResponse {
    fn from(CreatedKey { secret, key }: CreatedKey) -> Self {
        Self { api_key: secret.into(), never_expires: key.expires_at.is_none(), key: key.into() }
    }
}

/// Parses a label; an empty string means none.
pub fn parse_key_name(node: JsonNode) -> Result<Option<KeyName>, ValidationError> {
    match node.into_string()?.as_str() {
        "" => Ok(None),
        name => KeyName::parse_up_to(MAX_KEY_NAME_CHARS, name).map(Some),
    }
}
