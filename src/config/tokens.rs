//! How access tokens are signed.

use chrono::TimeDelta;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};

use crate::config::env::Env;
use crate::config::named_secret::{NamedSecret, parse_named_secrets};
use crate::model::ValidationError;

/// How many minutes an access token from a key exchange lives, at least and by default (contract
/// §2), and at most.
const DEFAULT_MINUTES: i64 = 15;
const MAX_MINUTES: i64 = 24 * 60;

/// How access tokens are signed. There is a key at least; no two have one id.
pub struct TokenSettings {
    /// Ed25519 private keys (PKCS#8), newest first. Where there is one, the newest signs.
    pub private_keys: Vec<NamedSecret>,
    /// Secrets, newest first. Without a private key, the newest signs.
    pub secrets: Vec<NamedSecret>,
    /// How long an access token from a key exchange lives.
    pub key_token_lifetime: TimeDelta,
}

impl TokenSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let private_keys = env.optional("JWT_PRIVATE_KEYS", parse_private_keys).unwrap_or_default();
        let secrets = env.optional("JWT_SECRETS", parse_named_secrets).unwrap_or_default();
        if !env.is_set("JWT_SECRETS") && !env.is_set("JWT_PRIVATE_KEYS") {
            let problem = "must be set when DATABASE_URL is, or JWT_PRIVATE_KEYS";
            env.add_problem("JWT_SECRETS", problem);
        }
        if private_keys.iter().any(|one| secrets.iter().any(|other| other.id == one.id)) {
            env.add_problem("JWT_PRIVATE_KEYS", "uses an id that JWT_SECRETS uses, too");
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

/// Reads `id:base64[,id:base64…]`, each a private key that can sign.
fn parse_private_keys(text: &str) -> Result<Vec<NamedSecret>, ValidationError> {
    let list = parse_named_secrets(text)?;
    for NamedSecret { id, bytes } in &list {
        let key = EncodingKey::from_ed_der(bytes);
        if Jwk::from_encoding_key(&key, Algorithm::EdDSA).is_err() {
            let message = format!("has no Ed25519 private key in PKCS#8 DER under the id {id}");
            return Err(message.into());
        }
    }
    Ok(list)
}
