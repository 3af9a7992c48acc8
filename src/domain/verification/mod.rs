//! Checks a customer's credential for a verifier: the operator's API, or a proxy in front of it
//! (VERIFY §3 and §4).
//!
//! The order is fixed: form and checksum, the lookup, the organization, the key, the client's
//! address and origin, scopes, and finally the quota and the rate limit. A rejected check counts
//! against neither.

mod record;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::counter;
use tokio::time::timeout;

use self::record::record;
use crate::app::App;
use crate::app::rate_limits::RateLimitDecision;
use crate::app::verification_lookup::VerificationQuery;
use crate::config::verification::LOCAL;
use crate::domain::keys::presented::{CredentialOwner, possible_digests, rehash};
use crate::error::{Error, Result};
use crate::model::audit::AuditContext;
use crate::model::origin::is_origin_allowed;
use crate::model::rate_limit::{LimitSubject, RateLimit};
use crate::model::secret::Secret;
use crate::model::usage::Period;
use crate::model::verification::{
    CredentialOrganization, KnownCredential, RequiredScopes, VerdictClass, VerificationCode,
};

/// A verifier of credentials: an API or a proxy of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier(Arc<str>);

impl Verifier {
    /// Returns the verifier with this name.
    #[must_use]
    pub const fn new(name: Arc<str>) -> Self {
        Self(name)
    }

    /// Returns the verifier for requests to `VERIFY_ADDR`.
    #[must_use]
    pub fn local() -> Self {
        Self(LOCAL.into())
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// A check of one credential.
pub struct CheckRequest {
    /// The scopes that it requires.
    pub scopes: RequiredScopes,
    /// How many requests of the monthly quota the client's request costs.
    pub cost: u32,
    /// The client's address as the verifier reports it.
    pub client_address: Option<IpAddr>,
    /// The client's `Origin`.
    pub client_origin: Option<String>,
    /// Whether to count and record nothing.
    pub is_dry_run: bool,
    /// The method and the path of the client's request, for the list of rejections.
    pub method_and_path: (String, String),
}

/// The result of a check.
pub struct Verdict {
    /// The outcome.
    pub code: VerificationCode,
    /// The credential, if it is known.
    pub credential: Option<Arc<KnownCredential>>,
    /// The required scopes that it lacks.
    pub missing_scopes: Vec<String>,
    /// The rate limits that the check counted against.
    pub limits: Vec<RateLimitDecision>,
    /// The monthly quota of its organization, if there is one.
    pub quota: Option<QuotaState>,
    /// How long to wait before a retry.
    pub retry_after: Option<Duration>,
}

/// The monthly quota of an organization.
#[derive(Clone, Copy, Debug)]
pub struct QuotaState {
    /// The requests used this month, this one included.
    pub used: u64,
    /// The requests that the plan allows.
    pub limit: u64,
    /// When the month ends.
    pub resets_at: DateTime<Utc>,
}

impl Verdict {
    fn new(code: VerificationCode, credential: Option<Arc<KnownCredential>>) -> Self {
        let (missing_scopes, limits) = (Vec::new(), Vec::new());
        Self { code, credential, missing_scopes, limits, quota: None, retry_after: None }
    }
}

/// Checks a presented credential. `audit` is the audit context of the verifier's request.
///
/// # Errors
/// Unavailable if the database does not respond in time. A valid credential is never rejected then.
pub async fn check(
    app: &App,
    verifier: &Verifier,
    key: &Secret,
    request: &CheckRequest,
    audit: &AuditContext,
) -> Result<Verdict> {
    let found = match query_for(app, key) {
        Some(query) => {
            let lookup = app.verification_lookup.query(query);
            let found = in_time(app, lookup).await.inspect_err(|_| count("unavailable", 1))?;
            found.ok_or(VerificationCode::KeyUnknown)
        }
        None => Err(VerificationCode::KeyMalformed),
    };
    let verdict = evaluate(app, verifier, (key, request), found, audit);
    count(verdict.code.as_str(), 1);
    Ok(verdict)
}

/// Checks several credentials, as [`check`] does each, and returns their verdicts in order. They
/// are looked up together.
///
/// # Errors
/// As [`check`]; nothing is counted then.
pub async fn check_all(
    app: &App,
    verifier: &Verifier,
    checks: &[(Secret, CheckRequest)],
    audit: &AuditContext,
) -> Result<Vec<Verdict>> {
    let queries: Vec<_> = checks.iter().map(|(key, _)| query_for(app, key)).collect();
    let is_possible: Vec<bool> = queries.iter().map(Option::is_some).collect();
    let lookup = app.verification_lookup.query_all(queries.into_iter().flatten().collect());
    let answers = in_time(app, lookup).await;
    let answers = answers.inspect_err(|_| count("unavailable", checks.len()))?;
    let mut answers = answers.into_iter();
    let mut counts = HashMap::new();
    let verdicts = checks.iter().zip(is_possible).map(|((key, request), is_possible)| {
        let found = if is_possible {
            answers.next().flatten().ok_or(VerificationCode::KeyUnknown)
        } else {
            Err(VerificationCode::KeyMalformed)
        };
        let verdict = evaluate(app, verifier, (key, request), found, audit);
        *counts.entry(verdict.code).or_default() += 1;
        verdict
    });
    let verdicts = verdicts.collect();
    for (code, checks) in counts {
        count(code.as_str(), checks);
    }
    Ok(verdicts)
}

/// Returns the query for a credential's text; `None` if it cannot be one.
fn query_for(app: &App, key: &Secret) -> Option<VerificationQuery> {
    let (kind, candidates) = possible_digests(app, key.expose())?;
    Some(VerificationQuery { kind, candidates })
}

/// Waits for a lookup, but not longer than a check may take.
async fn in_time<T>(app: &App, lookup: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(app.config.verification.timeout, lookup).await.map_err(Error::unavailable)?
}

/// Adds to the metric of verdicts.
fn count(code: &'static str, checks: usize) {
    counter!("verifications_total", "code" => code).increment(checks as u64);
}

/// Returns the verdict on a credential that was looked up, and counts and records it.
///
/// Invariant: nothing is awaited here. A verifier that closes its connection cannot leave a check
/// half counted.
fn evaluate(
    app: &App,
    verifier: &Verifier,
    (key, request): (&Secret, &CheckRequest),
    found: Result<Arc<KnownCredential>, VerificationCode>,
    audit: &AuditContext,
) -> Verdict {
    let mut verdict = match found {
        Ok(credential) => decide(app, credential, request, audit.at),
        Err(code) => Verdict::new(code, None),
    };
    if request.is_dry_run {
        return verdict;
    }
    if verdict.code.class() == VerdictClass::Unauthenticated {
        count_invalid(app, verifier, request, &mut verdict);
    }
    record(app, verifier, (key, request), &verdict, audit);
    if verdict.code == VerificationCode::Valid {
        rehash_later(app, key, verdict.credential.as_deref());
    }
    verdict
}

/// Rehashes a valid credential that is stored under an old pepper. The check does not wait for it.
fn rehash_later(app: &App, key: &Secret, credential: Option<&KnownCredential>) {
    let Some(credential) = credential.filter(|it| it.pepper_id != app.peppers.newest_id()) else {
        return;
    };
    let owner = match (&credential.organization, &credential.account) {
        (_, Some(account)) => CredentialOwner::Account(account.id),
        (Some(organization), None) => CredentialOwner::Organization(organization.id),
        (None, None) => return,
    };
    let (app, text) = (app.clone(), Secret::new(key.expose().to_owned()));
    let (id, prefix, pepper_id) =
        (credential.id, credential.prefix.clone(), credential.pepper_id.clone());
    tokio::spawn(async move {
        rehash(&app, (owner, id), (&prefix, &pepper_id), text.expose()).await;
    });
}

/// Counts an invalid credential against the rate limit of the client's address, or of the verifier
/// if it reports no address. All invalid credentials count, known or not, so that the limit does
/// not reveal which of them were once valid. Valid credentials are not affected.
fn count_invalid(app: &App, verifier: &Verifier, request: &CheckRequest, verdict: &mut Verdict) {
    let subject = match request.client_address {
        Some(address) => LimitSubject::from_address(Some(address)),
        None => app.peppers.subject("verifier", verifier.name()),
    };
    let settings = &app.config.rate_limits;
    let counted = app.rate_limits.count_locally(settings, RateLimit::CheckedUnknownKeys, subject);
    if let Some(wait) = counted.and_then(|decision| decision.outcome.retry_after) {
        verdict.code = VerificationCode::RateLimited;
        verdict.retry_after = Some(wait);
    }
}

/// Returns the verdict on a known credential, checked in the order of VERIFY §4.
fn decide(
    app: &App,
    credential: Arc<KnownCredential>,
    request: &CheckRequest,
    now: DateTime<Utc>,
) -> Verdict {
    let organization = credential.organization.as_ref();
    let is_suspended = organization.is_some_and(|organization| organization.is_suspended);
    let code = if is_suspended {
        Some(VerificationCode::OrganizationSuspended)
    } else {
        credential.defect.or_else(|| client_rejection(app, &credential, request))
    };
    if let Some(code) = code {
        return Verdict::new(code, Some(credential));
    }
    let missing_scopes = request.scopes.missing_from(&credential.scopes, credential.role);
    if !missing_scopes.is_empty() {
        let verdict = Verdict::new(VerificationCode::ScopeMissing, Some(credential));
        return Verdict { missing_scopes, ..verdict };
    }
    let mut verdict = Verdict::new(VerificationCode::Valid, None);
    if let Some(organization) = organization {
        count_against_limits(app, organization, request, now, &mut verdict);
    }
    Verdict { credential: Some(credential), ..verdict }
}

/// Returns the code for a client whose address or origin is not allowed; `None` if both are.
fn client_rejection(
    app: &App,
    credential: &KnownCredential,
    request: &CheckRequest,
) -> Option<VerificationCode> {
    if !credential.allowed_ips.allows(request.client_address) {
        return Some(match request.client_address {
            Some(_) => VerificationCode::AddressNotAllowed,
            None => VerificationCode::AddressUnknown,
        });
    }
    let origins = credential.organization.as_ref().map_or(&[][..], |it| &it.allowed_origins);
    let trusted = &app.config.http.trusted_origins;
    let is_allowed = is_origin_allowed(request.client_origin.as_deref(), origins, trusted);
    (!is_allowed).then_some(VerificationCode::OriginNotAllowed)
}

/// Counts one request against the plan's rate limit and the cost against its monthly quota, or
/// nothing if one of them is exceeded.
fn count_against_limits(
    app: &App,
    organization: &CredentialOrganization,
    request: &CheckRequest,
    now: DateTime<Utc>,
    verdict: &mut Verdict,
) {
    let plan = app.config.plans.of(organization.plan);
    let cost = u64::from(request.cost);
    if let Some(quota) = plan.requests_per_month {
        let (month, is_dry_run) = (Period::month_of(now), request.is_dry_run);
        let used = app.meter.admit_units(organization.id, (cost, quota), is_dry_run, now);
        verdict.quota = Some(QuotaState {
            used: used.unwrap_or_else(|used| used),
            limit: quota,
            resets_at: month.end_time(),
        });
        if used.is_err() {
            verdict.code = VerificationCode::QuotaExceeded;
            verdict.retry_after = Some(month.remaining(now));
            return;
        }
    }
    let per_minute = plan.requests_per_minute;
    let decision = if request.is_dry_run {
        app.rate_limits.peek_request(organization.id, per_minute)
    } else {
        app.rate_limits.count_request(organization.id, per_minute)
    };
    verdict.limits.extend(decision);
    if let Some(wait) = decision.and_then(|decision| decision.outcome.retry_after) {
        verdict.code = VerificationCode::RateLimited;
        verdict.retry_after = Some(wait);
    }
}
