//! How a client learns what a rejected request lacks (RFC 6750 §3, RFC 9728 §5.1).

use axum::http::HeaderValue;

use crate::app::App;
use crate::error::{AuthFailure, Error, ErrorKind};
use crate::http::edge::context::RequestContext;
use crate::http::family::{AcceptedCredentials, Family};

/// Returns `WWW-Authenticate` for an error of a route that accepts OAuth tokens, with the route's
/// scope if clients may request that scope; `None` for other routes and errors, and while the
/// authorization server is off.
#[must_use]
pub fn challenge(app: &App, context: &RequestContext, error: &Error) -> Option<HeaderValue> {
    let (settings, facts) = (&app.config.oauth, context.facts);
    let accepts_tokens =
        matches!(facts.family, Family::Onboarding | Family::Organization | Family::User)
            || facts.credentials == AcceptedCredentials::OauthTokens;
    if !settings.is_on || !accepts_tokens {
        return None;
    }
    let scope = context.required_scope.get().map(|scope| scope.as_str());
    let scope = scope.filter(|scope| settings.scopes.allows(scope));
    let scope = scope.map(|scope| format!(r#", scope="{scope}""#)).unwrap_or_default();
    let reason = match error.kind() {
        ErrorKind::Unauthenticated(AuthFailure::MissingCredential) => scope,
        ErrorKind::Unauthenticated(_) => format!(r#", error="invalid_token"{scope}"#),
        ErrorKind::MissingScopes(scopes) => {
            format!(r#", error="insufficient_scope", scope="{}""#, scopes.join(" "))
        }
        _ => return None,
    };
    let metadata = format!("{}/.well-known/oauth-protected-resource", settings.issuer);
    let text = format!(r#"Bearer realm="tenantry", resource_metadata="{metadata}"{reason}"#);
    HeaderValue::from_str(&text).ok()
}
