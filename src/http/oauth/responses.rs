//! What the authorization endpoint and its pages respond: redirects, and pages with an error.

use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use url::Url;

use crate::domain::oauth::authorization::UnknownSender;
use crate::error::{Error, ErrorKind};
use crate::http::html_page::HtmlPage;
use crate::http::render::{ErrorExtension, IsRendered};
use crate::http::shown_once::see_other;
use crate::model::oauth::authorization_response::{
    AuthorizationResponse, ResponseMode, ResponseTarget,
};
use crate::model::secret::Secret;

const FORM_POST_SCRIPT: &str = include_str!("../../web/pages/oauth_form_post.js");

/// A page that states why a request cannot be answered.
#[derive(Template)]
#[template(path = "pages/message.html", config = "src/web/askama.toml")]
struct ErrorPage {
    heading: &'static str,
    message: String,
}

/// A page that posts a response to the client.
#[derive(Template)]
#[template(path = "pages/oauth_form_post.html", config = "src/web/askama.toml")]
struct FormPostPage<'a> {
    action: &'a str,
    code: Option<Secret>,
    parameters: Vec<(&'static str, &'a str)>,
}

/// Returns the page for a request whose sender is not known. It does not redirect.
pub fn unknown_sender(reason: UnknownSender) -> Response {
    let message = match reason {
        UnknownSender::Client => {
            "The app that sent you here is not known. `client_id` must be the id of an enabled app."
        }
        UnknownSender::RedirectUri => {
            "The app that sent you here asked to send you to an address that is not its own. \
             `redirect_uri` must be exactly one that is registered."
        }
    };
    bad_client(message.to_owned())
}

/// Returns the page for a request whose client cannot be used. It does not redirect.
pub fn bad_client(message: String) -> Response {
    error_page(StatusCode::BAD_REQUEST, Error::malformed(message.clone()), message)
}

/// Returns the page for an error that concerns the handle of a request; other errors are rendered
/// as in the whole family.
pub fn request_handle_error_page(error: Error) -> Response {
    let status = match error.kind() {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        _ => return error.into_response(),
    };
    let message = format!("{}. Start again in the app that sent you here.", error.message());
    error_page(status, error, message)
}

fn error_page(status: StatusCode, error: Error, message: String) -> Response {
    let template = ErrorPage { heading: "This request cannot be answered", message };
    let page = HtmlPage { status, template, script: "", form_action: None };
    let mut response = page.into_response();
    response.extensions_mut().insert(ErrorExtension(Arc::new(error)));
    response.extensions_mut().insert(IsRendered);
    response
}

/// Sends a response to the client: by a redirect, or by a page that posts it.
pub fn respond(response: &AuthorizationResponse) -> Response {
    match response.target().mode {
        ResponseMode::Query => see_other(response.url()),
        ResponseMode::FormPost => {
            let target = response.target();
            let template = FormPostPage {
                action: &target.redirect_uri,
                code: response.code(),
                parameters: response.parameters(),
            };
            let origin = form_action(target);
            let form_action = origin.as_deref();
            let script = FORM_POST_SCRIPT;
            HtmlPage { status: StatusCode::OK, template, script, form_action }.into_response()
        }
    }
}

/// Returns the origin that a form with the response is posted to; `None` without a form.
pub fn form_action(target: &ResponseTarget) -> Option<String> {
    let url = Url::parse(&target.redirect_uri).ok();
    let url = url.filter(|_| target.mode == ResponseMode::FormPost);
    url.map(|url| url.origin().ascii_serialization())
}
