//! `/.well-known/jwks.json`: what others check our access tokens with (RFC 7517).

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use jsonwebtoken::jwk::JwkSet;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;

/// The public keys.
#[derive(Serialize, ToSchema)]
#[schema(as = Jwks)]
pub struct PublicKeys {
    /// One for each private key of `JWT_PRIVATE_KEYS`; none where tokens are signed with a secret.
    #[schema(value_type = Vec<PublicKey>)]
    keys: Vec<jsonwebtoken::jwk::Jwk>,
}

/// A public key (RFC 8037).
#[derive(ToSchema)]
#[schema(as = Jwk)]
#[expect(dead_code, reason = "only described, in the API document")]
pub struct PublicKey {
    #[schema(examples("OKP"))]
    kty: String,
    #[schema(examples("Ed25519"))]
    crv: String,
    /// The key.
    x: String,
    #[schema(examples("EdDSA"))]
    alg: String,
    #[schema(examples("sig"))]
    r#use: String,
    /// Its id, as in the header of the tokens.
    kid: String,
}

/// The public keys that access tokens can be checked with.
///
/// A token that is well signed and not over may still be worth nothing: its session may have ended.
/// Only a request here tells.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "getJwks", tag = "health",
    responses((status = 200, description = "The keys.", body = PublicKeys)))]
pub async fn show(State(app): State<App>) -> Json<PublicKeys> {
    let JwkSet { keys } = app.access_tokens.published().clone();
    Json(PublicKeys { keys })
}

/// The route.
pub fn routes() -> Router<App> {
    Router::new().route("/.well-known/jwks.json", get(show))
}
