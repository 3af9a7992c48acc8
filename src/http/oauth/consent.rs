//! `/oauth2/consent`: the page that asks a person for consent, and their answer.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::authorization::{self, NextStep};
use crate::domain::oauth::consent::{self, Approval};
use crate::domain::oauth::consent_page::{self, ClientPublisher, ConsentView};
use crate::domain::oauth::pending_request::{self, page_path};
use crate::error::{Error, Result};
use crate::http::auth::{CookieSession, InAnySession};
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, parse_secret, text};
use crate::http::browser_cookie::BrowserCookies;
use crate::http::edge::context::RequestContext;
use crate::http::edge::trusted_origin::FromTrustedOrigin;
use crate::http::html_page::HtmlPage;
use crate::http::oauth::responses::{form_action, request_handle_error_page, respond};
use crate::http::oauth::{SIGN_IN_PATH, SWITCH_PARAMETER, parse_text};
use crate::http::query::Query;
use crate::http::render::oauth::{
    BadRequest, Conflict, ErrorBody, Forbidden, InvalidSession, TooLarge, Unavailable,
    UnknownRequest, UnsupportedMediaType,
};
use crate::http::shown_once::see_other;
use crate::http::shown_once::{JsonWithSecrets, ShownOnce};
use crate::http::switches::OauthIsOn;
use crate::model::oauth::authorization_response::{AuthorizationResponse, ResponseMode};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::secret::Secret;

const CONSENT_SCRIPT: &str = include_str!("../../web/pages/oauth_consent.js");

#[derive(Template)]
#[template(path = "pages/oauth_consent.html", config = "src/web/askama.toml")]
struct ConsentPage {
    view: ConsentView,
    switch_path: Secret,
}

/// Show the HTML page that asks for consent.
///
/// It shows who asks for what, where the person is sent afterwards, and which organizations can be
/// chosen.
#[utoipa::path(get, path = "/oauth2/consent", operation_id = "showConsentPage", tag = "oauth",
    params(("request" = String, Query, description = "The handle of the request.",
            example = "tnt_oauth_request_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz")),
    security((), ("session" = [])),
    responses((status = 200, description = "The HTML page, or one that posts the response to the \
               app.", body = String, content_type = "text/html; charset=utf-8"),
              (status = 303, description = "To the page for signing in, or back to the app."),
              (status = 403, description = "An HTML page: the request was made in another browser.",
               body = String, content_type = "text/html; charset=utf-8"),
              (status = 404, description = "An HTML page: the request was answered or has expired. \
               An error as of the other routes: OAuth is off.",
               content((String = "text/html; charset=utf-8"), (ErrorBody = "application/json"))),
              Unavailable))]
pub(super) async fn show_page(
    State(app): State<App>,
    _: OauthIsOn,
    CookieSession(session): CookieSession,
    context: RequestContext,
    browser: BrowserCookies,
    mut query: Query,
) -> Result<Response> {
    let request = query.optional("request", parse_text);
    let handle = Secret::new(request.unwrap_or_default());
    let pending = match pending_request::find(&app, &handle, &browser.digests(&app)).await {
        Ok(pending) => pending,
        Err(error) => return Ok(request_handle_error_page(error)),
    };
    let caller = session.as_ref().map(InAnySession::person_and_session);
    let audit = context.audit_context();
    let step = match authorization::next_step(&app, &pending, caller, &audit).await {
        Ok(step) => step,
        Err(error) => return Ok(request_handle_error_page(error)),
    };
    let session = match (step, &session) {
        (NextStep::Respond(response), _) => return Ok(respond(&response)),
        (NextStep::Consent, Some(session)) => session,
        _ => return Ok(see_other(page_path(SIGN_IN_PATH, &handle))),
    };
    pending_request::record_shown(&app, &pending, session.session).await?;
    let page = format!("{SIGN_IN_PATH}?{SWITCH_PARAMETER}=1");
    let named = pending.request.organization.as_ref();
    let template = ConsentPage {
        view: consent_page::view(&app, pending.access_request(), named, &session.person).await?,
        switch_path: page_path(&page, &handle),
    };
    let (status, script) = (StatusCode::OK, CONSENT_SCRIPT);
    let origin = form_action(&pending.request.target);
    Ok(HtmlPage { status, template, script, form_action: origin.as_deref() }.into_response())
}

/// The answer of a person to a request.
#[derive(ToSchema)]
#[schema(as = oauth::ConsentRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct ConsentRequest {
    /// The handle of the request.
    #[schema(value_type = String, examples(
        "tnt_oauth_request_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    request: Secret,
    /// Whether the person grants access.
    #[schema(examples(true))]
    accept: bool,
    /// The organization. Required unless every scope is about the person's own account.
    #[schema(value_type = Option<String>, examples("org_79d0fHwDRh"))]
    organizationId: Option<OrganizationHandle>,
    /// The granted scopes. Default: all that were requested. Those that the person's role in the
    /// organization does not permit are left out.
    #[schema(examples("projects:read"))]
    scopes: Option<Vec<String>>,
}

impl FromFields for ConsentRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let request = fields.required("request", parse_secret);
        let accept = fields.required("accept", JsonNode::into_bool);
        let organization = fields.optional("organizationId", text(OrganizationHandle::parse));
        let scopes = fields.optional("scopes", JsonNode::into_strings);
        Some(Self { request: request?, accept: accept?, organizationId: organization, scopes })
    }
}

/// Where the person is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = oauth::ConsentResponse)]
pub struct ConsentResponse {
    /// The URL to go to. It contains the code or the error, unless `fields` does.
    #[schema(value_type = String, examples(
        "https://app.example.com/callback?code=tnt_oauth_code_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XO\
         HmkSJ8Q0aV3xYz&state=af0ifjsldkj&iss=https%3A%2F%2Fapi.example.com"))]
    redirect: RedirectUrl,
    /// For `response_mode=form_post`: the fields of the form to post there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    fields: Option<FormFields>,
}

/// A URL that may contain a code, or one that does not.
#[derive(Serialize)]
#[serde(untagged)]
enum RedirectUrl {
    WithCode(ShownOnce),
    Plain(String),
}

/// The fields of a form response.
#[derive(Serialize)]
struct FormFields {
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    code: ShownOnce,
    #[serde(flatten)]
    others: BTreeMap<&'static str, String>,
}

impl From<&AuthorizationResponse> for ConsentResponse {
    fn from(response: &AuthorizationResponse) -> Self {
        if response.target().mode == ResponseMode::Query {
            return Self { redirect: RedirectUrl::WithCode(response.url().into()), fields: None };
        }
        let others = response.parameters().into_iter();
        let others = others.map(|(name, value)| (name, value.to_owned())).collect();
        let code = response.code().map_or(ShownOnce::NONE, ShownOnce::from);
        let redirect = RedirectUrl::Plain(response.target().redirect_uri.clone());
        Self { redirect, fields: Some(FormFields { code, others }) }
    }
}

/// Answer an authorization request, in the browser that it was made in.
///
/// A request can be answered once. Everything is checked again: that the account still has its
/// membership and role, and that the organization's policy permits the app.
#[utoipa::path(post, path = "/oauth2/consent", operation_id = "answerConsent", tag = "oauth",
    security(("session" = []), ("bearer" = [])),
    request_body = ConsentRequest,
    responses((status = 200, description = "Answered; go to `redirect`.", body = ConsentResponse),
              BadRequest, InvalidSession, Forbidden, UnknownRequest, Conflict, TooLarge,
              UnsupportedMediaType, Unavailable))]
pub(super) async fn answer(
    State(app): State<App>,
    _: OauthIsOn,
    InAnySession { person, session, .. }: InAnySession,
    _: FromTrustedOrigin,
    context: RequestContext,
    browser: BrowserCookies,
    JsonBody { value: request, .. }: JsonBody<ConsentRequest>,
) -> Result<JsonWithSecrets<ConsentResponse>, Error> {
    let ConsentRequest { request, accept, organizationId: organization, scopes } = request;
    let pending = pending_request::find(&app, &request, &browser.digests(&app)).await?;
    let audit = context.audit_context();
    let response = if accept {
        let approval = Approval { organization, scopes, is_remembered: false };
        consent::approve(&app, &pending, (&*person, session), &approval, &audit).await?
    } else {
        consent::deny(&app, &pending, session, &audit).await?
    };
    Ok(JsonWithSecrets(ConsentResponse::from(&response)))
}
