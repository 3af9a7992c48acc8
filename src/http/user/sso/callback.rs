//! `/api/auth/sso/callback/{connectionId}`, `/api/auth/sso/error`: the identity provider has sent
//! the browser back.

use axum::extract::{FromRequestParts, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};

use crate::app::App;
use crate::domain::accounts::sessions;
use crate::domain::sso::callback::{self, CompletedSignIn, ProviderAnswer};
use crate::error::{Error, Result};
use crate::http::auth::{CookieSession, CountedRequest, InAnySession, session_cookie};
use crate::http::browser_cookie::BrowserCookies;
use crate::http::edge::context::{RequestContext, SignInClient};
use crate::http::edge::rate_limits::{RateLimitByAddress, SignInLimit};
use crate::http::edge::shedding;
use crate::http::path::PathId;
use crate::http::query::Query;
use crate::http::render::user::{BadRequest, NotFound, Unavailable};
use crate::http::switches::SsoIsOn;
use crate::http::user::sso::pages;
use crate::http::user::sso::sign_in::any_text;
use crate::model::ValidationError;
use crate::model::audit::AuditContext;
use crate::model::caller::Person;
use crate::model::ids::{AccountId, ConnectionId};
use crate::model::secret::Secret;
use crate::model::session::SessionClient;
use crate::model::sso::sign_in_rejection::SignInRejection;

/// The maximum length of a code, in bytes.
const MAX_CODE_BYTES: usize = 4_096;

/// The browser that a provider has sent back.
pub struct ReturningBrowser {
    /// The cookie that identifies it.
    cookies: BrowserCookies,
    /// The client, as the account's list of sessions shows it.
    client: SessionClient,
    /// Its session, whose cookie is replaced.
    session: Option<InAnySession>,
}

impl FromRequestParts<App> for ReturningBrowser {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let SignInClient(client) = SignInClient::from_request_parts(parts, app).await?;
        let cookies = BrowserCookies::from_request_parts(parts, app).await?;
        let CookieSession(session) = CookieSession::from_request_parts(parts, app).await?;
        Ok(Self { cookies, client, session })
    }
}

/// Complete a sign-in with an identity provider, in the browser that began it: start a session in
/// its organization and set its cookie.
#[utoipa::path(get, path = "/api/auth/sso/callback/{connectionId}", operation_id = "completeSso",
    tag = "user",
    params(("connectionId" = String, Path, description = "The connection."),
           ("state" = Option<String>, Query, description = "The state that was sent to the \
            provider.",
            example = "tnt_sso_state_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"),
           ("code" = Option<String>, Query, description = "The code.",
            example = "SplxlOBeZQQYbYS6WxSbIA"),
           ("error" = Option<String>, Query, description = "The error, instead of a code.",
            example = "access_denied"),
           ("iss" = Option<String>, Query, description = "The issuer of the provider (RFC 9207).",
            example = "https://idp.acme.example")),
    responses((status = 303, description = "Signed in: to the callback URL, with the session's \
               cookie. Or not: to the page that says why.",
               headers(("location" = String, description = "Where to."))),
              (status = 200, description = "Signed in, without a callback URL: an HTML page, with \
               the session's cookie.",
               body = String, content_type = "text/html; charset=utf-8"),
              BadRequest, NotFound, Unavailable))]
pub(in crate::http::user) async fn complete(
    _: SsoIsOn,
    State(app): State<App>,
    _: RateLimitByAddress<SignInLimit>,
    context: RequestContext,
    browser: ReturningBrowser,
    PathId(connection): PathId,
    mut query: Query,
) -> Result<Response> {
    let state = query.optional("state", any_text);
    let code = query.optional("code", parse_code);
    let error = query.optional("error", any_text).map(|error| known_error(&error));
    let issuer = query.optional("iss", any_text);
    let known = ConnectionId::parse(&connection).filter(|_| query.finish().is_ok());
    let (Some(connection), Some(state)) = (known, state) else {
        return Ok(pages::to_rejection(SignInRejection::State));
    };
    let outcome = match (error, code) {
        (Some(error), _) => Err(error),
        (None, Some(code)) => Ok(Secret::new(code)),
        (None, None) => Err("without a code".to_owned()),
    };
    let answer = ProviderAnswer { state: Secret::new(state), outcome, issuer };
    let ReturningBrowser { cookies, client, session: replaced } = browser;
    let browsers = cookies.digests(&app);
    let audit = AuditContext { path: context.route.clone(), ..context.audit_context() };
    let completing = callback::complete(&app, connection, (&answer, &browsers), &client, &audit);
    let completed = shedding::await_without_permits(&app, &context, completing).await?;
    let CompletedSignIn { session, account, callback_url } = match completed {
        Ok(completed) => completed,
        Err(rejection) => return Ok(pages::to_rejection(rejection)),
    };
    if let Some(replaced) = replaced.filter(|it| is_replaced(&it.person, account)) {
        let (person, id) = replaced.person_and_session();
        let end = async |tx: &mut _| sessions::sign_out(tx, person, id, &audit).await;
        app.db.transaction(end).await?;
    }
    let mut response = match callback_url {
        Some(url) => Redirect::to(&url).into_response(),
        None => pages::signed_in(),
    };
    let cookie = session_cookie::set_cookie_header(&app, &session);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Returns whether the session whose cookie is replaced must end: that of another account, or one
/// of single sign-on. The account's own session continues.
fn is_replaced(person: &Person, account: AccountId) -> bool {
    person.account != account || person.is_in_sso_session()
}

/// Returns an error code (RFC 6749 §4.1.2.1); `other` for a text that is none, because anyone can
/// send it.
fn known_error(text: &str) -> String {
    let is_code = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let is_known = text.len() <= 64 && text.bytes().all(is_code);
    if is_known { text.to_owned() } else { "other".to_owned() }
}

fn parse_code(text: &str) -> Result<String, ValidationError> {
    if text.len() > MAX_CODE_BYTES {
        return Err(format!("must be at most {MAX_CODE_BYTES} bytes long").into());
    }
    Ok(text.to_owned())
}

/// Show why a person was not signed in.
#[utoipa::path(get, path = "/api/auth/sso/error", operation_id = "showSsoError", tag = "user",
    params(("code" = Option<String>, Query, description = "The error code.",
            example = "SSO_SEAT_LIMIT")),
    responses((status = 403, description = "The HTML page.", body = String,
               content_type = "text/html; charset=utf-8")))]
pub(in crate::http::user) async fn show_error(
    _: SsoIsOn,
    _: CountedRequest,
    mut query: Query,
) -> Response {
    let code = query.optional("code", any_text);
    pages::rejection(code.as_deref().unwrap_or_default())
}
