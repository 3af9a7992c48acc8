//! `/v1/verify/forward`, `/nginx` and `/envoy`: checks for reverse proxies, which send a copy of
//! the client's request and act on a status and headers.
//!
//! The client controls the request's method, path, body and most of its headers. None of them can
//! change what a check requires, or is passed on as a header of the response.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;

use crate::app::App;
use crate::domain::verification::{CheckRequest, Verdict, Verifier, check};
use crate::error::{AuthFailure, Error, ErrorKind, Issue, Location, Result};
use crate::http::auth::PresentedCredential;
use crate::http::edge::context::{RequestContext, last_forwarded_address};
use crate::http::render::verification::{
    BadRequest, Forbidden, NotFound, Unauthorized, Unavailable,
};
use crate::http::verification::check_audit_context;
use crate::http::verification::identity_headers::{reported_limits, valid_response};
use crate::http::verification::requirements::{
    CheckHeaders, CheckParameters, Requirements, from_headers, from_query,
};
use crate::http::verification::verifier::ProxyVerifier;
use crate::model::attribution::Attribution;
use crate::model::secret::Secret;
use crate::model::verification::{VerdictClass, VerificationCode};

const REMOVED_BY_ENVOY: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Check the credential of a client's request, for Caddy, Traefik and other proxies.
///
/// Accepts any method. The credential is the client's `X-Api-Key` or `Authorization`; the
/// verifier's secret is in `X-Tenantry-Verifier`. A 200 response names the credential's owner in
/// headers for the backend.
#[utoipa::path(get, path = "/v1/verify/forward", operation_id = "verifyForward",
    tag = "verification", security(("verifier" = [])),
    params(CheckParameters),
    responses((status = 200, description = "The request may pass. The headers `X-Tenantry-*` are \
                                            never empty."),
              BadRequest, Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn forward(
    State(app): State<App>,
    ProxyVerifier(verifier): ProxyVerifier,
    context: RequestContext,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let required = from_query(&uri)?;
    respond(&app, &verifier, (&context, &headers), required).await
}

/// Check the credential of a client's request, for `auth_request` of nginx.
///
/// Like `/v1/verify/forward`, but the status is 200, 401, 403 or 5xx; `X-Tenantry-Status` is the
/// status for the client.
#[utoipa::path(get, path = "/v1/verify/nginx", operation_id = "verifyNginx",
    tag = "verification", security(("verifier" = [])),
    params(CheckParameters),
    responses((status = 200, description = "The request may pass."), Unauthorized, Forbidden,
              Unavailable))]
pub(super) async fn nginx(
    State(app): State<App>,
    ProxyVerifier(verifier): ProxyVerifier,
    context: RequestContext,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let required = from_query(&uri)?;
    respond(&app, &verifier, (&context, &headers), required).await
}

/// Check the credential of a client's request, for `ext_authz` of Envoy.
///
/// Accepts any method and any path below it. What the check requires is in headers that the proxy
/// sets: `X-Tenantry-Scope` (lists separated by commas), `X-Tenantry-Cost`, `X-Tenantry-Resource`,
/// `X-Tenantry-Token-Audience`.
#[utoipa::path(get, path = "/v1/verify/envoy", operation_id = "verifyEnvoy",
    tag = "verification", security(("verifier" = [])),
    params(CheckHeaders),
    responses((status = 200, description = "The request may pass."), BadRequest, Unauthorized,
              Forbidden, NotFound, Unavailable))]
pub(super) async fn envoy(
    State(app): State<App>,
    ProxyVerifier(verifier): ProxyVerifier,
    context: RequestContext,
    headers: HeaderMap,
) -> Result<Response> {
    let required = from_headers(&headers)?;
    let mut response = respond(&app, &verifier, (&context, &headers), required).await?;
    let removed = HeaderValue::from_static("x-api-key,authorization,x-tenantry-verifier");
    response.headers_mut().insert(REMOVED_BY_ENVOY, removed);
    Ok(response)
}

async fn respond(
    app: &App,
    verifier: &Verifier,
    (context, headers): (&RequestContext, &HeaderMap),
    required: Requirements,
) -> Result<Response> {
    required.check_token(app)?;
    reject_ambiguous_headers(headers)?;
    let text = match PresentedCredential::from_headers(headers)? {
        Some(PresentedCredential::Key(text) | PresentedCredential::Bearer(text)) => text,
        Some(PresentedCredential::Unreadable) => "",
        None => {
            let message = "A credential is required";
            return Err(Error::unauthenticated(AuthFailure::MissingCredential, message));
        }
    };
    let request = CheckRequest {
        scopes: required.scopes,
        cost: required.cost.unwrap_or(1),
        limits: required.limits,
        attribution: Arc::new(Attribution {
            resource: required.resource.clone().unwrap_or_default(),
            ..Attribution::default()
        }),
        client_address: last_forwarded_address(headers),
        client_origin: context.origin.clone(),
        is_dry_run: false,
        method_and_path: client_request(headers, required.resource),
    };
    let audit = check_audit_context(context);
    let key = Secret::new(text.to_owned());
    let verdict = check(app, verifier, &key, &request, &audit).await?;
    for decision in reported_limits(&verdict.limits) {
        context.add_rate_limit_decision(decision);
    }
    match verdict.code.class() {
        VerdictClass::Valid => valid_response(app, &verdict, required.audience, audit.at),
        class => Err(rejection(class, verdict)),
    }
}

/// Rejects headers whose names a backend may take for Tenantry's or a credential's: many backends
/// replace `_`, `.` and others by `-`, and proxies pass such names on.
fn reject_ambiguous_headers(headers: &HeaderMap) -> Result<()> {
    let is_ambiguous = |name: &HeaderName| {
        let is_plain = |it: u8| it.is_ascii_alphanumeric() || it == b'-';
        if name.as_str().bytes().all(is_plain) {
            return false;
        }
        let fold = |it: char| if it.is_ascii_alphanumeric() { it } else { '-' };
        let folded: String = name.as_str().chars().map(fold).collect();
        folded.starts_with("x-tenantry-")
            || ["x-api-key", "authorization", "ratelimit", "ratelimit-policy"].contains(&&*folded)
    };
    match headers.keys().find(|name| is_ambiguous(name)) {
        None => Ok(()),
        Some(name) => {
            let issue = Issue::field(name.as_str(), "must not be sent");
            let message = "The name of a header is ambiguous";
            Err(Error::malformed(message).with_issues(vec![issue.with_location(Location::Header)]))
        }
    }
}

/// Returns the method and path of the client's request for the list of rejections. A resource
/// replaces the path, and `-` stands for a value that the proxy does not state.
fn client_request(
    headers: &HeaderMap,
    resource: Option<String>,
) -> (Cow<'static, str>, Cow<'static, str>) {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_method =
        |text: &&str| text.len() <= 16 && text.bytes().all(|it| it.is_ascii_uppercase());
    let method = header(FORWARDED_METHOD).filter(is_method).unwrap_or("-").to_owned();
    let path = header(FORWARDED_URI).and_then(|uri| uri.split(['?', '#']).next()).unwrap_or("-");
    (method.into(), resource.unwrap_or_else(|| path.to_owned()).into())
}

/// Returns the error that the client gets for a rejected request.
fn rejection(class: VerdictClass, verdict: Verdict) -> Error {
    let code = verdict.code;
    let error = match class {
        VerdictClass::Exhausted => exhausted(&verdict),
        VerdictClass::Forbidden if code == VerificationCode::ScopeMissing => {
            let message =
                format!("This credential lacks the scopes {}", verdict.missing_scopes.join(", "));
            Error::new(ErrorKind::MissingScopes(verdict.missing_scopes), message)
        }
        VerdictClass::Forbidden if code == VerificationCode::OrganizationSuspended => {
            Error::new(ErrorKind::OrganizationSuspended, "This organization is suspended")
        }
        VerdictClass::Forbidden => Error::forbidden(match code {
            VerificationCode::OriginNotAllowed => "origin_not_allowed: not an origin of this key",
            VerificationCode::AddressUnknown => "address_unknown: the client address is not known",
            _ => "address_not_allowed: not an address of this key",
        }),
        VerdictClass::Malformed => Error::malformed("The request has two credentials; send one"),
        // One message for every code, so that the client does not learn the reason.
        VerdictClass::Valid | VerdictClass::Unauthenticated => {
            Error::unauthenticated(AuthFailure::InvalidKey, "This credential is not valid")
        }
    };
    match verdict.retry_after {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}

fn exhausted(verdict: &Verdict) -> Error {
    match verdict.quota.filter(|_| verdict.code == VerificationCode::QuotaExceeded) {
        Some(quota) => {
            let (limit, used) = (quota.limit, quota.used);
            let kind = ErrorKind::QuotaExceeded { resource: "requests", limit, used };
            Error::new(kind, "The monthly quota of requests is used up")
        }
        None if verdict.code == VerificationCode::CreditsExhausted => {
            Error::new(ErrorKind::RateLimited, "credits_exhausted: The credits are used up")
        }
        None => Error::new(ErrorKind::RateLimited, "Too many requests"),
    }
}
