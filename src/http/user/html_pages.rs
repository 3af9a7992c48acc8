//! The HTML pages that links in mails open. They load no other resource. Their script takes the
//! token from the URL and sends it when the button is pressed.

use std::sync::LazyLock;

use askama::Template;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};

use crate::error::Error;
use crate::http::html_page::{STYLE, security_policy};
use crate::model::account::AccountAccess;

const SCRIPT: &str = include_str!("../../web/pages/page.js");

/// A page. It contains no text that a caller entered, because a stranger may have created the
/// account that it is about.
#[derive(Template)]
#[template(path = "pages/page.html", config = "src/web/askama.toml")]
pub enum HtmlPage {
    /// A button that verifies an address.
    VerifyEmail,
    /// A form for a new password, with the list of what the reset will revoke if the token is
    /// valid.
    ResetPassword(Option<AccountAccess>),
    /// A button that accepts an invitation.
    AcceptInvite,
    /// A button that shows an organization's first key.
    ClaimKey,
}

impl HtmlPage {
    fn title(&self) -> &'static str {
        match self {
            Self::VerifyEmail => "Confirm your email address",
            Self::ResetPassword(_) => "Choose a new password",
            Self::AcceptInvite => "You are invited",
            Self::ClaimKey => "Your API key",
        }
    }
}

/// A kind of object that a password reset revokes, and the number of such objects.
struct Revocation {
    count: u64,
    noun: &'static str,
}

impl Revocation {
    fn new(count: u64, one: &'static str, many: &'static str) -> Option<Self> {
        let noun = if count == 1 { one } else { many };
        (count > 0).then_some(Self { count, noun })
    }

    /// Returns the sessions, which every password reset revokes.
    fn sessions(access: &AccountAccess) -> Option<Self> {
        Self::new(access.sessions, "session", "sessions")
    }

    /// Returns what the reset also revokes if the address was never verified together with the
    /// password.
    fn if_unproven(access: &AccountAccess) -> Vec<Self> {
        if access.is_proven {
            return Vec::new();
        }
        let all = [
            Self::new(access.personal_tokens, "personal access token", "personal access tokens"),
            Self::new(access.keys, "API key", "API keys"),
            Self::new(access.invitations, "open invitation", "open invitations"),
            Self::new(access.app_grants, "grant to an app", "grants to apps"),
        ];
        all.into_iter().flatten().collect()
    }
}

/// The content security policy of these pages.
static PAGE_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| security_policy(SCRIPT, None));

impl IntoResponse for HtmlPage {
    fn into_response(self) -> Response {
        let html = match self.render() {
            Ok(html) => html,
            Err(error) => return Error::internal(error).into_response(),
        };
        let mut response = Html(html).into_response();
        let headers = response.headers_mut();
        if let Ok(policy) = HeaderValue::from_str(&PAGE_SECURITY_POLICY) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}
