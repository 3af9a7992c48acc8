//! The pages that mailed links lead to. They load nothing from anywhere; their script takes the
//! token out of the address and sends it when a person asks.

use std::borrow::Cow;
use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use crate::model::account::AccountAccess;

const SHELL: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A button that proves an address.
pub const VERIFY_EMAIL: HtmlPage = HtmlPage {
    title: "Confirm your e-mail address",
    body: Cow::Borrowed(include_str!("verify_email.html")),
};
/// A form for a new password, and what it will end of what the account has, where that is known.
///
/// It names kinds and numbers, and nothing that anybody typed: a stranger may have made them.
#[must_use]
pub fn reset_password(holdings: Option<AccountAccess>) -> HtmlPage {
    let form = include_str!("reset_password.html");
    let body = form.replace("{ends}", &holdings.map_or_else(sign_out_notice, revocation_notice));
    HtmlPage { title: "Choose a new password", body: Cow::Owned(body) }
}

fn sign_out_notice() -> String {
    "<p>You will be signed out everywhere.</p>".to_owned()
}

fn revocation_notice(held: AccountAccess) -> String {
    let sessions = [(held.sessions, "session", "sessions")];
    let rest = [
        (held.personal_tokens, "personal access token", "personal access tokens"),
        (held.keys, "API key", "API keys"),
        (held.invitations, "open invitation", "open invitations"),
    ];
    let rest = rest.into_iter().filter(|(count, ..)| *count > 0 && !held.is_proven);
    let has_others = rest.clone().next().is_some();
    let all = sessions.into_iter().filter(|(count, ..)| *count > 0).chain(rest);
    let items: Vec<_> = all
        .map(|(count, one, many)| {
            format!("<li>{count} {}</li>", if count == 1 { one } else { many })
        })
        .collect();
    if items.is_empty() {
        return sign_out_notice();
    }
    let why = if has_others { include_str!("reset_password_unproven.html") } else { "" };
    let items = items.concat();
    format!("<p>This ends when you press the button:</p>\n<ul>{items}</ul>\n{why}")
}

/// A button that accepts an invitation.
pub const ACCEPT_INVITE: HtmlPage =
    HtmlPage { title: "You are invited", body: Cow::Borrowed(include_str!("accept_invite.html")) };

/// A button that shows an organization's first key.
pub const CLAIM_KEY: HtmlPage =
    HtmlPage { title: "Your API key", body: Cow::Borrowed(include_str!("claim_key.html")) };

/// What a browser may do on these pages: run their script, use their style, ask us.
static PAGE_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE),
    )
});

/// A page.
pub struct HtmlPage {
    title: &'static str,
    body: Cow<'static, str>,
}

impl IntoResponse for HtmlPage {
    fn into_response(self) -> Response {
        let html = SHELL
            .replace("{title}", self.title)
            .replace("{body}", &self.body)
            .replace("{style}", STYLE)
            .replace("{script}", SCRIPT);
        let mut response = Html(html).into_response();
        let headers = response.headers_mut();
        if let Ok(policy) = HeaderValue::from_str(&PAGE_SECURITY_POLICY) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}
