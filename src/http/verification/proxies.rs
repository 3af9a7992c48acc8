//! `/v1/verify/forward`, `/nginx` and `/envoy`: checks for reverse proxies, which ask with a copy of
//! the client's request and act on a status and headers (VERIFY §4).
//!
//! The client controls the request's method, path, body and most of its headers. What a check
//! requires is therefore read from one place that it cannot write, and its own headers are never
//! passed on as ours.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::domain::verification::{CheckRequest, Verdict, Verifier, check};
use crate::error::{AuthFailure, Error, ErrorKind, Issue, Location, Result};
use crate::http::auth::PresentedCredential;
use crate::http::edge::context::{RequestContext, last_forwarded_address};
use crate::http::render::verification::{
    BadRequest, Forbidden, NotFound, STATUS, Unauthorized, Unavailable,
};
use crate::http::verification::verifier::ProxyVerifier;
use crate::model::ValidationError;
use crate::model::key_format::KeyFormat;
use crate::model::secret::Secret;
use crate::model::verification::{RequiredScopes, VerdictClass, VerificationCode};

/// The headers of a positive answer, which the proxy passes to the backend.
const ORGANIZATION: HeaderName = HeaderName::from_static("x-tenantry-organization");
const KEY: HeaderName = HeaderName::from_static("x-tenantry-key");
const ACCOUNT: HeaderName = HeaderName::from_static("x-tenantry-account");
const PLAN: HeaderName = HeaderName::from_static("x-tenantry-plan");
const SCOPES: HeaderName = HeaderName::from_static("x-tenantry-scopes");
const EXTERNAL_ID: HeaderName = HeaderName::from_static("x-tenantry-external-id");
const TOKEN: HeaderName = HeaderName::from_static("x-tenantry-token");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const REMOVED_BY_ENVOY: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// The headers of a check for Envoy.
const SCOPE: HeaderName = HeaderName::from_static("x-tenantry-scope");
const COST: HeaderName = HeaderName::from_static("x-tenantry-cost");
const RESOURCE: HeaderName = HeaderName::from_static("x-tenantry-resource");

const FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// What a header has where there is nothing: proxies pass the client's own header on in place of
/// one that is missing or empty.
const NOTHING: HeaderValue = HeaderValue::from_static("-");
/// The longest list of scopes in a header.
const MAX_SCOPES_LENGTH: usize = 1024;
/// The longest path in the list of rejections.
const MAX_PATH_CHARS: usize = 256;

/// Check the credential of a client's request, for Caddy, Traefik and other proxies.
///
/// Accepts any method. The credential is the client's `X-Api-Key` or `Authorization`; the verifier's
/// secret is in `X-Tenantry-Verifier`. A positive answer names the credential's owner in headers for
/// the backend.
#[utoipa::path(get, path = "/v1/verify/forward", operation_id = "verifyForward",
    tag = "verification", security(("verifier" = [])),
    params(("scope" = Option<String>, Query,
            description = "Required scopes, separated by spaces. Repeated: any of these lists."),
           ("cost" = Option<i32>, Query,
            description = "How many requests of the quota it counts as. Default: 1."),
           ("resource" = Option<String>, Query,
            description = "The template of the route, for the list of rejections.")),
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
/// Like `/v1/verify/forward`, but answers only 200, 401, 403 and 5xx; `X-Tenantry-Status` has the
/// status that the client should get.
#[utoipa::path(get, path = "/v1/verify/nginx", operation_id = "verifyNginx",
    tag = "verification", security(("verifier" = [])),
    params(("scope" = Option<String>, Query,
            description = "Required scopes, separated by spaces. Repeated: any of these lists."),
           ("cost" = Option<i32>, Query,
            description = "How many requests of the quota it counts as. Default: 1."),
           ("resource" = Option<String>, Query,
            description = "The template of the route, for the list of rejections.")),
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
/// Accepts any method and any path behind it. What the check requires is in headers that the proxy
/// sets: `X-Tenantry-Scope` (lists separated by commas), `X-Tenantry-Cost`, `X-Tenantry-Resource`.
#[utoipa::path(get, path = "/v1/verify/envoy", operation_id = "verifyEnvoy",
    tag = "verification", security(("verifier" = [])),
    params(("X-Tenantry-Scope" = Option<String>, Header,
            description = "Required scopes, separated by spaces; several lists, of which any is \
                           sufficient, separated by commas."),
           ("X-Tenantry-Cost" = Option<i32>, Header,
            description = "How many requests of the quota it counts as. Default: 1."),
           ("X-Tenantry-Resource" = Option<String>, Header,
            description = "The template of the route, for the list of rejections.")),
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

/// What a proxy requires of a client's credential.
#[derive(Default)]
struct Required {
    scopes: RequiredScopes,
    cost: Option<u32>,
    resource: Option<String>,
}

/// Reads the query of the check's own URL, which the proxy's configuration contains.
fn from_query(uri: &Uri) -> Result<Required> {
    let (mut required, mut lists, mut issues) = (Required::default(), Vec::new(), Vec::new());
    let mut reject = |name: &str, ValidationError(message)| {
        let name: String = name.chars().take(64).collect();
        issues.push(Issue::field(name, message).with_location(Location::Query));
    };
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*name {
            "scope" => lists.push(value.into_owned()),
            "cost" if required.cost.is_none() => match parse_cost(&value) {
                Ok(cost) => required.cost = Some(cost),
                Err(why) => reject(&name, why),
            },
            "resource" if required.resource.is_none() => {
                required.resource = Some(value.into_owned());
            }
            "cost" | "resource" => reject(&name, "must not be repeated".into()),
            _ => reject(&name, "is not a query parameter of this route".into()),
        }
    }
    match parse_scope_lists(lists.iter().map(String::as_str)) {
        Ok(scopes) => required.scopes = scopes,
        Err(why) => reject("scope", why),
    }
    if issues.is_empty() { Ok(required) } else { Err(misconfigured(issues)) }
}

/// Reads the headers that Envoy adds to a check. One that is there twice could be the client's.
fn from_headers(headers: &HeaderMap) -> Result<Required> {
    let (mut required, mut issues) = (Required::default(), Vec::new());
    let mut reject = |name: &HeaderName, ValidationError(message)| {
        issues.push(Issue::field(name.as_str(), message).with_location(Location::Header));
    };
    for name in [SCOPE, COST, RESOURCE] {
        let mut values = headers.get_all(&name).iter();
        let Some(value) = values.next() else { continue };
        let (Ok(text), None) = (value.to_str(), values.next()) else {
            reject(&name, "must be sent once, in ASCII".into());
            continue;
        };
        if name == SCOPE {
            match parse_scope_lists(text.split(',')) {
                Ok(scopes) => required.scopes = scopes,
                Err(why) => reject(&name, why),
            }
        } else if name == COST {
            match parse_cost(text) {
                Ok(cost) => required.cost = Some(cost),
                Err(why) => reject(&name, why),
            }
        } else {
            required.resource = Some(text.to_owned());
        }
    }
    if issues.is_empty() { Ok(required) } else { Err(misconfigured(issues)) }
}

fn misconfigured(issues: Vec<Issue>) -> Error {
    Error::malformed("The proxy's check is configured incorrectly").with_issues(issues)
}

fn parse_scope_lists<'a>(
    lists: impl Iterator<Item = &'a str>,
) -> std::result::Result<RequiredScopes, ValidationError> {
    let words = |list: &str| list.split_whitespace().map(str::to_owned).collect();
    RequiredScopes::parse(&lists.map(words).collect::<Vec<Vec<String>>>())
}

fn parse_cost(text: &str) -> std::result::Result<u32, ValidationError> {
    let cost = text.parse().ok().filter(|cost| *cost <= 1_000_000);
    cost.ok_or_else(|| "must be a whole number from 0 to 1000000".into())
}

async fn respond(
    app: &App,
    verifier: &Verifier,
    (context, headers): (&RequestContext, &HeaderMap),
    required: Required,
) -> Result<Response> {
    reject_look_alikes(headers)?;
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
        client_address: last_forwarded_address(headers),
        client_origin: context.origin.clone(),
        is_dry_run: false,
        checked: checked_request(app, headers, required.resource),
    };
    let audit = context.audit_context();
    let key = Secret::new(text.to_owned());
    let verdict = check(app, verifier, &key, &request, &audit).await?;
    for decision in &verdict.limits {
        context.add_rate_limit_decision(*decision);
    }
    match verdict.code.class() {
        VerdictClass::Valid => Ok(positive(&verdict)),
        class => Err(rejection(class, verdict)),
    }
}

/// Rejects headers whose names a backend may read as one of ours or as a credential: many replace
/// `_` and `.` by `-`, and proxies pass such names on.
fn reject_look_alikes(headers: &HeaderMap) -> Result<()> {
    let is_look_alike = |name: &HeaderName| {
        if !name.as_str().contains(['_', '.']) {
            return false;
        }
        let folded = name.as_str().replace(['_', '.'], "-");
        folded.starts_with("x-tenantry-")
            || ["x-api-key", "authorization", "ratelimit", "ratelimit-policy"].contains(&&*folded)
    };
    match headers.keys().find(|name| is_look_alike(name)) {
        None => Ok(()),
        Some(name) => {
            let issue = Issue::field(name.as_str(), "must not be sent");
            let message = "A header's name can be mistaken for another one";
            Err(Error::malformed(message).with_issues(vec![issue.with_location(Location::Header)]))
        }
    }
}

/// The method and the path of the client's request, for the list of rejections only. A segment of
/// the path that may be a credential is left out.
fn checked_request(app: &App, headers: &HeaderMap, resource: Option<String>) -> (String, String) {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_method =
        |text: &&str| text.len() <= 16 && text.bytes().all(|it| it.is_ascii_uppercase());
    let method = header(FORWARDED_METHOD).filter(is_method).unwrap_or("-").to_owned();
    if let Some(resource) = resource {
        return (method, resource.chars().take(MAX_PATH_CHARS).collect());
    }
    let path = header(FORWARDED_URI).and_then(|uri| uri.split(['?', '#']).next()).unwrap_or("-");
    let formats = [&app.config.keys.format, &app.config.accounts.token_format];
    let is_secret = |segment: &str| {
        formats.iter().any(|format| format.matches(segment))
            || KeyFormat::is_internal_token(segment)
    };
    let shown = |segment| if is_secret(segment) { "…" } else { segment };
    let path: String = path.split('/').map(shown).collect::<Vec<_>>().join("/");
    (method, path.chars().take(MAX_PATH_CHARS).collect())
}

/// The answer that lets a request pass.
fn positive(verdict: &Verdict) -> Response {
    let known = verdict.credential.as_ref();
    let organization = known.and_then(|known| known.organization.as_ref());
    let account = known.and_then(|known| known.account.as_ref());
    let scopes = known.map(|known| known.scopes.to_stored().join(" "));
    let values = [
        (ORGANIZATION, organization.map(|it| it.handle.clone())),
        (KEY, known.map(|known| known.id.to_string())),
        (ACCOUNT, account.map(|account| account.id.to_string())),
        (PLAN, organization.map(|it| it.plan.as_str().to_owned())),
        (SCOPES, scopes.filter(|scopes| scopes.len() <= MAX_SCOPES_LENGTH)),
        (EXTERNAL_ID, None),
        (TOKEN, None),
        (STATUS, Some("200".to_owned())),
    ];
    let mut response = ().into_response();
    let headers = response.headers_mut();
    for (name, text) in values {
        let text = text.filter(|text| !text.is_empty());
        let value = text.and_then(|text| HeaderValue::try_from(text).ok());
        headers.insert(name, value.unwrap_or(NOTHING));
    }
    if verdict.limits.is_empty() {
        headers.insert(RATELIMIT, NOTHING);
        headers.insert(RATELIMIT_POLICY, NOTHING);
    }
    response
}

/// What the client may learn of a verdict that rejects its request.
fn rejection(class: VerdictClass, verdict: Verdict) -> Error {
    let code = verdict.code;
    let error = match class {
        VerdictClass::Exhausted => exhausted(&verdict),
        VerdictClass::Forbidden if code == VerificationCode::ScopeMissing => {
            let message = format!("This credential lacks {}", verdict.missing_scopes.join(", "));
            Error::new(ErrorKind::MissingScopes(verdict.missing_scopes), message)
        }
        VerdictClass::Forbidden if code == VerificationCode::OrganizationSuspended => {
            Error::new(ErrorKind::OrganizationSuspended, "This organization is suspended")
        }
        VerdictClass::Forbidden => Error::forbidden(match code {
            VerificationCode::OriginNotAllowed => "origin_not_allowed",
            VerificationCode::AddressUnknown => "address_unknown",
            _ => "address_not_allowed",
        }),
        VerdictClass::Malformed => Error::malformed("The request has two credentials; send one"),
        // One text for all of them.
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
        None => Error::new(ErrorKind::RateLimited, "Too many requests"),
    }
}
