//! `/.well-known/jwks.json`: the public keys that verify access tokens (RFC 7517).

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::public_document::PublicDocument;

/// The public keys that verify access tokens.
#[derive(ToSchema)]
#[schema(as = Jwks)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct PublicKeys {
    /// One public key for each private key of `JWT_PRIVATE_KEYS`; empty if tokens are signed with a
    /// shared secret.
    keys: Vec<PublicKey>,
}

/// A public key (RFC 8037).
#[derive(ToSchema)]
#[schema(as = Jwk)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct PublicKey {
    #[schema(examples("OKP"))]
    kty: String,
    #[schema(examples("Ed25519"))]
    crv: String,
    /// The public key itself, in base64url.
    x: String,
    #[schema(examples("EdDSA"))]
    alg: String,
    #[schema(examples("sig"))]
    r#use: String,
    /// The id of the key, as in the header of the tokens.
    kid: String,
}

/// Show the public keys that verify access tokens.
///
/// A token with a valid signature that has not expired may still be invalid, because its session
/// has ended. Only a request to this API with the token detects that.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "getJwks", tag = "health",
    responses((status = 200, description = "The keys.", body = PublicKeys),
              (status = 304, description = "The keys have not changed (`If-None-Match`).")))]
pub(super) async fn show(State(app): State<App>, headers: HeaderMap) -> Result<Response> {
    let keys = serde_json::to_vec(app.access_tokens.jwks()).map_err(Error::internal)?;
    Ok(PublicDocument::new("application/json", keys).respond(&headers))
}

/// Returns the route.
pub fn routes() -> Router<App> {
    Router::new().route("/.well-known/jwks.json", get(show))
}
