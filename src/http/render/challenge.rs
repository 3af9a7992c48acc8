//! How a client learns what a rejected request lacks (RFC 6750 §3, RFC 9728 §5.1).

use axum::http::HeaderValue;

use crate::app::App;
use crate::error::{AuthFailure, Error, ErrorKind};
use crate::http::family::{AcceptedCredentials, Family, RouteFacts};

/// Returns `WWW-Authenticate` of an error of a route that accepts OAuth tokens; `None` for other
/// routes and errors, and while the authorization server is off.
#[must_use]
pub fn challenge(app: &App, facts: RouteFacts, error: &Error) -> Option<HeaderValue> {
    let settings = &app.config.oauth;
    let accepts_tokens =
        matches!(facts.family, Family::Onboarding | Family::Organization | Family::User)
            || facts.credentials == AcceptedCredentials::OauthTokens;
    if !settings.is_on || !accepts_tokens {
        return None;
    }
    let reason = match error.kind() {
        ErrorKind::Unauthenticated(AuthFailure::MissingCredential) => String::new(),
        ErrorKind::Unauthenticated(_) => r#", error="invalid_token""#.to_owned(),
        ErrorKind::MissingScopes(scopes) => {
            format!(r#", error="insufficient_scope", scope="{}""#, scopes.join(" "))
        }
        _ => return None,
    };
    let metadata = format!("{}/.well-known/oauth-protected-resource", settings.issuer);
    let text = format!(r#"Bearer realm="tenantry", resource_metadata="{metadata}"{reason}"#);
    HeaderValue::from_str(&text).ok()
}
