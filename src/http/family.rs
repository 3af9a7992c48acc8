//! The family table: which paths speak which dialect, and how each says that something failed.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

use crate::error::{Error, ErrorKind};
use crate::http::context::RequestContext;
use crate::http::{account, onboarding, operator, organization, problem, user};

/// A family of routes, each for one audience; or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A stranger's script, later its key.
    Onboarding,
    /// A dashboard front end.
    Account,
    /// An organization's own automation.
    Organization,
    /// The operator's workers.
    Operator,
    /// Browsers and personal access tokens.
    User,
    /// Everything outside the families: RFC 9457.
    Other,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 6] = [
        Self::Onboarding,
        Self::Account,
        Self::Organization,
        Self::Operator,
        Self::User,
        Self::Other,
    ];

    /// The family that a path belongs to, whether there is anything at it or not.
    #[must_use]
    pub fn from_path(path: &str) -> Self {
        let mut segments = path.split('/').skip(1);
        match (segments.next().unwrap_or_default(), segments.next()) {
            ("signup" | "me" | "usage", _)
            | ("auth", Some("token-exchange" | "refresh" | "verify")) => Self::Onboarding,
            ("auth", _) => Self::Account,
            ("v1", Some("organization")) => Self::Organization,
            ("v1", Some("admin")) => Self::Operator,
            ("api", Some("auth" | "user")) => Self::User,
            _ => Self::Other,
        }
    }

    /// The family's name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Onboarding => "onboarding",
            Self::Account => "account",
            Self::Organization => "organization",
            Self::Operator => "operator",
            Self::User => "user",
            Self::Other => "none",
        }
    }

    /// What a failure looks like in this family.
    #[must_use]
    pub fn render(self, error: &Error, context: &RequestContext) -> Response {
        let mut response = match self {
            Self::Onboarding => onboarding::dialect::render(error, context),
            Self::Account => account::dialect::render(error),
            Self::Organization => organization::dialect::render(error, context),
            Self::Operator => operator::dialect::render(error, context),
            Self::User => user::dialect::render(error),
            Self::Other => problem::render(error, context),
        };
        for (name, value) in error_headers(error) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The headers that a failure brings in every family.
fn error_headers(error: &Error) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Bearer realm="tenantry""#);
    let challenge = matches!(error.kind(), ErrorKind::Unauthenticated(_))
        .then_some((header::WWW_AUTHENTICATE, CHALLENGE));
    let seconds = error.retry_after_seconds();
    challenge.into_iter().chain(seconds.map(|it| (header::RETRY_AFTER, HeaderValue::from(it))))
}
