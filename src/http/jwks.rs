//! `/.well-known/jwks.json`: the public keys that verify access tokens and ID tokens (RFC 7517).

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use jsonwebtoken::jwk::JwkSet;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::public_document::PublicDocument;

/// The public keys that verify access tokens and ID tokens.
#[derive(ToSchema)]
#[schema(as = Jwks)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct PublicKeys {
    /// One public key for each private key of `JWT_PRIVATE_KEYS` (none if access tokens are signed
    /// with a shared secret) and, if `OAUTH` is on, of `OIDC_PRIVATE_KEYS`.
    keys: Vec<PublicKey>,
}

/// A public key: an Ed25519 key for access tokens (RFC 8037), or an RSA or P-256 key for ID tokens
/// and OAuth access tokens that are JWTs (RFC 7518 §6).
#[derive(ToSchema)]
#[schema(as = Jwk)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct PublicKey {
    #[schema(examples("OKP"))]
    kty: String,
    /// The curve of an Ed25519 or P-256 key.
    #[schema(nullable = false, examples("Ed25519"))]
    crv: Option<String>,
    /// Of an Ed25519 key: the public key itself, in base64url. Of a P-256 key: its x coordinate.
    #[schema(nullable = false)]
    x: Option<String>,
    /// Of a P-256 key: its y coordinate, in base64url.
    #[schema(nullable = false)]
    y: Option<String>,
    /// Of an RSA key: its modulus, in base64url.
    #[schema(nullable = false)]
    n: Option<String>,
    /// Of an RSA key: its exponent, in base64url.
    #[schema(nullable = false, examples("AQAB"))]
    e: Option<String>,
    #[schema(examples("EdDSA"))]
    alg: String,
    #[schema(examples("sig"))]
    r#use: String,
    /// The id of the key, as in the header of the tokens.
    kid: String,
}

/// Show the public keys that verify access tokens and ID tokens.
///
/// An access token with a valid signature that has not expired may still be invalid, because its
/// session has ended. Only a request to this API with the token detects that.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "getJwks", tag = "health",
    responses((status = 200, description = "The keys.", body = PublicKeys),
              (status = 304, description = "The keys have not changed (`If-None-Match`).")))]
pub(super) async fn show(State(app): State<App>, headers: HeaderMap) -> Result<Response> {
    let of_access_tokens = app.access_tokens.jwks().keys.iter();
    let keys = of_access_tokens.chain(app.openid_signer.public_keys()).cloned().collect();
    let keys = serde_json::to_vec(&JwkSet { keys }).map_err(Error::internal)?;
    Ok(PublicDocument::new("application/json", keys).respond(&headers))
}

/// Returns the route.
pub fn routes() -> Router<App> {
    Router::new().route("/.well-known/jwks.json", get(show))
}
