//! `GET /oauth2/sign-in`: the page on which a person signs in before answering a request.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::domain::oauth::pending_request::{self, REQUEST_PARAMETER, page_path, page_with};
use crate::error::Result;
use crate::http::auth::{CookieSession, InAnySession};
use crate::http::browser_cookie::BrowserCookies;
use crate::http::html_page::HtmlPage;
use crate::http::oauth::responses::request_handle_error_page;
use crate::http::oauth::{
    CONSENT_PATH, SIGN_IN_PATH, SWITCH_PARAMETER, USER_CODE_PARAMETER, parse_text,
};
use crate::http::query::Query;
use crate::http::render::oauth::{ErrorBody, Unavailable};
use crate::http::shown_once::see_other;
use crate::http::switches::OauthIsOn;
use crate::model::secret::Secret;

const SIGN_IN_SCRIPT: &str = include_str!("../../web/pages/oauth_sign_in.js");

#[derive(Template)]
#[template(path = "pages/oauth_sign_in.html", config = "src/web/askama.toml")]
struct SignInPage {
    client_name: String,
    login_hint: String,
}

/// Returns the path of the page for signing in that leads to the page for a device's code.
pub(super) fn path_for_device(user_code: &Secret) -> Secret {
    page_with(SIGN_IN_PATH, (USER_CODE_PARAMETER, user_code))
}

/// Redirects to the operator's own page with the parameter, if such a page is configured, and
/// otherwise shows this server's page.
fn show(app: &App, parameter: (&str, &Secret), template: SignInPage) -> Response {
    if let Some(page) = &app.config.oauth.sign_in_page {
        return see_other(page_with(page, parameter));
    }
    let (status, script) = (StatusCode::OK, SIGN_IN_SCRIPT);
    HtmlPage { status, template, script, form_action: None }.into_response()
}

/// Show the HTML page on which the person signs in, before the page that asks for consent.
///
/// A person who is signed in already is redirected to that page, unless the app requires that they
/// sign in again, or `switch` is sent. With `user_code` instead of `request`, the page leads to
/// the one for a device's code.
#[utoipa::path(get, path = "/oauth2/sign-in", operation_id = "showOauthSignInPage", tag = "oauth",
    params(("request" = Option<String>, Query, description = "The handle of the request.",
            example = "tnt_oauth_request_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"),
           ("user_code" = Option<String>, Query, example = "WDJB-MJHT",
            description = "Without `request`: the page leads to that for a device's code, which \
                           may be empty."),
           ("switch" = Option<String>, Query, example = "1",
            description = "Any text: show the page to a person who is signed in, too.")),
    security((), ("session" = [])),
    responses((status = 200, description = "The HTML page.", body = String,
               content_type = "text/html; charset=utf-8"),
              (status = 303, description = "To the page that asks for consent, or to that of \
               `SIGN_IN_PAGE`."),
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
    browser: BrowserCookies,
    mut query: Query,
) -> Result<Response> {
    let handle = query.optional(REQUEST_PARAMETER, parse_text);
    if handle.is_none() && query.has(USER_CODE_PARAMETER) {
        let user_code = query.optional(USER_CODE_PARAMETER, parse_text);
        let user_code = Secret::new(user_code.unwrap_or_default());
        let client_name = "the app on your device".to_owned();
        let template = SignInPage { client_name, login_hint: String::new() };
        return Ok(show(&app, (USER_CODE_PARAMETER, &user_code), template));
    }
    let handle = Secret::new(handle.unwrap_or_default());
    let is_switch = query.optional(SWITCH_PARAMETER, parse_text).is_some();
    let pending = match pending_request::find(&app, &handle, &browser.digests(&app)).await {
        Ok(pending) => pending,
        Err(error) => return Ok(request_handle_error_page(error)),
    };
    if let Some(caller) =
        session.as_ref().map(InAnySession::person_and_session).filter(|_| !is_switch)
    {
        let must_sign_in = async |db: &mut _| pending.requires_sign_in(db, caller).await;
        if !app.db.run(must_sign_in).await? {
            return Ok(see_other(page_path(CONSENT_PATH, &handle)));
        }
    }
    let template = SignInPage {
        client_name: pending.client.name,
        login_hint: pending.request.login_hint.unwrap_or_default(),
    };
    Ok(show(&app, (REQUEST_PARAMETER, &handle), template))
}
