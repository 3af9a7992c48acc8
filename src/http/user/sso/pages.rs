//! The pages that a person sees after a sign-in with an identity provider.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::http::html_page::HtmlPage;
use crate::http::render::IsRendered;
use crate::http::shown_once::see_other;
use crate::model::secret::Secret;
use crate::model::sso::sign_in_rejection::SignInRejection;

/// The path of the page that says why a person was not signed in.
const ERROR_PATH: &str = "/api/auth/sso/error";

#[derive(Template)]
#[template(path = "pages/message.html", config = "src/web/askama.toml")]
struct MessagePage {
    heading: &'static str,
    message: &'static str,
}

/// A page that another site's link to a sign-in leads to first: it must not replace the account of
/// a browser unnoticed.
#[derive(Template)]
#[template(path = "pages/sso_start.html", config = "src/web/askama.toml")]
pub(super) struct StartPage {
    /// The name of the organization.
    pub organization: String,
    /// The host of the identity provider.
    pub provider: String,
    /// The link that continues.
    pub url: String,
}

impl IntoResponse for StartPage {
    fn into_response(self) -> Response {
        let (status, script) = (StatusCode::OK, "");
        HtmlPage { status, template: self, script, form_action: None }.into_response()
    }
}

fn page(status: StatusCode, heading: &'static str, message: &'static str) -> Response {
    let template = MessagePage { heading, message };
    let page = HtmlPage { status, template, script: "", form_action: None };
    let mut response = page.into_response();
    response.extensions_mut().insert(IsRendered);
    response
}

/// Returns the page for a connection that does not exist or is not active.
pub(super) fn not_configured() -> Response {
    let message = "Single sign-on is not set up here. Check the link, or sign in with a password.";
    page(StatusCode::NOT_FOUND, "This link does not work", message)
}

/// Returns the page for a person who is signed in.
pub(super) fn signed_in() -> Response {
    page(StatusCode::OK, "You are signed in", "You can close this page and go back to the app.")
}

/// Returns the page that says why a person was not signed in, by the error code.
pub(super) fn rejection(code: &str) -> Response {
    let unknown = "Something went wrong. Sign in again.";
    let message = SignInRejection::advice(code).unwrap_or(unknown);
    page(StatusCode::FORBIDDEN, "You are not signed in", message)
}

/// Redirects to the page that says why a person was not signed in.
pub(super) fn to_rejection(rejection: SignInRejection) -> Response {
    see_other(Secret::new(format!("{ERROR_PATH}?code={}", rejection.code())))
}
