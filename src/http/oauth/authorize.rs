//! `/oauth2/authorize`: a client asks for access (RFC 6749 §4.1.1).

use axum::extract::{RawQuery, State};
use axum::response::Response;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::oauth::authorization::{self, NextStep};
use crate::domain::oauth::pending_request::{self, PendingRequest, page_path};
use crate::error::Result;
use crate::http::auth::{CookieSession, CountedRequest, InAnySession};
use crate::http::body::FormPairs;
use crate::http::browser_cookie::BrowserCookies;
use crate::http::edge::context::RequestContext;
use crate::http::oauth::client_documents;
use crate::http::oauth::responses::{respond, unknown_sender};
use crate::http::oauth::{CONSENT_PATH, SIGN_IN_PATH};
use crate::http::render::oauth::{
    ErrorBody, TooLarge, TooManyRequests, Unavailable, UnsupportedMediaType,
};
use crate::http::shown_once::see_other;
use crate::http::switches::OauthIsOn;
use crate::model::oauth::authorization_request::RequestParameters;

/// The parameters of an authorization request. Unknown ones are ignored; only `resource` may be
/// repeated.
#[derive(IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[schema(as = oauth::AuthorizationRequest)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct AuthorizationParameters {
    /// `code`.
    #[param(example = "code")]
    #[schema(examples("code"))]
    response_type: String,
    /// The app's id, or the URL of its metadata document.
    #[param(example = "app_01JZ3VQ0Xb1cT4yW8mK2pa")]
    #[schema(examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    client_id: String,
    /// Where the response is sent: exactly a registered redirect URI. On a loopback host, any port.
    #[param(example = "https://app.example.com/callback")]
    #[schema(examples("https://app.example.com/callback"))]
    redirect_uri: String,
    /// The SHA-256 of the code verifier, in base64url (RFC 7636).
    #[param(example = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")]
    #[schema(examples("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"))]
    code_challenge: String,
    /// `S256`.
    #[param(example = "S256")]
    #[schema(examples("S256"))]
    code_challenge_method: String,
    /// The requested scopes, separated by spaces. Default: the app's registered ones, without
    /// `offline_access`.
    #[param(example = "projects:read offline_access")]
    #[schema(examples("projects:read offline_access"))]
    scope: Option<String>,
    /// Any text, which is returned unchanged.
    #[param(max_length = 2048, example = "af0ifjsldkj")]
    #[schema(max_length = 2048, examples("af0ifjsldkj"))]
    state: Option<String>,
    /// The services that the tokens are for (RFC 8707). Default: this API.
    #[param(example = "https://mcp.example.com")]
    #[schema(examples("https://mcp.example.com"))]
    resource: Option<String>,
    /// Any text, for the app's own checks.
    #[param(max_length = 512, example = "n-0S6_WzA2Mj")]
    #[schema(max_length = 512, examples("n-0S6_WzA2Mj"))]
    nonce: Option<String>,
    /// `none`, or some of `login`, `consent` and `select_account`.
    #[param(example = "consent")]
    #[schema(examples("consent"))]
    prompt: Option<String>,
    /// The maximum time since the person signed in, in seconds.
    #[param(example = "3600")]
    #[schema(examples("3600"))]
    max_age: Option<String>,
    /// The e-mail address that the person probably signs in with.
    #[param(max_length = 512, example = "you@example.com")]
    #[schema(max_length = 512, examples("you@example.com"))]
    login_hint: Option<String>,
    /// `query` (the default) or `form_post`.
    #[param(example = "query")]
    #[schema(examples("query"))]
    response_mode: Option<String>,
    /// The organization that is selected at first.
    #[param(example = "org_79d0fHwDRh")]
    #[schema(examples("org_79d0fHwDRh"))]
    organization_id: Option<String>,
}

/// Ask a person for access to an organization or to their account, in their browser.
///
/// The person signs in and consents, unless they have granted the same access before. The response
/// is a redirect to `redirect_uri` with `code`, or with `error`; in any case with `state` and
/// `iss`. If the app or the redirect URI is not known, the response is an HTML page.
#[utoipa::path(get, path = "/oauth2/authorize", operation_id = "authorize", tag = "oauth",
    params(AuthorizationParameters),
    security((), ("session" = [])),
    responses((status = 303, description = "To a page of this server, or back to the app.",
               headers(("location" = String, description = "Where to."))),
              (status = 200, description = "A page that posts the response to the app, for \
               `response_mode=form_post`.",
               body = String, content_type = "text/html; charset=utf-8"),
              (status = 400, description = "An HTML page: the app or the redirect URI is \
               not known, or the app's metadata document cannot be used.",
               body = String, content_type = "text/html; charset=utf-8"),
              (status = 404, description = "OAuth is off.", body = ErrorBody), TooManyRequests,
              Unavailable))]
pub(super) async fn authorize(
    State(app): State<App>,
    _: OauthIsOn,
    CookieSession(session): CookieSession,
    context: RequestContext,
    browser: BrowserCookies,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let query = query.unwrap_or_default();
    let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let pending = match find_pending(&app, &context, pairs).await? {
        Ok(pending) => pending,
        Err(response) => return Ok(response),
    };
    let caller = session.as_ref().map(InAnySession::person_and_session);
    let audit = context.audit_context();
    match authorization::next_step(&app, &pending, caller, &audit).await? {
        NextStep::Respond(response) => Ok(respond(&response)),
        NextStep::SignIn => store_and_show(&app, &browser, &pending, SIGN_IN_PATH).await,
        NextStep::Consent => store_and_show(&app, &browser, &pending, CONSENT_PATH).await,
    }
}

/// Ask for access with a form instead of a query.
///
/// A form that another site posts comes without the session's cookie, so the next page decides what
/// follows.
#[utoipa::path(post, path = "/oauth2/authorize", operation_id = "authorizeByPost", tag = "oauth",
    request_body(content = AuthorizationParameters,
                 content_type = "application/x-www-form-urlencoded"),
    responses((status = 303, description = "To a page of this server, or back to the app.",
               headers(("location" = String, description = "Where to."))),
              (status = 200, description = "A page that posts an error to the app, for \
               `response_mode=form_post`.",
               body = String, content_type = "text/html; charset=utf-8"),
              (status = 400, description = "An HTML page: the app or the redirect URI is \
               not known, or the app's metadata document cannot be used. An error as of the other \
               routes: the body cannot be read.",
               content((String = "text/html; charset=utf-8"), (ErrorBody = "application/json"))),
              (status = 404, description = "OAuth is off.", body = ErrorBody),
              TooLarge, UnsupportedMediaType, TooManyRequests, Unavailable))]
pub(super) async fn authorize_by_post(
    State(app): State<App>,
    _: OauthIsOn,
    _: CountedRequest,
    context: RequestContext,
    browser: BrowserCookies,
    FormPairs(pairs): FormPairs,
) -> Result<Response> {
    match find_pending(&app, &context, pairs).await? {
        Ok(pending) => store_and_show(&app, &browser, &pending, CONSENT_PATH).await,
        Err(response) => Ok(response),
    }
}

/// Returns the request, if it is valid, and otherwise the response to it.
async fn find_pending(
    app: &App,
    context: &RequestContext,
    pairs: Vec<(String, String)>,
) -> Result<Result<PendingRequest, Response>> {
    let parameters = RequestParameters::new(pairs);
    let client_id = parameters.single("client_id").unwrap_or_default();
    if let Err(rejection) = client_documents::refresh(app, context, client_id).await? {
        return Ok(Err(client_documents::rejection_page(rejection)));
    }
    let (client, target) = match authorization::find_client_and_target(app, &parameters).await? {
        Ok(sender) => sender,
        Err(reason) => return Ok(Err(unknown_sender(reason))),
    };
    Ok(match authorization::parse(app, (&client, target), &parameters) {
        Ok(request) => {
            let received_at = context.received_at;
            Ok(PendingRequest { client, request, received_at, digest: None, shown_in: None })
        }
        Err(response) => Err(respond(&response)),
    })
}

/// Stores the request for this browser, and redirects to a page about it.
async fn store_and_show(
    app: &App,
    browser: &BrowserCookies,
    pending: &PendingRequest,
    page: &str,
) -> Result<Response> {
    let store = async |digest| {
        let handle = pending_request::store(app, pending, digest).await?;
        Ok(see_other(page_path(page, &handle)))
    };
    browser.respond_with_cookie(app, store).await
}
