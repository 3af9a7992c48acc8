//! `/device`: the page on which a person types a device's code and answers its request (RFC 8628
//! §3.3), and the routes that it calls.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts;
use crate::domain::oauth::consent_page::{self, ClientPublisher, ConsentView};
use crate::domain::oauth::device_answers;
use crate::error::{Error, Result};
use crate::http::auth::{CookieSession, InAnySession};
use crate::http::body::{Fields, FromFields, JsonBody, parse_secret, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_user_code;
use crate::http::edge::trusted_origin::FromTrustedOrigin;
use crate::http::html_page::HtmlPage;
use crate::http::oauth::responses::request_handle_error_page;
use crate::http::oauth::sign_in_page::path_for_device;
use crate::http::oauth::{USER_CODE_PARAMETER, parse_text};
use crate::http::query::Query;
use crate::http::render::oauth::{
    BadRequest, Conflict, ErrorBody, Forbidden, InvalidSession, TooLarge, TooManyRequests,
    Unavailable, UnknownDevice, UnsupportedMediaType,
};
use crate::http::shown_once::see_other;
use crate::http::shown_once::{JsonWithSecrets, ShownOnce};
use crate::http::switches::OauthIsOn;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::secret::Secret;

const CODE_SCRIPT: &str = include_str!("../../web/pages/oauth_device_code.js");
const APPROVAL_SCRIPT: &str = include_str!("../../web/pages/oauth_device_approval.js");

/// The page on which the person types the code.
#[derive(Template)]
#[template(path = "pages/oauth_device_code.html", config = "src/web/askama.toml")]
struct CodePage {
    user_code: Secret,
    email: String,
    switch_path: Secret,
}

/// The page on which the person answers.
#[derive(Template)]
#[template(path = "pages/oauth_device_approval.html", config = "src/web/askama.toml")]
struct ApprovalPage {
    view: ConsentView,
}

/// Show the HTML page on which a person types a device's code, and then answers its request.
///
/// With `user_code`, the code is filled in, but not sent until the person sends it.
#[utoipa::path(get, path = "/device", operation_id = "showDevicePage", tag = "oauth",
    params(("user_code" = Option<String>, Query, description = "The code to fill in.",
            example = "WDJB-MJHT"),
           ("request" = Option<String>, Query, description = "The handle of a claimed request.",
            example = "tnt_oauth_request_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz")),
    security((), ("session" = [])),
    responses((status = 200, description = "The HTML page.", body = String,
               content_type = "text/html; charset=utf-8"),
              (status = 303, description = "To the page for signing in."),
              (status = 404, description = "An HTML page: the request was answered, has expired or \
               was claimed in another session. An error as of the other routes: OAuth is off.",
               content((String = "text/html; charset=utf-8"), (ErrorBody = "application/json"))),
              Unavailable))]
pub(super) async fn show_page(
    State(app): State<App>,
    _: OauthIsOn,
    CookieSession(session): CookieSession,
    mut query: Query,
) -> Result<Response> {
    let user_code = query.optional(USER_CODE_PARAMETER, parse_text).unwrap_or_default();
    let user_code = Secret::new(user_code);
    let sign_in = path_for_device(&user_code);
    let Some(session) = session else { return Ok(see_other(sign_in)) };
    match query.optional("request", parse_text) {
        Some(handle) => show_approval(&app, &session, Secret::new(handle)).await,
        None => show_code(&app, &session, (user_code, sign_in)).await,
    }
}

async fn show_code(
    app: &App,
    session: &InAnySession,
    (user_code, switch_path): (Secret, Secret),
) -> Result<Response> {
    let account = session.person.account;
    let email = app.db.run(async |db| accounts::find(db, account).await).await?.email;
    let template = CodePage { user_code, email, switch_path };
    let (status, script) = (StatusCode::OK, CODE_SCRIPT);
    Ok(HtmlPage { status, template, script, form_action: None }.into_response())
}

async fn show_approval(app: &App, session: &InAnySession, handle: Secret) -> Result<Response> {
    let caller = session.person_and_session();
    let device = match device_answers::find(app, caller, &handle).await {
        Ok(device) => device,
        Err(error) => return Ok(request_handle_error_page(error)),
    };
    let view = consent_page::view(app, device.access_request(), None, &session.person).await?;
    let (template, script) = (ApprovalPage { view }, APPROVAL_SCRIPT);
    Ok(HtmlPage { status: StatusCode::OK, template, script, form_action: None }.into_response())
}

/// A code that a person typed.
#[derive(ToSchema)]
#[schema(as = oauth::DeviceClaimRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct DeviceClaimRequest {
    /// The code that the device shows. Case, spaces and dashes do not matter.
    #[schema(value_type = String, examples("WDJB-MJHT"))]
    userCode: Secret,
}

impl FromFields for DeviceClaimRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { userCode: fields.required("userCode", parse_secret)? })
    }
}

/// A claimed request.
#[derive(Serialize, ToSchema)]
#[schema(as = oauth::DeviceClaim)]
pub struct DeviceClaimResponse {
    /// The handle of the request. `/device?request=…` shows it.
    #[schema(value_type = String, examples(
        "tnt_oauth_request_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    request: ShownOnce,
}

/// Claim the request of a device by the code that it shows. Then no other account can answer it.
#[utoipa::path(post, path = "/oauth2/device/claim", operation_id = "claimDevice", tag = "oauth",
    security(("session" = []), ("bearer" = [])),
    request_body = DeviceClaimRequest,
    responses((status = 200, description = "Claimed.", body = DeviceClaimResponse), BadRequest,
              InvalidSession, Forbidden, UnknownDevice, TooLarge, UnsupportedMediaType,
              TooManyRequests, Unavailable))]
pub(super) async fn claim(
    State(app): State<App>,
    _: OauthIsOn,
    session: InAnySession,
    _: FromTrustedOrigin,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<DeviceClaimRequest>,
) -> Result<JsonWithSecrets<DeviceClaimResponse>, Error> {
    count_user_code(&app, &context, session.person.account).await?;
    let handle =
        device_answers::claim(&app, session.person_and_session(), &request.userCode).await?;
    Ok(JsonWithSecrets(DeviceClaimResponse { request: handle.into() }))
}

/// The approval of a device's request.
#[derive(ToSchema)]
#[schema(as = oauth::DeviceApprovalRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct DeviceApprovalRequest {
    /// The handle of the request.
    #[schema(value_type = String, examples(
        "tnt_oauth_request_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    request: Secret,
    /// The organization. Required unless every scope is about the person's own account.
    #[schema(value_type = Option<String>, examples("org_79d0fHwDRh"))]
    organizationId: Option<OrganizationHandle>,
}

impl FromFields for DeviceApprovalRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let request = fields.required("request", parse_secret);
        let organization = fields.optional("organizationId", text(OrganizationHandle::parse));
        Some(Self { request: request?, organizationId: organization })
    }
}

/// The answer that was recorded.
#[derive(Serialize, ToSchema)]
#[schema(as = oauth::DeviceAnswer)]
pub struct DeviceAnswer {
    /// `approved`, or `denied`, also if the person's role permits none of the requested scopes.
    #[schema(examples("approved"))]
    status: &'static str,
}

/// Approve the request of a device, in the session in which it was claimed.
///
/// The rules are those of an app that asks in the browser. Scopes that the person's role in the
/// organization does not permit are left out.
#[utoipa::path(post, path = "/oauth2/device/approve", operation_id = "approveDevice", tag = "oauth",
    security(("session" = []), ("bearer" = [])),
    request_body = DeviceApprovalRequest,
    responses((status = 200, description = "Answered.", body = DeviceAnswer), BadRequest,
              InvalidSession, Forbidden, UnknownDevice, Conflict, TooLarge, UnsupportedMediaType,
              Unavailable))]
pub(super) async fn approve(
    State(app): State<App>,
    _: OauthIsOn,
    session: InAnySession,
    _: FromTrustedOrigin,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<DeviceApprovalRequest>,
) -> Result<axum::Json<DeviceAnswer>, Error> {
    let DeviceApprovalRequest { request, organizationId: organization } = request;
    let (caller, audit) = (session.person_and_session(), context.audit_context());
    let device = device_answers::find(&app, caller, &request).await?;
    let organization = organization.as_ref();
    let is_approved = device_answers::approve(&app, &device, caller, organization, &audit).await?;
    Ok(axum::Json(DeviceAnswer { status: if is_approved { "approved" } else { "denied" } }))
}

/// The denial of a device's request.
#[derive(ToSchema)]
#[schema(as = oauth::DeviceDenialRequest)]
pub struct DeviceDenialRequest {
    /// The handle of the request.
    #[schema(value_type = String, examples(
        "tnt_oauth_request_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    request: Secret,
}

impl FromFields for DeviceDenialRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { request: fields.required("request", parse_secret)? })
    }
}

/// Deny the request of a device, in the session in which it was claimed.
#[utoipa::path(post, path = "/oauth2/device/deny", operation_id = "denyDevice", tag = "oauth",
    security(("session" = []), ("bearer" = [])),
    request_body = DeviceDenialRequest,
    responses((status = 200, description = "Answered.", body = DeviceAnswer), BadRequest,
              InvalidSession, Forbidden, UnknownDevice, TooLarge, UnsupportedMediaType,
              Unavailable))]
pub(super) async fn deny(
    State(app): State<App>,
    _: OauthIsOn,
    session: InAnySession,
    _: FromTrustedOrigin,
    JsonBody { value: request, .. }: JsonBody<DeviceDenialRequest>,
) -> Result<axum::Json<DeviceAnswer>, Error> {
    let caller = session.person_and_session();
    let device = device_answers::find(&app, caller, &request.request).await?;
    device_answers::deny(&app, &device, caller).await?;
    Ok(axum::Json(DeviceAnswer { status: "denied" }))
}
