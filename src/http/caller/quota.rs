//! The monthly quota: an organization whose plan's requests are spent is refused, before the work.

use chrono::{DateTime, Utc};

use crate::app::App;
use crate::error::{Error, Kind, Result};
use crate::http::context::RequestContext;
use crate::model::caller::Caller;
use crate::model::usage::Period;

/// What stays open to keys and tokens of an organization that has spent its quota: to see why, and
/// to end a key, which must not wait for the next month.
const OPEN: [(&str, &str); 9] = [
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
    let limit = app.config.plans.of(caller.plan).requests_per_month;
    let is_open = OPEN.contains(&(context.method, context.route.as_str()));
    let Some(limit) = limit.filter(|_| caller.credential.key().is_some() && !is_open) else {
        return Ok(());
    };
    match app.meter.admit(caller.organization, limit, context.at) {
        Ok(()) => {
            let _ = context.admitted.set(());
            Ok(())
        }
        Err(used) => Err(spent(limit, used, context.at)),
    }
}

fn spent(limit: u64, used: u64, now: DateTime<Utc>) -> Error {
    let message =
        format!("The plan holds {limit} requests a month, and {used} were made in this one");
    let kind = Kind::QuotaExceeded { resource: "requests", limit, used };
    Error::new(kind, message).with_retry_after(Period::month_of(now).left(now))
}
