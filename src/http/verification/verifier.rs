//! The guard of the family's routes: a verifier, by its secret, or behind `VERIFY_ADDR`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use crate::app::App;
use crate::app::rejections::RejectedCredential;
use crate::domain::verification::Verifier;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_address;
use crate::http::query;
use crate::model::audit::AuditContext;
use crate::model::rate_limit::{LimitSubject, RateLimit};

const VERIFIER: HeaderName = HeaderName::from_static("x-tenantry-verifier");

/// Marks the requests of the listener `VERIFY_ADDR`.
#[derive(Clone, Copy)]
pub struct LocalVerifier;

/// Guard of the JSON routes: the secret in `X-Tenantry-Verifier` or `Authorization: Bearer`.
pub struct JsonVerifier(pub Verifier);

impl FromRequestParts<App> for JsonVerifier {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let secret = single(&parts.headers, &VERIFIER).or_else(|| bearer(&parts.headers));
        let verifier = identify(parts, app, secret.as_deref()).await?;
        query::require_known(&parts.extensions).map(|()| Self(verifier))
    }
}

/// Guard of the proxy routes: the secret in `X-Tenantry-Verifier`. `Authorization` is the client's.
pub struct ProxyVerifier(pub Verifier);

impl FromRequestParts<App> for ProxyVerifier {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let secret = single(&parts.headers, &VERIFIER);
        let verifier = identify(parts, app, secret.as_deref()).await;
        // A mistake of the proxy must not look like one of its client, who learns nothing of it.
        let context = RequestContext::from_extensions(&parts.extensions)?;
        verifier.map(Self).map_err(|error| {
            if *error.kind() == ErrorKind::NotFound {
                return error;
            }
            let _ = context.take_rate_limit_decisions();
            Error::unavailable("the proxy presents no valid verifier")
        })
    }
}

/// Returns the verifier of a request. A wrong secret is counted by address and recorded in the
/// deployment's audit log; a correct one is not affected by that count.
///
/// # Errors
/// Unauthenticated; rate limited; not found where verification is off.
async fn identify(parts: &mut Parts, app: &App, secret: Option<&str>) -> Result<Verifier> {
    if parts.extensions.get::<LocalVerifier>().is_some() {
        return Ok(Verifier::local());
    }
    let settings = &app.config.verification;
    if !settings.is_enabled() {
        return Err(Error::not_found("No route matches this path"));
    }
    if let Some(name) = secret.and_then(|secret| settings.verifiers.find(secret)) {
        return Ok(Verifier::new(name));
    }
    let context = RequestContext::from_request_parts(parts, app).await?;
    let client = LimitSubject::from_address(context.client_address);
    app.rejections.record_credential(RejectedCredential::Verifier(Some(client)), || AuditContext {
        path: context.route.clone(),
        ..context.audit_context_for(StatusCode::UNAUTHORIZED)
    });
    count_address(app, &context, RateLimit::VerifierFailures)?;
    let message = "This endpoint requires a verifier's secret in X-Tenantry-Verifier";
    Err(Error::unauthenticated(AuthFailure::InvalidVerifier, message))
}

/// The value of a header that is sent once.
fn single(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let (first, another) = (values.next()?, values.next());
    first.to_str().ok().filter(|_| another.is_none()).map(|text| text.trim().to_owned())
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let text = single(headers, &header::AUTHORIZATION)?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}
