//! The guards of the family's routes. They require a verifier's secret, except at `VERIFY_ADDR`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};

use crate::app::App;
use crate::app::in_flight::RequestPermit;
use crate::app::rejections::RejectedCredential;
use crate::domain::verification::Verifier;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::http::auth::{authorization, basic_credentials, single_header_value as single};
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_address;
use crate::http::edge::shedding::{self, PermitGuard};
use crate::http::query;
use crate::model::audit::AuditContext;
use crate::model::ids::AppId;
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
        let presented = secret.map(|secret| (None, secret)).into_iter().collect();
        let verifier = identify(parts, app, presented).await?;
        query::require_known(&parts.extensions).map(|()| Self(verifier))
    }
}

/// Guard of introspection: a verifier as for [`JsonVerifier`], or with name and secret as
/// `Authorization: Basic`; while OAuth is on, also a client, which is not authenticated yet.
/// Unknown query parameters are ignored (RFC 6749 §3.1).
///
/// Only a verifier gets a permit for checks. Another request gets the permits of an anonymous
/// request, which it releases while its body arrives.
pub enum Introspector {
    /// A verifier, and its permit.
    Verifier(Verifier, RequestPermit),
    /// A request that presents the id of a client in HTTP Basic, or neither a verifier's secret nor
    /// HTTP Basic: the body may have the id of a client.
    Client(PermitGuard),
}

impl FromRequestParts<App> for Introspector {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let headers = &parts.headers;
        let secret = single(headers, &VERIFIER).or_else(|| bearer(headers));
        let presented: Vec<PresentedSecret> = match secret {
            Some(secret) => vec![(None, secret)],
            None => basic_credentials(headers)
                .into_iter()
                .map(|(name, secret)| (Some(name), secret))
                .collect(),
        };
        let is_app = |(name, _): &PresentedSecret| {
            name.as_deref().is_some_and(|name| AppId::parse(name).is_some())
        };
        let may_be_client = presented.is_empty() || presented.iter().any(is_app);
        let is_local = parts.extensions.get::<LocalVerifier>().is_some();
        if may_be_client && !is_local && app.config.oauth.is_on {
            let context = RequestContext::from_request_parts(parts, app).await?;
            let permit = shedding::acquire_permit(app, &context)?;
            let subject = LimitSubject::from_address(context.client_address);
            let guard = shedding::acquire_caller_permit(app, &context, permit, subject)?;
            return Ok(Self::Client(guard));
        }
        let verifier = identify(parts, app, presented).await?;
        Ok(Self::Verifier(verifier, shedding::acquire_check_permit(app)?))
    }
}

/// Guard of the proxy routes: the secret in `X-Tenantry-Verifier`. `Authorization` is the client's.
pub struct ProxyVerifier(pub Verifier);

impl FromRequestParts<App> for ProxyVerifier {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let secret = single(&parts.headers, &VERIFIER);
        let presented = secret.map(|secret| (None, secret)).into_iter().collect();
        let verifier = identify(parts, app, presented).await;
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

/// A presented secret, and the name of the verifier if that is presented, too.
type PresentedSecret = (Option<String>, String);

/// Returns the verifier whose secret the request presents, in one of several readings. A
/// missing or wrong secret is counted by address and recorded in the deployment's audit log; a
/// correct one is not affected by that count.
///
/// # Errors
/// Unauthenticated; rate limited; not found where verification is off.
async fn identify(
    parts: &mut Parts,
    app: &App,
    presented: Vec<PresentedSecret>,
) -> Result<Verifier> {
    if parts.extensions.get::<LocalVerifier>().is_some() {
        return Ok(Verifier::local());
    }
    let settings = &app.config.verification;
    if !settings.is_enabled() {
        return Err(Error::not_found("No route matches this path"));
    }
    let find = |(name, secret): PresentedSecret| settings.verifiers.find(name.as_deref(), &secret);
    if let Some(name) = presented.into_iter().find_map(find) {
        return Ok(Verifier::new(name));
    }
    let context = RequestContext::from_request_parts(parts, app).await?;
    Err(reject_missing_secret(app, &context))
}

/// Counts and records a request without a valid secret of a verifier, and returns its error.
pub fn reject_missing_secret(app: &App, context: &RequestContext) -> Error {
    let client = LimitSubject::from_address(context.client_address);
    app.rejections.record_credential(RejectedCredential::Verifier(Some(client)), || AuditContext {
        path: context.route.clone(),
        ..context.audit_context_for(StatusCode::UNAUTHORIZED)
    });
    if let Err(limited) = count_address(app, context, RateLimit::VerifierFailures) {
        return limited;
    }
    let message = "This endpoint requires a verifier's secret in X-Tenantry-Verifier";
    Error::unauthenticated(AuthFailure::InvalidVerifier, message)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    authorization(headers, "bearer")
}
