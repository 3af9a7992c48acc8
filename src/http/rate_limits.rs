//! Where requests are counted against limits, and what their answers tell of it (contract §1, *Rate
//! limits*): `RateLimit-Policy` and `RateLimit`, and after a refusal `Retry-After`.

use std::marker::PhantomData;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;
use crate::app::rate_limits::RateLimitDecision;
use crate::domain::mails;
use crate::error::{Error, ErrorKind, Result};
use crate::http::context::RequestContext;
use crate::http::{query, shedding, trusted_origin};
use crate::model::caller::{Caller, Identity, Person};
use crate::model::email::Email;
use crate::model::ids::{AccountId, OrganizationId};
use crate::model::rate_limit::{LimitSubject, RateLimit, client_network};
use crate::model::session::KNOWN_NETWORK_LIFETIME;
use crate::repo::sessions;

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Passes a request that its answer will tell of, too, where that is the caller's to know.
fn record_decision(context: &RequestContext, judged: Option<RateLimitDecision>) -> Result<()> {
    let Some(judged) = judged else { return Ok(()) };
    if judged.is_reported || judged.verdict.is_rejected() {
        context.add_rate_limit_decision(judged);
    }
    judged.require()
}

/// Counts a request from its address, against a limit of this server's own.
///
/// # Errors
/// Rate limited.
pub fn count_address(app: &App, context: &RequestContext, limit: RateLimit) -> Result<()> {
    let subject = LimitSubject::from_address(context.client_address);
    record_decision(context, app.rate_limits.count_locally(&app.config.rate_limits, limit, subject))
}

/// Counts a request that nobody is known to make, from its address. Those that pages of strangers
/// send are counted apart: a page must not spend what its visitor may ask for.
///
/// # Errors
/// Rate limited.
pub fn count_anonymous(app: &App, context: &RequestContext, headers: &HeaderMap) -> Result<()> {
    let client = LimitSubject::from_address(context.client_address);
    let is_of_stranger = trusted_origin::check(headers, app).is_err();
    let subject = if is_of_stranger { client.with_number(1) } else { client };
    record_decision(
        context,
        app.rate_limits.count_locally(&app.config.rate_limits, RateLimit::Address, subject),
    )
}

/// Counts a credential in a body that was refused as one in a header is, where it is not good.
///
/// # Errors
/// The refusal, or rate limited in its place.
pub fn count_invalid_credential<T>(
    app: &App,
    context: &RequestContext,
    refused: Error,
) -> Result<T> {
    if matches!(refused.kind(), ErrorKind::Unauthenticated(_)) {
        count_address(app, context, RateLimit::UnknownKeys)?;
    }
    Err(refused)
}

/// Counts a request of an organization against what its plan holds.
///
/// # Errors
/// Rate limited.
pub fn count_request(app: &App, context: &RequestContext, caller: &Caller) -> Result<()> {
    let quota = app.config.plans.of(caller.plan).requests_per_minute;
    record_decision(context, app.rate_limits.count_request(caller.organization, quota))
}

/// Counts a request in the name of whoever makes it: of the organization that they act in, else of
/// the person.
///
/// # Errors
/// Rate limited.
pub fn count_identity(app: &App, context: &RequestContext, identity: &Identity) -> Result<()> {
    match identity {
        Identity { caller: Some(caller), .. } => count_request(app, context, caller),
        Identity { person: Some(person), .. } => count_person(app, context, person.account),
        Identity { caller: None, person: None } => Ok(()),
    }
}

/// The same for what people ask for themselves: of the person, else of the organization.
///
/// # Errors
/// Rate limited.
pub fn count_person_first(app: &App, context: &RequestContext, identity: &Identity) -> Result<()> {
    match &identity.person {
        Some(person) => count_person(app, context, person.account),
        None => count_identity(app, context, identity),
    }
}

fn count_person(app: &App, context: &RequestContext, account: AccountId) -> Result<()> {
    let subject = LimitSubject::from_id(account.uuid());
    record_decision(
        context,
        app.rate_limits.count_locally(&app.config.rate_limits, RateLimit::Account, subject),
    )
}

/// Passes a person who has not asked for too much already, and counts nothing.
///
/// # Errors
/// Rate limited.
pub fn check_person_limit(app: &App, context: &RequestContext, account: AccountId) -> Result<()> {
    let subject = LimitSubject::from_id(account.uuid());
    match app.rate_limits.peek_rejection(&app.config.rate_limits, RateLimit::Account, subject) {
        Some(judged) => record_decision(context, Some(judged)),
        None => Ok(()),
    }
}

/// Counts a key that an organization is about to mint.
///
/// # Errors
/// Rate limited.
pub async fn count_key_creation(
    app: &App,
    context: &RequestContext,
    organization: OrganizationId,
) -> Result<()> {
    count(app, context, RateLimit::KeyMint, LimitSubject::from_id(organization.0)).await
}

/// Counts a personal token that somebody is about to make.
///
/// # Errors
/// Rate limited.
pub async fn count_token_creation(
    app: &App,
    context: &RequestContext,
    account: AccountId,
) -> Result<()> {
    count(app, context, RateLimit::KeyMint, LimitSubject::from_id(account.uuid())).await
}

/// Counts a token of a mailed link that somebody shows, where that is not the whole request.
///
/// # Errors
/// Rate limited.
pub async fn count_token_check(app: &App, context: &RequestContext) -> Result<()> {
    count(app, context, RateLimit::TokenChecks, LimitSubject::from_address(context.client_address))
        .await
}

/// Requests that end something: nobody is kept from signing out or
/// from ending a credential because of what a colleague does.
const UNCOUNTED_ROUTES: [&str; 5] = [
    "/auth/logout",
    "/api/auth/sign-out",
    "/api/auth/revoke-session",
    "/api/auth/revoke-other-sessions",
    "/api/auth/api-key/delete",
];

/// Counts a change that a person asks for, against what people may change in their organization:
/// they are not metered, and each change is kept in the audit log. Changes by an organization's
/// keys count against its plan; what is deleted was counted when it was made.
///
/// # Errors
/// Rate limited.
pub async fn count_change(
    app: &App,
    context: &RequestContext,
    subject: LimitSubject,
) -> Result<()> {
    let ends = context.method == "DELETE" || UNCOUNTED_ROUTES.contains(&context.route.as_str());
    if ends || ["GET", "HEAD", "OPTIONS"].contains(&context.method) {
        return Ok(());
    }
    count(app, context, RateLimit::Changes, subject).await
}

/// The same for what people change of their own account, for each person.
///
/// # Errors
/// Rate limited.
pub async fn count_own_change(app: &App, context: &RequestContext, person: &Person) -> Result<()> {
    count_change(app, context, LimitSubject::from_id(person.account.uuid())).await
}

/// Counts an organization that somebody is about to make.
///
/// # Errors
/// Rate limited.
pub async fn count_organization_creation(
    app: &App,
    context: &RequestContext,
    account: AccountId,
) -> Result<()> {
    count(app, context, RateLimit::Organizations, LimitSubject::from_id(account.uuid())).await
}

/// Does what mails somebody, and counts the mail; `None` where nobody is to be mailed.
///
/// # Errors
/// Rate limited; those of `work`.
pub async fn with_mail_limit<T>(
    app: &App,
    context: &RequestContext,
    (kind, to): (&'static str, Option<&str>),
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(to) = to else { return work.await };
    let pass = |judged| record_decision(context, Some(judged));
    mails::with_rate_limits(app, context.client_address, (kind, to), pass, work).await
}

/// Lets somebody try to sign in to an account. What fails is counted for all who try, wherever they
/// are; where that is too much, a place that the account's person signed in from before has a
/// bucket of its own, so that nobody elsewhere can keep them out.
///
/// # Errors
/// Rate limited; those of `work`.
pub async fn with_sign_in_limit<T>(
    app: &App,
    context: &RequestContext,
    email: &Email,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let limit = RateLimit::SignInFailures;
    let everybody = app.peppers.subject("sign_in", email.as_str());
    let own = known_network_subject(app, context, email);
    let (judged, counted) =
        app.rate_limits.count_with_fallback(&app.config.rate_limits, limit, everybody, own).await;
    record_decision(context, judged)?;
    let done = settle_password_attempt(app, (limit, counted), work.await).await;
    if counted != everybody && is_password_correct(&done) {
        app.rate_limits.refill(limit, everybody).await;
    }
    done
}

/// The bucket of whoever signs in from where the account's person did before.
async fn known_network_subject(
    app: &App,
    context: &RequestContext,
    email: &Email,
) -> Option<LimitSubject> {
    let (network, since) =
        (client_network(context.client_address?), context.received_at - KNOWN_NETWORK_LIFETIME);
    let email = email.as_str();
    let is_known = app
        .db
        .run(async |db| sessions::signed_in_from(db, email, network, since).await)
        .await
        .unwrap_or(false);
    is_known.then(|| app.peppers.subject("sign_in", &format!("{email} {network}")))
}

/// Lets somebody in a session show the password of their account.
///
/// # Errors
/// Rate limited; those of `work`.
pub async fn with_password_limit<T>(
    app: &App,
    context: &RequestContext,
    account: AccountId,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let (limit, subject) = (RateLimit::OwnPassword, LimitSubject::from_id(account.uuid()));
    count(app, context, limit, subject).await?;
    settle_password_attempt(app, (limit, subject), work.await).await
}

/// Settles a try of a password, which was counted before it was made, so that many at once are no
/// way around: a right one clears the count, a wrong one leaves it, and what failed for another
/// reason was no try.
async fn settle_password_attempt<T>(
    app: &App,
    (limit, subject): (RateLimit, LimitSubject),
    done: Result<T>,
) -> Result<T> {
    if is_password_correct(&done) {
        app.rate_limits.refill(limit, subject).await;
    } else if !done.as_ref().is_err_and(|it| matches!(it.kind(), ErrorKind::Unauthenticated(_))) {
        app.rate_limits.give_back(&app.config.rate_limits, limit, subject).await;
    }
    done
}

/// Whether the password was right.
fn is_password_correct<T>(done: &Result<T>) -> bool {
    done.as_ref().map_or_else(|error| *error.kind() == ErrorKind::EmailNotVerified, |_| true)
}

async fn count(
    app: &App,
    context: &RequestContext,
    limit: RateLimit,
    subject: LimitSubject,
) -> Result<()> {
    record_decision(context, app.rate_limits.count(&app.config.rate_limits, limit, subject).await)
}

/// A limit for each client address, as a type that a guard can name.
pub trait AddressLimit {
    /// The limit.
    const LIMIT: RateLimit;
}

/// Guard: a request from an address that has not asked too often, whoever asks.
pub struct RateLimitByAddress<L>(PhantomData<L>);

impl<L: AddressLimit> FromRequestParts<App> for RateLimitByAddress<L> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let context = RequestContext::from_request_parts(parts, app).await?;
        count(app, &context, L::LIMIT, LimitSubject::from_address(context.client_address)).await?;
        query::require_known(&parts.extensions)?;
        Ok(Self(PhantomData))
    }
}

/// Signing up and in.
pub struct SignInLimit;

impl AddressLimit for SignInLimit {
    const LIMIT: RateLimit = RateLimit::SignIn;
}

/// Showing the token of a mailed link.
pub struct TokenCheckLimit;

impl AddressLimit for TokenCheckLimit {
    const LIMIT: RateLimit = RateLimit::TokenChecks;
}

/// The middleware of routes that nobody calls in anybody's name.
///
/// # Errors
/// Rate limited, or unavailable where there is no place.
pub async fn limit_by_address(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
    next: Next,
) -> Result<Response> {
    let place = shedding::acquire_permit(&app, &context, request.method())?;
    count_anonymous(&app, &context, request.headers())?;
    let subject = LimitSubject::from_address(context.client_address);
    let _held =
        shedding::acquire_caller_permit(&app, &context, (request.method(), place), subject)?;
    Ok(next.run(request).await)
}

/// Tells of the limits that a request was judged by.
pub fn add_headers(headers: &mut HeaderMap, judged: &[RateLimitDecision]) {
    if judged.is_empty() {
        return;
    }
    let policies = judged.iter().map(|RateLimitDecision { name, verdict, .. }| {
        format!(r#""{name}";q={};w={}"#, verdict.rate.quota, verdict.rate.window.as_secs())
    });
    let states = judged.iter().map(|RateLimitDecision { name, verdict, .. }| {
        let until = verdict.retry_after.unwrap_or(verdict.until_full);
        let seconds = until.as_secs() + u64::from(until.subsec_nanos() > 0);
        format!(r#""{name}";r={};t={}"#, verdict.remaining, seconds.max(1))
    });
    let (policies, states) = (policies.collect::<Vec<_>>(), states.collect::<Vec<_>>());
    for (name, texts) in [(RATELIMIT_POLICY, policies), (RATELIMIT, states)] {
        if let Ok(value) = HeaderValue::from_str(&texts.join(", ")) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_that_ends_something_is_one_of_ours() {
        let (_, document) = crate::http::openapi::routes_and_document();
        for route in UNCOUNTED_ROUTES {
            let item = document.paths.paths.get(route);
            assert!(item.is_some_and(|it| it.post.is_some()), "nothing is at {route}");
        }
    }
}
