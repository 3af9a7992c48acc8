//! `/api/auth/claim-key`: the first key of an organization that was bought through Stripe.

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
use crate::http::shown_once::ShownOnce;
use crate::http::user::html_pages::MailedLinkPage;
use crate::http::user::responses::Success;
use crate::model::secret::Secret;

/// Show the HTML page that the mailed link opens: a button, since mail scanners follow links.
///
/// The key is not created until the button is pressed.
#[utoipa::path(get, path = "/api/auth/claim-key", operation_id = "showClaimKeyPage",
    tag = "user",
    params(("token" = Option<String>, Query, description = "The token from the mailed link.")),
    responses((status = 200, description = "The HTML page.", body = String,
               content_type = "text/html; charset=utf-8")))]
pub(super) async fn show_page(_: CountedRequest) -> MailedLinkPage {
    MailedLinkPage::ClaimKey
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
    /// The key's text. Only this response contains it.
    #[schema(value_type = String, examples("tnt_live_a1b2c3d4…"))]
    key: ShownOnce,
}

/// The organization of the key.
#[derive(Serialize, ToSchema)]
#[schema(as = user::KeyedOrganization)]
pub struct ClaimedKeyOrganization {
    #[schema(examples("acme"))]
    id: String,
    #[schema(examples("Acme Corp"))]
    name: String,
}

/// Claim the first key of an organization that was bought, with the token of the mailed link.
///
/// The token can be used once and expires after 7 days. It is rejected while the organization is
/// suspended, and becomes invalid if the operator revokes the organization's keys.
#[utoipa::path(post, path = "/api/auth/claim-key", operation_id = "claimKey", tag = "user",
    request_body = ClaimKeyRequest,
    responses((status = 200, description = "The key, which has all scopes.",
               body = Success<ClaimedKey>),
              BadRequest, Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn claim(
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<TokenCheckLimit>,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<ClaimKeyRequest>,
) -> Result<Success<ClaimedKey>> {
    let claimed = claims::claim_key(&app, &request.token, &context.audit_context()).await?;
    let (organization, created) = claimed;
    let data = ClaimedKey {
        organization: ClaimedKeyOrganization { id: organization.handle, name: organization.name },
        key: created.secret.into(),
    };
    Ok(Success::ok("This is your key. It is shown once: store it now", data))
}
