//! The HTML pages that links in mails open. They load no other resource. Their script takes the
//! token from the URL and sends it when the button is pressed.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::http::html_page::{HtmlPage, STYLE};
use crate::model::account::AccountAccess;

const SCRIPT: &str = include_str!("../../web/pages/page.js");

/// A page. It contains no text that a caller entered, because a stranger may have created the
/// account that it is about.
#[derive(Template)]
#[template(path = "pages/page.html", config = "src/web/askama.toml")]
pub enum MailedLinkPage {
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

impl MailedLinkPage {
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

impl IntoResponse for MailedLinkPage {
    fn into_response(self) -> Response {
        let (status, script) = (StatusCode::OK, SCRIPT);
        HtmlPage { status, template: self, script, form_action: None }.into_response()
    }
}
