//! Admission: what every guard does with an identified caller before the handler runs. The request
//! is counted first, so that a rejected one counts too.

use axum::http::Extensions;

use super::quota;
use crate::app::App;
use crate::error::{Error, Result};
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits;
use crate::http::query;
use crate::model::caller::{Caller, Credential, Identity, Person};
use crate::model::rate_limit::LimitSubject;

/// The limits that a request counts against, and the state that it requires.
pub enum AdmissionPolicy<'a> {
    /// A request in an organization, which must be active.
    Organization(&'a Caller),
    /// A request about an account. With a token for one organization, it is also metered in that
    /// organization.
    Account(&'a Person, Option<&'a Caller>),
}

/// Admits a request: counts it against its rate limit, requires an active organization, counts it
/// against the monthly quota, rejects unknown query parameters, and counts changes by accounts.
///
/// # Errors
/// Rate limited; organization suspended; quota exceeded; malformed for unknown query parameters.
pub async fn admit(
    app: &App,
    context: &RequestContext,
    extensions: &Extensions,
    policy: AdmissionPolicy<'_>,
) -> Result<()> {
    let (metered, subject_of_changes) = match policy {
        AdmissionPolicy::Organization(caller) => {
            rate_limits::count_request(app, context, caller)?;
            caller.require_active()?;
            let by_key = matches!(caller.credential, Credential::Key(..));
            (Some(caller), (!by_key).then(|| LimitSubject::from_id(caller.organization.0)))
        }
        AdmissionPolicy::Account(person, pinned) => {
            rate_limits::count_account(app, context, person.account)?;
            (pinned, Some(LimitSubject::from_id(person.account.uuid())))
        }
    };
    if let Some(caller) = metered {
        quota::admit(app, context, caller)?;
    }
    query::require_known(extensions)?;
    match subject_of_changes {
        Some(subject) => rate_limits::count_change(app, context, subject).await,
        None => Ok(()),
    }
}

/// Counts a request whose identity its guard does not accept, and rejects it with `error`.
///
/// # Errors
/// `error`, or rate limited instead.
pub fn reject<T>(
    app: &App,
    context: &RequestContext,
    identity: &Identity,
    error: Error,
) -> Result<T> {
    rate_limits::count_account_first(app, context, identity)?;
    Err(error)
}
