//! `POST /oauth2/revoke` (RFC 7009).

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::client_revocation;
use crate::error::Result;
use crate::http::body::Form;
use crate::http::edge::context::RequestContext;
use crate::http::oauth::client_authentication::{ClientAuthentication, authenticate};
use crate::http::render::oauth::{
    BadClientRequest, ClientUnauthorized, NoSuchRoute, TooManyRequests, Unavailable,
};
use crate::http::switches::OauthIsOn;
use crate::model::secret::Secret;

/// The parameters of a revocation, with those of the client's authentication.
#[derive(ToSchema)]
#[schema(as = oauth::RevocationRequest)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct RevocationRequest {
    /// An access token or a refresh token of the client.
    #[schema(examples("tnt_oauth_refresh_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    token: String,
    /// Ignored.
    token_type_hint: Option<String>,
    #[serde(flatten)]
    client: ClientAuthentication,
}

/// Revoke an access token or, with a refresh token, its whole grant.
///
/// The response is the same for a token that is unknown, already revoked or another client's.
#[utoipa::path(post, path = "/oauth2/revoke", operation_id = "revokeToken", tag = "oauth",
    request_body(content = RevocationRequest, content_type = "application/x-www-form-urlencoded"),
    security((), ("client_basic" = [])),
    responses((status = 200, description = "The token is not valid, or no longer."),
              BadClientRequest, ClientUnauthorized, NoSuchRoute, TooManyRequests, Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    _: OauthIsOn,
    context: RequestContext,
    headers: HeaderMap,
    form: Form,
) -> Result<StatusCode> {
    let client = authenticate(&app, &context, &headers, &form).await?;
    let token = Secret::new(form.require("token")?.to_owned());
    client_revocation::revoke(&app, &client, &token, &context.audit_context()).await?;
    Ok(StatusCode::OK)
}
