//! `/api/auth/claim-key`: the first key of an organization that was paid for.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::claims;
use crate::error::Result;
use crate::http::auth::CountedRequest;
use crate::http::body::{Fields, FromFields, JsonBody, parse_secret};
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::{RateLimitByAddress, TokenCheckLimit};
use crate::http::edge::trusted_origin::FromTrustedOrigin;
use crate::http::render::user::{
    BadRequest, Forbidden, TooLarge, Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::http::user::html_pages::{self, HtmlPage};
use crate::http::user::responses::Success;
use crate::model::secret::Secret;

/// The page that the mailed link leads to: a button, since mail scanners follow links.
///
/// It asks nothing of the server before the button is pressed.
#[utoipa::path(get, path = "/api/auth/claim-key", operation_id = "showClaimKeyPage",
    tag = "user", params(("token" = Option<String>, Query, description = "From the mailed link.")),
    responses((status = 200, description = "The page.", body = String,
               content_type = "text/html; charset=utf-8")))]
pub(super) async fn show_page(_: CountedRequest) -> HtmlPage {
    html_pages::CLAIM_KEY
}

/// The token of a mailed link.
#[derive(ToSchema)]
#[schema(as = user::ClaimKeyRequest)]
pub struct ClaimKeyRequest {
    #[schema(value_type = String)]
    token: Secret,
}

impl FromFields for ClaimKeyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let token = fields.required("token", parse_secret);
        Some(Self { token: token? })
    }
}

/// An organization's first key.
#[derive(Serialize, ToSchema)]
#[schema(as = user::ClaimedKey)]
pub struct ClaimedKey {
    organization: ClaimedKeyOrganization,
    /// The key's text: in this answer, and never again.
    #[schema(examples("tnt_live_a1b2c3d4…"))]
    key: String,
}

/// The organization that a key is of.
#[derive(Serialize, ToSchema)]
#[schema(as = user::KeyedOrganization)]
pub struct ClaimedKeyOrganization {
    #[schema(examples("acme"))]
    id: String,
    #[schema(examples("Acme Corp"))]
    name: String,
}

/// Claim the first key of an organization that was paid for, by the token of the mailed link.
///
/// The token is good once, for 7 days; not while the organization is suspended, and not after its
/// keys were ended by the operator.
#[utoipa::path(post, path = "/api/auth/claim-key", operation_id = "claimKey", tag = "user",
    request_body = ClaimKeyRequest,
    responses((status = 200, description = "The key, which may do everything in it.",
               body = Success<ClaimedKey>),
              BadRequest, Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn claim(
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<TokenCheckLimit>,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<ClaimKeyRequest>,
) -> Result<Json<Success<ClaimedKey>>> {
    let claimed = claims::claim_key(&app, &request.token, &context.audit_context()).await?;
    let (organization, minted) = claimed;
    let data = ClaimedKey {
        organization: ClaimedKeyOrganization { id: organization.handle, name: organization.name },
        key: minted.secret.expose().to_owned(),
    };
    Ok(Json(Success::ok("This is your key. It is shown once: store it now", data)))
}
