//! Counts requests against the rate limits, and reports the limits in the headers
//! `RateLimit-Policy`, `RateLimit` and `Retry-After`.

use std::marker::PhantomData;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

use crate::app::App;
use crate::app::rate_limits::RateLimitDecision;
use crate::domain::mail;
use crate::error::{Error, ErrorKind, Result};
use crate::http::edge::context::RequestContext;
use crate::http::edge::{shedding, trusted_origin};
use crate::http::query;
use crate::model::caller::{Caller, Identity};
use crate::model::email::Email;
use crate::model::ids::{AccountId, OrganizationId};
use crate::model::oauth::client::OauthClient;
use crate::model::rate_limit::{LimitSubject, RateLimit, client_network};
use crate::model::session::KNOWN_NETWORK_LIFETIME;
use crate::repo::sessions;

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Records a decision for the response's headers, if the caller may see the limit or exceeds it.
fn record_decision(context: &RequestContext, decision: Option<RateLimitDecision>) -> Result<()> {
    let Some(decision) = decision else { return Ok(()) };
    if decision.is_reported || decision.outcome.is_rejected() {
        context.add_rate_limit_decision(decision.clone());
    }
    decision.require()
}

/// Counts a request by its address, against a limit that each server counts alone.
///
/// # Errors
/// Rate limited.
pub fn count_address(app: &App, context: &RequestContext, limit: RateLimit) -> Result<()> {
    let subject = LimitSubject::from_address(context.client_address);
    record_decision(context, app.rate_limits.count_locally(&app.config.rate_limits, limit, subject))
}

/// Counts a request without a known caller by its address. Requests from origins that are not
/// trusted are counted separately, because a foreign page must not use up its visitor's limit.
///
/// # Errors
/// Rate limited.
pub fn count_anonymous(app: &App, context: &RequestContext, headers: &HeaderMap) -> Result<()> {
    let client = LimitSubject::from_address(context.client_address);
    let is_foreign = trusted_origin::check(headers, app).is_err();
    let subject = if is_foreign { client.with_number(1) } else { client };
    record_decision(
        context,
        app.rate_limits.count_locally(&app.config.rate_limits, RateLimit::Address, subject),
    )
}

/// Counts an invalid credential in a body like one in a header.
///
/// # Errors
/// `error`, or rate limited instead.
pub fn count_invalid_credential<T>(app: &App, context: &RequestContext, error: Error) -> Result<T> {
    if matches!(error.kind(), ErrorKind::Unauthenticated(_)) {
        count_address(app, context, RateLimit::UnknownKeys)?;
    }
    Err(error)
}

/// Counts a request of an organization against its plan's requests per minute.
///
/// # Errors
/// Rate limited.
pub fn count_request(app: &App, context: &RequestContext, caller: &Caller) -> Result<()> {
    let quota = app.config.plans.of(caller.plan).requests_per_minute;
    record_decision(context, app.rate_limits.count_request(caller.organization, quota))
}

/// Counts a request by its organization, or by its account if no organization is selected.
///
/// # Errors
/// Rate limited.
pub fn count_identity(app: &App, context: &RequestContext, identity: &Identity) -> Result<()> {
    match identity {
        Identity { caller: Some(caller), .. } => count_request(app, context, caller),
        Identity { person: Some(person), .. } => count_account(app, context, person.account),
        Identity { caller: None, person: None } => Ok(()),
    }
}

/// Counts a request by its account, or by its organization if it has no account.
///
/// # Errors
/// Rate limited.
pub fn count_account_first(app: &App, context: &RequestContext, identity: &Identity) -> Result<()> {
    match &identity.person {
        Some(person) => count_account(app, context, person.account),
        None => count_identity(app, context, identity),
    }
}

/// Counts a request by its account.
///
/// # Errors
/// Rate limited.
pub fn count_account(app: &App, context: &RequestContext, account: AccountId) -> Result<()> {
    count_subject(app, context, LimitSubject::from_id(account.uuid()))
}

/// Counts a request of an authenticated OAuth client, against the limit of accounts.
///
/// # Errors
/// Rate limited.
pub fn count_client(app: &App, context: &RequestContext, client: &OauthClient) -> Result<()> {
    count_subject(app, context, LimitSubject::from_id(client.id))
}

fn count_subject(app: &App, context: &RequestContext, subject: LimitSubject) -> Result<()> {
    let settings = &app.config.rate_limits;
    let counted = app.rate_limits.count_locally(settings, RateLimit::Account, subject);
    record_decision(context, counted)
}

/// Checks the limit of an OAuth client or an account without counting.
///
/// # Errors
/// Rate limited.
pub fn peek_account_limit(app: &App, context: &RequestContext, id: Uuid) -> Result<()> {
    let subject = LimitSubject::from_id(id);
    match app.rate_limits.peek_rejection(&app.config.rate_limits, RateLimit::Account, subject) {
        Some(decision) => record_decision(context, Some(decision)),
        None => Ok(()),
    }
}

/// Counts a request against a limit of its organization, such as the creation of a key.
///
/// # Errors
/// Rate limited.
pub async fn count_for_organization(
    app: &App,
    context: &RequestContext,
    (limit, organization): (RateLimit, OrganizationId),
) -> Result<()> {
    count(app, context, limit, LimitSubject::from_id(organization.0)).await
}

/// Counts the creation of a personal access token.
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

/// Counts an attempt to use the token of a mailed link, by the address of the request.
///
/// # Errors
/// Rate limited.
pub async fn count_token_check(app: &App, context: &RequestContext) -> Result<()> {
    count(app, context, RateLimit::TokenChecks, LimitSubject::from_address(context.client_address))
        .await
}

/// Counts a user code that was entered, by the account and by the address of the request: a code is
/// short, and must not be guessed (RFC 8628 §5.1).
///
/// # Errors
/// Rate limited.
pub async fn count_user_code(
    app: &App,
    context: &RequestContext,
    account: AccountId,
) -> Result<()> {
    let limit = RateLimit::UserCodes;
    count(app, context, limit, LimitSubject::from_id(account.uuid())).await?;
    count(app, context, limit, LimitSubject::from_address(context.client_address)).await
}

/// Counts a change by an account, since sessions are not metered, and each change is stored in the
/// audit log. Changes by an organization's keys count against its plan instead.
///
/// # Errors
/// Rate limited.
pub async fn count_change(
    app: &App,
    context: &RequestContext,
    subject: LimitSubject,
) -> Result<()> {
    if !context.facts.kind.is_change {
        return Ok(());
    }
    count(app, context, RateLimit::Changes, subject).await
}

/// Counts the creation of an organization.
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

/// Runs `work`, which queues a mail of a kind to an address, and counts the mail. Without an
/// address, it only runs `work`.
///
/// # Errors
/// Rate limited; the errors of `work`.
pub async fn with_mail_limit<T>(
    app: &App,
    context: &RequestContext,
    (kind, to): (&'static str, Option<&str>),
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(to) = to else { return work.await };
    let pass = |decision| record_decision(context, Some(decision));
    mail::with_rate_limits(app, context.client_address, (kind, to), pass, work).await
}

/// Runs an attempt to sign in to an account. Failures are counted for the account, wherever they
/// come from. When that limit is reached, a network from which the account has signed in before has
/// a separate bucket, so that attempts from elsewhere cannot lock its owner out.
///
/// # Errors
/// Rate limited; the errors of `work`.
pub async fn with_sign_in_limit<T>(
    app: &App,
    context: &RequestContext,
    email: &Email,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let limit = RateLimit::SignInFailures;
    let account = app.peppers.subject("sign_in", email.as_str());
    let known_network = known_network_subject(app, context, email);
    let settings = &app.config.rate_limits;
    let counting = app.rate_limits.count_with_fallback(settings, limit, account, known_network);
    let (decision, counted) = counting.await;
    record_decision(context, decision)?;
    let result = settle_password_attempt(app, (limit, counted), work.await).await;
    if counted != account && is_password_correct(&result) {
        app.rate_limits.refill(limit, account).await;
    }
    result
}

/// Returns the bucket of a network from which the account has signed in before.
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

/// Runs a check of the account's own password, in a session or with a link that was mailed to it.
///
/// # Errors
/// Rate limited; the errors of `work`.
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

/// Completes an attempt, which was counted before it was made so that many concurrent ones cannot
/// exceed the limit: a correct password resets the count, a wrong one leaves it, and any other
/// error returns the attempt to the bucket.
async fn settle_password_attempt<T>(
    app: &App,
    (limit, subject): (RateLimit, LimitSubject),
    result: Result<T>,
) -> Result<T> {
    if is_password_correct(&result) {
        app.rate_limits.refill(limit, subject).await;
    } else if !result.as_ref().is_err_and(|it| matches!(it.kind(), ErrorKind::Unauthenticated(_))) {
        app.rate_limits.refund(&app.config.rate_limits, limit, subject).await;
    }
    result
}

/// Returns whether the password was correct. An unverified address is reported only then.
fn is_password_correct<T>(result: &Result<T>) -> bool {
    result.as_ref().map_or_else(|error| *error.kind() == ErrorKind::EmailNotVerified, |_| true)
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

/// Guard: counts a request against the limit `L` of its address, with any credential or none.
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

/// Signing up and signing in.
pub struct SignInLimit;

impl AddressLimit for SignInLimit {
    const LIMIT: RateLimit = RateLimit::SignIn;
}

/// Registering an OAuth client.
pub struct RegistrationLimit;

impl AddressLimit for RegistrationLimit {
    const LIMIT: RateLimit = RateLimit::ClientRegistrations;
}

/// Presenting the token of a mailed link.
pub struct TokenCheckLimit;

impl AddressLimit for TokenCheckLimit {
    const LIMIT: RateLimit = RateLimit::TokenChecks;
}

/// Counts a request by its address, as middleware of the routes outside the families.
///
/// # Errors
/// Rate limited, or unavailable if no permit is left.
pub async fn limit_by_address(
    State(app): State<App>,
    context: RequestContext,
    request: Request,
    next: Next,
) -> Result<Response> {
    let permit = shedding::acquire_permit(&app, &context)?;
    count_anonymous(&app, &context, request.headers())?;
    let subject = LimitSubject::from_address(context.client_address);
    let _permits = shedding::acquire_caller_permit(&app, &context, permit, subject)?;
    Ok(next.run(request).await)
}

/// Adds the headers that report the rate limits.
pub fn add_headers(headers: &mut HeaderMap, decisions: &[RateLimitDecision]) {
    if decisions.is_empty() {
        return;
    }
    let policies = decisions.iter().map(|RateLimitDecision { name, outcome, .. }| {
        format!(r#""{name}";q={};w={}"#, outcome.rate.quota, outcome.rate.window.as_secs())
    });
    let states = decisions.iter().map(|RateLimitDecision { name, outcome, .. }| {
        let until = outcome.retry_after.unwrap_or(outcome.until_full);
        let seconds = until.as_secs() + u64::from(until.subsec_nanos() > 0);
        format!(r#""{name}";r={};t={}"#, outcome.remaining, seconds.max(1))
    });
    let (policies, states) = (policies.collect::<Vec<_>>(), states.collect::<Vec<_>>());
    for (name, texts) in [(RATELIMIT_POLICY, policies), (RATELIMIT, states)] {
        if let Ok(value) = HeaderValue::from_str(&texts.join(", ")) {
            headers.insert(name, value);
        }
    }
}
