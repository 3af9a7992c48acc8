//! The settings for access tokens.

use chrono::TimeDelta;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};

use crate::config::env::Env;
use crate::config::named_secret::{NamedSecret, parse_named_secrets};
use crate::model::ValidationError;

/// The lifetime in minutes of an access token from a key exchange: the minimum, which is also the
/// default, and the maximum.
const DEFAULT_MINUTES: i64 = 15;
const MAX_MINUTES: i64 = 24 * 60;

/// The settings for access tokens. There is at least one private key or secret, and all ids are
/// different.
pub struct TokenSettings {
    /// Ed25519 private keys (PKCS#8), newest first. The newest signs tokens.
    pub private_keys: Vec<NamedSecret>,
    /// Secrets, newest first. Without private keys, the newest secret signs tokens.
    pub secrets: Vec<NamedSecret>,
    /// The lifetime of an access token from a key exchange.
    pub key_token_lifetime: TimeDelta,
}

impl TokenSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let private_keys = env.optional("JWT_PRIVATE_KEYS", parse_private_keys).unwrap_or_default();
        let secrets = env.optional("JWT_SECRETS", parse_named_secrets).unwrap_or_default();
        if !env.is_set("JWT_SECRETS") && !env.is_set("JWT_PRIVATE_KEYS") {
            let problem = "must be set when DATABASE_URL is set and JWT_PRIVATE_KEYS is not";
            env.add_problem("JWT_SECRETS", problem);
        }
        if private_keys.iter().any(|one| secrets.iter().any(|other| other.id == one.id)) {
            env.add_problem("JWT_PRIVATE_KEYS", "must not use an id that JWT_SECRETS uses");
        }
        let minutes = env.optional("ACCESS_TOKEN_MINUTES", parse_minutes);
        let key_token_lifetime = TimeDelta::minutes(minutes.unwrap_or(DEFAULT_MINUTES));
        Self { private_keys, secrets, key_token_lifetime }
    }
}

fn parse_minutes(text: &str) -> Result<i64, ValidationError> {
    let minutes =
        text.parse().ok().filter(|minutes| (DEFAULT_MINUTES..=MAX_MINUTES).contains(minutes));
    minutes
        .ok_or_else(|| format!("must be a number from {DEFAULT_MINUTES} to {MAX_MINUTES}").into())
}

/// Parses `id:base64[,id:base64…]`, where each secret is an Ed25519 private key.
fn parse_private_keys(text: &str) -> Result<Vec<NamedSecret>, ValidationError> {
    let list = parse_named_secrets(text)?;
    for NamedSecret { id, bytes } in &list {
        let key = EncodingKey::from_ed_der(bytes);
        if Jwk::from_encoding_key(&key, Algorithm::EdDSA).is_err() {
            let message = format!("must have an Ed25519 private key in PKCS#8 DER for the id {id}");
            return Err(message.into());
        }
    }
    Ok(list)
}
