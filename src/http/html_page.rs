//! HTML pages: a template, the shared style sheet, and a content security policy that allows
//! exactly the style and the script of the page. They load no other resource.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// The style sheet of `pages/layout.html`.
pub const STYLE: &str = include_str!("../web/pages/page.css");

/// A page.
pub struct HtmlPage<'a, T> {
    /// The status.
    pub status: StatusCode,
    /// The template, which extends `pages/layout.html`.
    pub template: T,
    /// The script that the template contains; empty without one.
    pub script: &'a str,
    /// The origin that a form of the page may be sent to.
    pub form_action: Option<&'a str>,
}

impl<T: askama::Template> IntoResponse for HtmlPage<'_, T> {
    fn into_response(self) -> Response {
        let html = match self.template.render() {
            Ok(html) => html,
            Err(error) => return Error::internal(error).into_response(),
        };
        let policy = security_policy(self.script, self.form_action);
        let mut response = (self.status, Html(html)).into_response();
        let headers = response.headers_mut();
        match HeaderValue::from_str(&policy) {
            Ok(policy) => headers.insert(header::CONTENT_SECURITY_POLICY, policy),
            Err(error) => return Error::internal(error).into_response(),
        };
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

/// Returns the content security policy of a page: it may run its script, apply its style, and send
/// requests to this server and its form to `form_action`.
fn security_policy(script: &str, form_action: Option<&str>) -> String {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let script = match script {
        "" => "'none'".to_owned(),
        script => format!("'sha256-{}'", hash(script)),
    };
    format!(
        "default-src 'none'; script-src {script}; style-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action {}; frame-ancestors 'none'",
        hash(STYLE),
        form_action.unwrap_or("'none'"),
    )
}
