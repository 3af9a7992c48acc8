//! The monthly quota of requests that an organization's plan allows.

use chrono::{DateTime, Utc};

use crate::app::App;
use crate::app::meter::RequestOutcome;
use crate::error::{Error, ErrorKind, Result};
use crate::http::auth::rejected_caller::RejectedCaller;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits;
use crate::model::caller::{Caller, Credential, Identity};
use crate::model::usage::Period;

/// Counts a request against the monthly quota of its caller's organization. Sessions are not
/// metered, and quota-exempt routes are not counted.
///
/// # Errors
/// Quota exceeded, until the month ends.
pub fn admit(app: &App, context: &RequestContext, caller: &Caller) -> Result<()> {
    if !context.facts.kind.is_quota_exempt && count_against_quota(app, caller, context.received_at)?
    {
        let _ = context.quota_counted.set(());
    }
    Ok(())
}

/// Counts a request whose key or token is in the body like one whose key is in a header: against
/// the organization's requests per minute and per month, and as a use of the key.
///
/// # Errors
/// Rate limited, or quota exceeded.
pub fn count_presented(app: &App, context: &RequestContext, identity: &Identity) -> Result<()> {
    let Some(caller) = &identity.caller else { return Ok(()) };
    let in_header = context.identity.get().and_then(|it| it.caller.as_ref());
    if in_header.is_some_and(|it| it.organization == caller.organization) {
        // The guard has counted it against the rate limit, by the credential in the header.
        return admit(app, context, caller);
    }
    let admitted = rate_limits::count_request(app, context, caller)
        .and_then(|()| count_against_quota(app, caller, context.received_at));
    let outcome =
        if admitted.is_ok() { RequestOutcome::Answered } else { RequestOutcome::Throttled };
    let was_admitted = matches!(admitted, Ok(true));
    app.meter.count(identity, None, (outcome, was_admitted), context.received_at);
    if let (Err(_), Some(rejected)) = (&admitted, RejectedCaller::from_identity(identity)) {
        let _ = context.rejected_caller.set(rejected);
    }
    admitted.map(drop)
}

/// Returns whether the request was counted: the plan has a quota, and the credential is not a
/// session.
fn count_against_quota(app: &App, caller: &Caller, now: DateTime<Utc>) -> Result<bool> {
    let limit = app.config.plans.of(caller.plan).requests_per_month;
    let is_session = matches!(caller.credential, Credential::Session(..));
    let Some(limit) = limit.filter(|_| !is_session) else {
        return Ok(false);
    };
    let admitted = app.meter.admit(caller.organization, limit, now);
    admitted.map(|()| true).map_err(|used| quota_exceeded(limit, used, now))
}

fn quota_exceeded(limit: u64, used: u64, now: DateTime<Utc>) -> Error {
    let message =
        format!("The plan allows {limit} requests a month, and {used} were made this month");
    let kind = ErrorKind::QuotaExceeded { resource: "requests", limit, used };
    Error::new(kind, message).with_retry_after(Period::month_of(now).remaining(now))
}
