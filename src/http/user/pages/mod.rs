//! The pages that mailed links lead to. They are the same for everyone and load nothing from
//! anywhere; their script takes the token out of the address and sends it when a person asks.

use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

const SHELL: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A button that proves an address.
pub const VERIFY_EMAIL: Page =
    Page { title: "Confirm your e-mail address", body: include_str!("verify_email.html") };
/// A form for a new password.
pub const RESET_PASSWORD: Page =
    Page { title: "Choose a new password", body: include_str!("reset_password.html") };

/// A button that accepts an invitation.
pub const ACCEPT_INVITE: Page =
    Page { title: "You are invited", body: include_str!("accept_invite.html") };

/// A button that shows an organization's first key.
pub const CLAIM_KEY: Page = Page { title: "Your API key", body: include_str!("claim_key.html") };

/// What a browser may do on these pages: run their script, use their style, ask us.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE),
    )
});

/// A page.
pub struct Page {
    title: &'static str,
    body: &'static str,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let html = SHELL
            .replace("{title}", self.title)
            .replace("{body}", self.body)
            .replace("{style}", STYLE)
            .replace("{script}", SCRIPT);
        let mut response = Html(html).into_response();
        let headers = response.headers_mut();
        if let Ok(policy) = HeaderValue::from_str(&POLICY) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}
