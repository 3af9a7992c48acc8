//! `/.well-known/jwks.json`: what others check our access tokens with (RFC 7517).

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::public_document::PublicDocument;

/// The public keys.
#[derive(ToSchema)]
#[schema(as = Jwks)]
#[expect(dead_code, reason = "only described, in the API document")]
pub struct PublicKeys {
    /// One for each private key of `JWT_PRIVATE_KEYS`; none where tokens are signed with a secret.
    keys: Vec<PublicKey>,
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
    responses((status = 200, description = "The keys.", body = PublicKeys),
              (status = 304, description = "`If-None-Match` names them: they are the same.")))]
pub(super) async fn show(State(app): State<App>, headers: HeaderMap) -> Result<Response> {
    let keys = serde_json::to_vec(app.access_tokens.jwks()).map_err(Error::internal)?;
    Ok(PublicDocument::new("application/json", keys).respond(&headers))
}

/// The route.
pub fn routes() -> Router<App> {
    Router::new().route("/.well-known/jwks.json", get(show))
}
