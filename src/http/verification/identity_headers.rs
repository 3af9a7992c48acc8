//! The headers of a positive response to a proxy, which it passes to the backend. None is ever
//! empty, and together they have at most 2 KiB.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use crate::app::App;
use crate::app::rate_limits::RateLimitDecision;
use crate::domain::verification::Verdict;
use crate::domain::verification::tokens::{TokenRequest, issue};
use crate::error::Result;
use crate::http::render::verification::STATUS;
use crate::http::shown_once::insert_secret_header;
use crate::model::secret::Secret;
use crate::model::short_lived_token::{Audience, DEFAULT_LIFETIME, TokenScopes};

const ORGANIZATION: HeaderName = HeaderName::from_static("x-tenantry-organization");
const KEY: HeaderName = HeaderName::from_static("x-tenantry-key");
const ACCOUNT: HeaderName = HeaderName::from_static("x-tenantry-account");
const PLAN: HeaderName = HeaderName::from_static("x-tenantry-plan");
const SCOPES: HeaderName = HeaderName::from_static("x-tenantry-scopes");
const EXTERNAL_ID: HeaderName = HeaderName::from_static("x-tenantry-external-id");
const TOKEN: HeaderName = HeaderName::from_static("x-tenantry-token");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The value that stands for none: proxies pass on the client's own header in place of one that is
/// missing or empty.
const NO_VALUE: HeaderValue = HeaderValue::from_static("-");
/// The maximum length of the list of scopes in a header, in bytes.
const MAX_SCOPES_BYTES: usize = 1024;
/// The maximum size of all headers together, in bytes.
const MAX_BYTES: usize = 2048;
/// The part of [`MAX_BYTES`] for `RateLimit` and `RateLimit-Policy`, which the middleware adds.
const RATE_LIMIT_BYTES: usize = 384;
/// The maximum number of bytes of one rate limit in both headers together, without its name.
const BYTES_PER_LIMIT: usize = 64;
/// The number of bytes of both headers without their values.
const RATE_LIMIT_NAMES_BYTES: usize = 40;
/// The bytes of a header beside its name and its value: a colon, a space and the end of the line.
const OVERHEAD: usize = 4;

/// Returns the 200 response for a valid credential, with a token for the audience if one fits.
///
/// # Errors
/// Internal if the token cannot be signed.
pub fn valid_response(
    app: &App,
    verdict: &Verdict,
    audience: Option<Audience>,
    now: DateTime<Utc>,
) -> Result<Response> {
    let mut response = ().into_response();
    let headers = response.headers_mut();
    for (name, text) in values(app, verdict) {
        let text = text.filter(|text| !text.is_empty());
        let value = text.and_then(|text| HeaderValue::try_from(text).ok());
        headers.insert(name, value.unwrap_or(NO_VALUE));
    }
    headers.insert(TOKEN, NO_VALUE);
    let available = MAX_BYTES.saturating_sub(RATE_LIMIT_BYTES + size(headers));
    if verdict.limits.is_empty() {
        headers.insert(RATELIMIT, NO_VALUE);
        headers.insert(RATELIMIT_POLICY, NO_VALUE);
    }
    if let Some(audience) = audience
        && let Some(token) = short_token(app, verdict, (audience, available), now)?
    {
        insert_secret_header(&mut response, TOKEN, token);
    }
    Ok(response)
}

/// Returns the rate limits that the response reports: one that rejected the request, and of the
/// others those that fit.
pub fn reported_limits(limits: &[RateLimitDecision]) -> Vec<RateLimitDecision> {
    let mut available = RATE_LIMIT_BYTES - RATE_LIMIT_NAMES_BYTES;
    let mut fits = |limit: &&RateLimitDecision| {
        let rest = available.checked_sub(2 * limit.name.len() + BYTES_PER_LIMIT);
        available = rest.unwrap_or(available);
        rest.is_some()
    };
    let (rejecting, others): (Vec<_>, Vec<_>) =
        limits.iter().partition(|limit| limit.outcome.is_rejected());
    rejecting.into_iter().chain(others).filter(|limit| fits(limit)).cloned().collect()
}

/// Returns the values of the headers except the token; `None` where there is none.
fn values(app: &App, verdict: &Verdict) -> [(HeaderName, Option<String>); 7] {
    let known = verdict.credential.as_ref();
    let organization = known.and_then(|known| known.organization.as_ref());
    let account = known.and_then(|known| known.account.as_ref());
    let catalogue = &app.config.keys.scopes;
    let scopes = known.map(|known| known.usable_scopes(catalogue).join(" "));
    // The organization's, which only the operator sets. Customers can set that of a key.
    let external_id = organization
        .and_then(|organization| organization.external_id.as_ref())
        .filter(|id| id.bytes().all(|it| it.is_ascii_graphic()))
        .cloned();
    [
        (ORGANIZATION, organization.map(|it| it.handle.clone())),
        (KEY, known.map(|known| known.id.to_string())),
        (ACCOUNT, account.map(|account| account.id.to_string())),
        (PLAN, organization.map(|it| it.plan.as_str().to_owned())),
        (SCOPES, scopes.filter(|scopes| scopes.len() <= MAX_SCOPES_BYTES)),
        (EXTERNAL_ID, external_id),
        (STATUS, Some("200".to_owned())),
    ]
}

/// Returns a token of at most `available` bytes: one with the scopes of the credential, or else one
/// that states no scopes. `None` if both are longer.
fn short_token(
    app: &App,
    verdict: &Verdict,
    (audience, available): (Audience, usize),
    now: DateTime<Utc>,
) -> Result<Option<Secret>> {
    let mut request =
        TokenRequest { audience, scopes: TokenScopes::Own, lifetime: DEFAULT_LIFETIME };
    for scopes in [TokenScopes::Own, TokenScopes::Unstated] {
        request.scopes = scopes;
        let token = issue(app, verdict, &request, now)?;
        let token = token.map(|token| token.text).filter(|text| text.length() <= available);
        if token.is_some() {
            return Ok(token);
        }
    }
    Ok(None)
}

/// Returns the size of headers in bytes.
fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD).sum()
}
