//! The monthly quota: an organization whose plan's requests are spent is refused, before the work.

use chrono::{DateTime, Utc};

use crate::app::App;
use crate::app::meter::RequestOutcome;
use crate::error::{Error, ErrorKind, Result};
use crate::http::context::RequestContext;
use crate::http::rate_limits;
use crate::http::rejection::RejectedCaller;
use crate::model::caller::{Caller, Identity};
use crate::model::usage::Period;

/// What stays open to keys and tokens of an organization that has spent its quota: to see why, and
/// to end a key, which must not wait for the next month.
const QUOTA_EXEMPT_ROUTES: [(&str, &str); 9] = [
    ("GET", "/usage/today"),
    ("GET", "/usage/summary"),
    ("GET", "/v1/organization/usage"),
    ("GET", "/v1/organization/denials"),
    ("GET", "/api/user/organizations/{organizationId}/usage"),
    ("DELETE", "/me/api-keys/{id}"),
    ("DELETE", "/v1/organization/api-keys/{id}"),
    ("DELETE", "/api/user/organizations/{organizationId}/api-keys/{id}"),
    ("POST", "/v1/admin/key/revoke"),
];

/// Passes a caller whose organization has not spent what its plan, as it is now, holds for the
/// month, and counts the request. People in a session are not metered and pass.
///
/// # Errors
/// Quota exceeded, until the month ends.
pub fn admit(app: &App, context: &RequestContext, caller: &Caller) -> Result<()> {
    let is_open = QUOTA_EXEMPT_ROUTES.contains(&(context.method, context.route.as_str()));
    if !is_open && count_against_quota(app, caller, context.received_at)? {
        let _ = context.quota_counted.set(());
    }
    Ok(())
}

/// Counts a request that presents its key or token in the body as one that presents it in a header:
/// against what its organization may do in a minute and in a month, and as used.
///
/// # Errors
/// Rate limited, or quota exceeded.
pub fn count_presented(app: &App, context: &RequestContext, identity: &Identity) -> Result<()> {
    let Some(caller) = &identity.caller else { return Ok(()) };
    let in_header = context.identity.get().and_then(|it| it.caller.as_ref());
    if in_header.is_some_and(|it| it.organization == caller.organization) {
        // Counted already, as the request of the credential in its header.
        return admit(app, context, caller);
    }
    let admitted = rate_limits::count_request(app, context, caller)
        .and_then(|()| count_against_quota(app, caller, context.received_at));
    let outcome =
        if admitted.is_ok() { RequestOutcome::Answered } else { RequestOutcome::Throttled };
    let was_admitted = matches!(admitted, Ok(true));
    app.meter.count(identity, None, (outcome, was_admitted), context.received_at);
    if admitted.is_err() {
        let _ = RejectedCaller::from_identity(identity)
            .map(|denied| context.rejected_caller.set(denied));
    }
    admitted.map(drop)
}

/// Whether the request is one that the month's quota counts.
fn count_against_quota(app: &App, caller: &Caller, now: DateTime<Utc>) -> Result<bool> {
    let limit = app.config.plans.of(caller.plan).requests_per_month;
    let Some(limit) = limit.filter(|_| caller.credential.key().is_some()) else {
        return Ok(false);
    };
    let admitted = app.meter.admit(caller.organization, limit, now);
    admitted.map(|()| true).map_err(|used| quota_exceeded(limit, used, now))
}

fn quota_exceeded(limit: u64, used: u64, now: DateTime<Utc>) -> Error {
    let message =
        format!("The plan holds {limit} requests a month, and {used} were made in this one");
    let kind = ErrorKind::QuotaExceeded { resource: "requests", limit, used };
    Error::new(kind, message).with_retry_after(Period::month_of(now).remaining(now))
}
