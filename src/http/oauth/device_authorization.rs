//! `POST /oauth2/device_authorization`: a device asks for access (RFC 8628 §3.1).

use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::devices::{self, require_device_client};
use crate::domain::oauth::pending_request::page_with;
use crate::error::Result;
use crate::http::body::Form;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_address;
use crate::http::oauth::client_authentication::{ClientAuthentication, authenticate};
use crate::http::oauth::{DEVICE_PATH, USER_CODE_PARAMETER};
use crate::http::render::oauth::{
    BadDeviceRequest, ClientUnauthorized, NoSuchRoute, TooManyRequests, Unavailable,
};
use crate::http::shown_once::{JsonWithSecrets, ShownOnce};
use crate::http::switches::OauthIsOn;
use crate::model::oauth::device::{DEVICE_LIFETIME, POLL_INTERVAL_SECONDS};
use crate::model::rate_limit::RateLimit;

/// The parameters of a device's request, with those of the client's authentication.
#[derive(ToSchema)]
#[schema(as = oauth::DeviceAuthorizationRequest)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct DeviceAuthorizationRequest {
    /// The requested scopes, separated by spaces. Default: the app's registered ones, without
    /// `offline_access`.
    #[schema(examples("projects:read offline_access"))]
    scope: Option<String>,
    /// The services that the tokens are for (RFC 8707). Default: this API.
    resource: Option<Vec<String>>,
    #[serde(flatten)]
    client: ClientAuthentication,
}

/// The codes of a request (RFC 8628 §3.2).
#[derive(Serialize, ToSchema)]
#[schema(as = oauth::DeviceAuthorization)]
pub struct DeviceAuthorization {
    /// For the token endpoint.
    #[schema(value_type = String,
             examples("tnt_oauth_device_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    device_code: ShownOnce,
    /// For the person to type.
    #[schema(value_type = String, examples("WDJB-MJHT"))]
    user_code: ShownOnce,
    /// Where the person types it.
    #[schema(examples("https://api.example.com/device"))]
    verification_uri: String,
    /// The same page with the code already filled in.
    #[schema(value_type = String,
             examples("https://api.example.com/device?user_code=WDJB-MJHT"))]
    verification_uri_complete: ShownOnce,
    /// For how many seconds the codes are valid.
    #[schema(examples(600))]
    expires_in: u64,
    /// How many seconds to wait between two polls.
    #[schema(examples(5))]
    interval: i32,
}

/// Ask for access on a device without a browser, or with limited input: a command line tool, a
/// television.
///
/// Show `user_code` and `verification_uri` to the person, and poll the token endpoint with
/// `device_code`. Only `native` apps that an organization registered may do this.
#[utoipa::path(post, path = "/oauth2/device_authorization", operation_id = "authorizeDevice",
    tag = "oauth",
    request_body(content = DeviceAuthorizationRequest,
                 content_type = "application/x-www-form-urlencoded"),
    security((), ("client_basic" = [])),
    responses((status = 200, description = "The codes.", body = DeviceAuthorization),
              BadDeviceRequest, ClientUnauthorized, NoSuchRoute, TooManyRequests, Unavailable))]
pub(super) async fn authorize_device(
    State(app): State<App>,
    _: OauthIsOn,
    context: RequestContext,
    headers: HeaderMap,
    form: Form,
) -> Result<JsonWithSecrets<DeviceAuthorization>> {
    let client = authenticate(&app, &context, &headers, &form).await?;
    count_address(&app, &context, RateLimit::DeviceRequests)?;
    require_device_client(&client)?;
    let access = devices::parse(&app, &client, &form.into_parameters())?;
    let codes = devices::start(&app, &client, &access).await?;
    let page = format!("{}{DEVICE_PATH}", app.config.oauth.issuer);
    let complete = page_with(&page, (USER_CODE_PARAMETER, &codes.user_code));
    Ok(JsonWithSecrets(DeviceAuthorization {
        device_code: codes.device_code.into(),
        user_code: codes.user_code.into(),
        verification_uri: page,
        verification_uri_complete: complete.into(),
        expires_in: DEVICE_LIFETIME.as_secs(),
        interval: POLL_INTERVAL_SECONDS,
    }))
}
