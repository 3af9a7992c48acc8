//! Checks a customer's credential for a verifier: the operator's API, or a proxy in front of it.
//!
//! The order is fixed: form and checksum, the lookup, the organization, the key, the client's
//! address and origin, scopes, and finally credits, the quota and rate limits. A rejected check
//! counts against none of the last three.

pub mod introspection;
mod limits;
mod record;
pub mod tokens;
pub mod usage_events;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use metrics::counter;
use tokio::time::{Instant, timeout_at};

use self::record::record;
use crate::app::App;
use crate::app::rate_limits::RateLimitDecision;
use crate::app::verification_lookup::VerificationQuery;
use crate::config::verification::LOCAL;
use crate::domain::keys::presented::{CredentialOwner, possible_digests, rehash};
use crate::error::{Error, Result};
use crate::model::attribution::Attribution;
use crate::model::audit::AuditContext;
use crate::model::named_limits::LimitName;
use crate::model::origin::is_origin_allowed;
use crate::model::rate_limit::{LimitSubject, RateLimit};
use crate::model::secret::Secret;
use crate::model::verification::{KnownCredential, RequiredScopes, VerdictClass, VerificationCode};

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
    /// How many requests of the monthly quota, and how many credits, the client's request costs.
    pub cost: u32,
    /// The client's address as the verifier reports it.
    pub client_address: Option<IpAddr>,
    /// The client's `Origin`.
    pub client_origin: Option<String>,
    /// The named limits that it counts against, and the units that it counts as.
    pub limits: Vec<(LimitName, u32)>,
    /// What its units are attributed to.
    pub attribution: Arc<Attribution>,
    /// Whether to count and record nothing.
    pub is_dry_run: bool,
    /// What the list of rejections shows as method and path: those of the client's request if a
    /// proxy states them, or else those of the check. The check's `resource` replaces the path.
    pub method_and_path: (Cow<'static, str>, Cow<'static, str>),
}

/// The result of a check.
pub struct Verdict {
    /// The outcome.
    pub code: VerificationCode,
    /// The credential, if it is known.
    pub credential: Option<Arc<KnownCredential>>,
    /// The required scopes that it lacks.
    pub missing_scopes: Vec<String>,
    /// The rate limits that were checked, up to one that rejected the check.
    pub limits: Vec<RateLimitDecision>,
    /// The monthly quota of its organization; `None` if there is none, or the check was rejected
    /// before.
    pub quota: Option<QuotaState>,
    /// The credits that remain; `None` if the check needs none, or was rejected before.
    pub credits: Option<i64>,
    /// How long to wait before a retry.
    pub retry_after: Option<Duration>,
}

/// The monthly quota of an organization.
#[derive(Clone, Copy, Debug)]
pub struct QuotaState {
    /// The requests used this month, including those that this check counts as unless it was
    /// rejected.
    pub used: u64,
    /// The requests that the plan allows.
    pub limit: u64,
    /// When the month ends.
    pub resets_at: DateTime<Utc>,
}

impl Verdict {
    fn new(code: VerificationCode, credential: Option<Arc<KnownCredential>>) -> Self {
        Self {
            code,
            credential,
            missing_scopes: Vec::new(),
            limits: Vec::new(),
            quota: None,
            credits: None,
            retry_after: None,
        }
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
    let deadline = deadline(app);
    let verdict = match find_credential(app, query_for(app, key), deadline).await {
        Ok(found) => evaluate(app, verifier, (key, request), found, (audit, deadline)).await,
        Err(error) => Err(error),
    };
    count(verdict.as_ref().map_or("unavailable", |verdict| verdict.code.as_str()), 1);
    verdict
}

/// Checks several credentials, as [`check`] does each, and returns their verdicts in order. They
/// are looked up together.
///
/// # Errors
/// As [`check`]; checks of other credentials may then be counted.
pub async fn check_all(
    app: &App,
    verifier: &Verifier,
    checks: &[(Secret, CheckRequest)],
    audit: &AuditContext,
) -> Result<Vec<Verdict>> {
    let deadline = deadline(app);
    let checking = check_together(app, verifier, checks, (audit, deadline));
    let verdicts = checking.await.inspect_err(|_| count("unavailable", checks.len()))?;
    let mut counts = HashMap::new();
    for verdict in &verdicts {
        *counts.entry(verdict.code).or_default() += 1;
    }
    for (code, checks) in counts {
        count(code.as_str(), checks);
    }
    Ok(verdicts)
}

async fn check_together(
    app: &App,
    verifier: &Verifier,
    checks: &[(Secret, CheckRequest)],
    (audit, deadline): (&AuditContext, Instant),
) -> Result<Vec<Verdict>> {
    let queries: Vec<_> = checks.iter().map(|(key, _)| query_for(app, key)).collect();
    let is_possible: Vec<bool> = queries.iter().map(Option::is_some).collect();
    let lookup = app.verification_lookup.query_all(queries.into_iter().flatten().collect());
    let mut answers = in_time(lookup, deadline).await?.into_iter();
    let found: Vec<_> = is_possible
        .into_iter()
        .map(|is_possible| {
            if is_possible {
                answers.next().flatten().ok_or(VerificationCode::KeyUnknown)
            } else {
                Err(VerificationCode::KeyMalformed)
            }
        })
        .collect();
    // Only checks that need credits may have to wait for the database once more.
    let is_metered = found.iter().flatten().any(|credential| credential.has_credits());
    let evaluations = checks.iter().zip(found).map(|((key, request), found)| {
        evaluate(app, verifier, (key, request), found, (audit, deadline))
    });
    if is_metered {
        return try_join_all(evaluations).await;
    }
    let mut verdicts = Vec::with_capacity(checks.len());
    for evaluation in evaluations {
        verdicts.push(evaluation.await?);
    }
    Ok(verdicts)
}

/// Returns the credential that a query finds, or the code if there is none.
async fn find_credential(
    app: &App,
    query: Option<VerificationQuery>,
    deadline: Instant,
) -> Result<Found> {
    let Some(query) = query else {
        return Ok(Err(VerificationCode::KeyMalformed));
    };
    let found = in_time(app.verification_lookup.query(query), deadline).await?;
    Ok(found.ok_or(VerificationCode::KeyUnknown))
}

/// A credential, or the code if there is none.
type Found = std::result::Result<Arc<KnownCredential>, VerificationCode>;

/// Returns the query for a credential's text; `None` if it cannot be one.
fn query_for(app: &App, key: &Secret) -> Option<VerificationQuery> {
    let (kind, candidates) = possible_digests(app, key.expose())?;
    Some(VerificationQuery { kind, candidates })
}

/// Returns when a check that begins now must have its answers from the database.
fn deadline(app: &App) -> Instant {
    Instant::now() + app.config.verification.timeout
}

async fn in_time<T>(work: impl Future<Output = Result<T>>, deadline: Instant) -> Result<T> {
    timeout_at(deadline, work).await.map_err(Error::unavailable)?
}

/// Adds to the metric of verdicts.
fn count(code: &'static str, checks: usize) {
    counter!("verifications_total", "code" => code).increment(checks as u64);
}

/// Returns the verdict on a credential that was looked up, and counts and records it.
///
/// Invariant: nothing is awaited once something was counted. A verifier that closes its connection
/// cannot leave a check half counted.
async fn evaluate(
    app: &App,
    verifier: &Verifier,
    (key, request): (&Secret, &CheckRequest),
    found: Found,
    (audit, deadline): (&AuditContext, Instant),
) -> Result<Verdict> {
    let mut verdict = match for_verifier(app, verifier, found) {
        Ok(credential) if credential.is_personal() => {
            Verdict::new(VerificationCode::KeyUnknown, None)
        }
        Ok(credential) => decide(app, credential, request, (audit.at, deadline)).await?,
        Err(code) => Verdict::new(code, None),
    };
    if request.is_dry_run {
        return Ok(verdict);
    }
    if verdict.code.class() == VerdictClass::Unauthenticated
        && let Some(wait) = count_invalid(app, verifier, request)
    {
        verdict.code = VerificationCode::RateLimited;
        verdict.retry_after = Some(wait);
    }
    record(app, verifier, (key, request), &verdict, audit);
    if verdict.code == VerificationCode::Valid {
        rehash_later(app, key, verdict.credential.as_deref());
    }
    Ok(verdict)
}

/// Returns the credential, or the code of an unknown one if it is an OAuth token for a service that
/// is not the verifier's (RFC 8707). The verifier learns nothing of such a token.
fn for_verifier(app: &App, verifier: &Verifier, found: Found) -> Found {
    let settings = &app.config.oauth;
    let is_meant = |credential: &KnownCredential| {
        let oauth = credential.oauth.as_ref();
        oauth.is_none_or(|oauth| settings.is_for_verifier(verifier.name(), &oauth.resources))
    };
    found.and_then(|it| if is_meant(&it) { Ok(it) } else { Err(VerificationCode::KeyUnknown) })
}

/// Rehashes a valid credential that is stored under an old pepper. The check does not wait for it.
fn rehash_later(app: &App, key: &Secret, credential: Option<&KnownCredential>) {
    let Some(credential) = credential else { return };
    let Some(pepper_id) = credential.pepper_id.clone() else { return };
    if pepper_id == app.peppers.newest_id() {
        return;
    }
    let owner = match (&credential.organization, &credential.account) {
        (_, Some(account)) => CredentialOwner::Account(account.id),
        (Some(organization), None) => CredentialOwner::Organization(organization.id),
        (None, None) => return,
    };
    let (app, text) = (app.clone(), Secret::new(key.expose().to_owned()));
    let (id, prefix) = (credential.id, credential.prefix.clone());
    tokio::spawn(async move {
        rehash(&app, (owner, id), (&prefix, &pepper_id), text.expose()).await;
    });
}

/// Counts an invalid credential against the rate limit of the client's address, or of the verifier
/// if it reports no address. All invalid credentials count, known or not, so that the limit does
/// not reveal which of them were once valid. Valid credentials are not affected. Returns how long
/// to wait if the limit is exceeded.
fn count_invalid(app: &App, verifier: &Verifier, request: &CheckRequest) -> Option<Duration> {
    let subject = match request.client_address {
        Some(address) => LimitSubject::from_address(Some(address)),
        None => app.peppers.subject("verifier", verifier.name()),
    };
    let settings = &app.config.rate_limits;
    let counted = app.rate_limits.count_locally(settings, RateLimit::CheckedUnknownKeys, subject);
    counted.and_then(|decision| decision.outcome.retry_after)
}

/// Returns the verdict on a known credential, checked in the order that the module documents.
async fn decide(
    app: &App,
    credential: Arc<KnownCredential>,
    request: &CheckRequest,
    (now, deadline): (DateTime<Utc>, Instant),
) -> Result<Verdict> {
    if let Some(code) = rejection(app, &credential, request) {
        return Ok(Verdict::new(code, Some(credential)));
    }
    let missing_scopes = request.scopes.missing_from(&credential.scopes, credential.role);
    if !missing_scopes.is_empty() {
        let verdict = Verdict::new(VerificationCode::ScopeMissing, Some(credential));
        return Ok(Verdict { missing_scopes, ..verdict });
    }
    let verdict = limits::count(app, &credential, request, (now, deadline)).await?;
    Ok(Verdict { credential: Some(credential), ..verdict })
}

/// Returns the code for a credential that is not valid, or not for this client.
fn rejection(
    app: &App,
    credential: &KnownCredential,
    request: &CheckRequest,
) -> Option<VerificationCode> {
    if credential.organization.as_ref().is_some_and(|it| it.is_suspended) {
        return Some(VerificationCode::OrganizationSuspended);
    }
    credential.defect.or_else(|| client_rejection(app, credential, request))
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
