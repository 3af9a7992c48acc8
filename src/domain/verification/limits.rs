//! Counts a check against everything that limits it: the credits, the monthly quota and the rate
//! limits of its key and its organization. A check that one of them rejects counts against none.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{CheckRequest, QuotaState, Verdict};
use crate::app::App;
use crate::app::credit_leases::Reservation;
use crate::app::rate_limits::RateLimitDecision;
use crate::error::{Error, Result};
use crate::model::credits::CreditBalance;
use crate::model::named_limits::{NamedLimit, NamedLimitBucket, NamedLimits};
use crate::model::usage::Period;
use crate::model::verification::{CredentialOrganization, KnownCredential, VerificationCode};

/// Counts a check of a valid credential and completes the verdict on it.
///
/// # Errors
/// Unavailable if credits have to be withdrawn and the database does not respond before `deadline`.
pub(super) async fn count(
    app: &App,
    credential: &KnownCredential,
    request: &CheckRequest,
    (now, deadline): (DateTime<Utc>, Instant),
) -> Result<Verdict> {
    let organization = credential.organization.as_ref();
    if credential.limits.is_unreadable() || organization.is_some_and(|it| it.limits.is_unreadable())
    {
        return Err(Error::unavailable("the stored limits are of a newer version"));
    }
    let mut verdict = Verdict::new(VerificationCode::Valid, None);
    let mut reservations = Vec::new();
    if credential.has_credits() {
        let reserving = reserve_credits(app, credential, request, now, &mut verdict);
        reservations = timeout_at(deadline, reserving).await.map_err(Error::unavailable)??;
    }
    // Nothing is awaited from here on: a verifier that closes its connection cannot leave a check
    // half counted.
    if verdict.code == VerificationCode::Valid {
        count_quota(app, organization, request, now, &mut verdict);
    }
    if verdict.code == VerificationCode::Valid {
        count_rate_limits(app, credential, request, &mut verdict);
    }
    if verdict.code == VerificationCode::RateLimited
        && let Some(quota) = &mut verdict.quota
    {
        // The quota admitted the check, which is not counted after all.
        quota.used = quota.used.saturating_sub(request.cost.into());
    }
    if verdict.code == VerificationCode::Valid && !request.is_dry_run {
        reservations.into_iter().for_each(Reservation::use_up);
    }
    Ok(verdict)
}

/// Reserves the cost in the credits of the key and of its organization, where they have some.
async fn reserve_credits(
    app: &App,
    credential: &KnownCredential,
    request: &CheckRequest,
    now: DateTime<Utc>,
    verdict: &mut Verdict,
) -> Result<Vec<Reservation>> {
    let of_organization = credential.organization.as_ref().and_then(|it| it.credits);
    let mut reservations = Vec::new();
    for balance in [credential.credits, of_organization].into_iter().flatten() {
        let cost = i64::from(request.cost);
        // The credits that remain after this check.
        let (is_sufficient, remaining) = if request.is_dry_run || cost == 0 {
            let remaining = app.credit_leases.remaining(&balance);
            (remaining >= cost, remaining)
        } else if let Some(reservation) = app.credit_leases.reserve(&balance, cost).await? {
            let remaining = reservation.remaining();
            reservations.push(reservation);
            (true, remaining)
        } else {
            (false, app.credit_leases.remaining(&balance))
        };
        // Of two balances, the smaller one is reported.
        verdict.credits = Some(verdict.credits.map_or(remaining, |it| it.min(remaining)));
        if !is_sufficient {
            verdict.code = VerificationCode::CreditsExhausted;
            verdict.retry_after = until_refill(&balance, cost, now);
            break;
        }
    }
    Ok(reservations)
}

/// Returns the time until a refill that covers the cost; `None` if there is none.
fn until_refill(balance: &CreditBalance, cost: i64, now: DateTime<Utc>) -> Option<Duration> {
    let refill = balance.refill.filter(|refill| refill.amount >= cost)?;
    let next = refill.every.next_after(now);
    (next - now).to_std().ok()
}

/// Counts the cost against the monthly quota of the organization's plan.
fn count_quota(
    app: &App,
    organization: Option<&CredentialOrganization>,
    request: &CheckRequest,
    now: DateTime<Utc>,
    verdict: &mut Verdict,
) {
    let Some(organization) = organization else { return };
    let Some(quota) = app.config.plans.of(organization.plan).requests_per_month else { return };
    let (month, cost) = (Period::month_of(now), u64::from(request.cost));
    let used = app.meter.admit_units(organization.id, (cost, quota), request.is_dry_run, now);
    verdict.quota = Some(QuotaState {
        used: used.unwrap_or_else(|used| used),
        limit: quota,
        resets_at: month.end_time(),
    });
    if used.is_err() {
        verdict.code = VerificationCode::QuotaExceeded;
        verdict.retry_after = Some(month.remaining(now));
    }
}

/// A named limit that a check counts against.
struct CountedLimit<'a> {
    limit: &'a NamedLimit,
    owner: NamedLimitBucket,
    units: u32,
}

/// Counts one request against the plan's requests per minute, and against the named limits of the
/// key and its organization.
fn count_rate_limits(
    app: &App,
    credential: &KnownCredential,
    request: &CheckRequest,
    verdict: &mut Verdict,
) {
    let (limits, is_dry_run) = (&app.rate_limits, request.is_dry_run);
    let plan = credential.organization.as_ref().map(|organization| {
        (organization.id, app.config.plans.of(organization.plan).requests_per_minute)
    });
    if let Some((organization, quota)) = plan {
        let decision = if is_dry_run {
            limits.peek_request(organization, quota)
        } else {
            limits.count_request(organization, quota)
        };
        add_decision(verdict, decision, true);
    }
    let mut counted = Vec::new();
    for named in named_limits(credential, request) {
        if verdict.code != VerificationCode::Valid {
            break;
        }
        let (decision, is_own) =
            limits.count_named(named.limit, named.owner, named.units, is_dry_run);
        let may_pass_later = named.units <= named.limit.limit;
        add_decision(verdict, Some(decision), may_pass_later);
        counted.push((named, is_own));
    }
    if verdict.code == VerificationCode::Valid || is_dry_run {
        return;
    }
    // The last one rejected the check, and counted nothing.
    let is_plan_counted = !counted.is_empty();
    counted.pop();
    for (named, is_own) in counted {
        limits.refund_named(named.limit, named.owner, named.units, is_own);
    }
    if let Some((organization, quota)) = plan.filter(|_| is_plan_counted) {
        limits.refund_request(organization, quota);
    }
}

fn add_decision(verdict: &mut Verdict, decision: Option<RateLimitDecision>, may_pass_later: bool) {
    let Some(decision) = decision else { return };
    if let Some(wait) = decision.outcome.retry_after {
        verdict.code = VerificationCode::RateLimited;
        verdict.retry_after = Some(wait).filter(|_| may_pass_later);
    }
    verdict.limits.push(decision);
}

/// Returns the limits that the check names, and those that count every check, which the check
/// cannot turn off.
fn named_limits<'a>(
    credential: &'a KnownCredential,
    request: &'a CheckRequest,
) -> impl Iterator<Item = CountedLimit<'a>> {
    let of_key = owned_limits(&credential.limits, credential.metered_key.uuid(), false);
    let organization = credential.organization.iter();
    let of_organization = organization.flat_map(|it| owned_limits(&it.limits, it.id.0, true));
    of_key.chain(of_organization).filter_map(|(limit, owner)| {
        let named = request.limits.iter().find(|(name, _)| *name == limit.name);
        let units = match named.map(|(_, units)| *units) {
            Some(units) if limit.always => units.max(1),
            Some(units) => units,
            None => limit.always.then_some(1)?,
        };
        Some(CountedLimit { limit, owner, units })
    })
}

fn owned_limits(
    limits: &NamedLimits,
    id: Uuid,
    is_organization: bool,
) -> impl Iterator<Item = (&NamedLimit, NamedLimitBucket)> {
    let owner = move |position| NamedLimitBucket { id, is_organization, position };
    limits.as_slice().iter().enumerate().map(move |(position, limit)| (limit, owner(position)))
}
