//! Load shedding: an overloaded server rejects password hashing and mails first, then writes, then
//! reads, and last the checks of credentials. Health checks are always answered.
//!
//! Invariant: a request has its permits only while the server works on it, never while it waits for
//! its client or another server.

use std::time::Duration;

use metrics::counter;

use crate::app::App;
use crate::app::in_flight::{Cost, RequestPermit};
use crate::error::{Error, ErrorKind, Result};
use crate::http::edge::context::RequestContext;
use crate::http::edge::permits::Permits;
use crate::model::rate_limit::LimitSubject;

/// Acquires a permit for a request.
///
/// # Errors
/// Unavailable if no permit is left for the cost of the request's route.
pub fn acquire_permit(app: &App, context: &RequestContext) -> Result<RequestPermit> {
    app.in_flight.acquire(context.facts.kind.cost).ok_or_else(no_permit_left)
}

/// Acquires a permit for a check by a verifier. Checks have their own limit, so that they and the
/// other requests do not delay each other.
///
/// # Errors
/// Unavailable if no permit is left.
pub fn acquire_check_permit(app: &App) -> Result<RequestPermit> {
    app.verifications_in_flight.acquire(Cost::Check).ok_or_else(no_permit_left)
}

/// Releases the permits of a request when this guard is dropped.
#[must_use]
pub struct PermitGuard(RequestContext);

impl Drop for PermitGuard {
    fn drop(&mut self) {
        if let Some(permits) = self.0.permits.get() {
            permits.set(None);
        }
    }
}

/// Acquires a permit among the requests of the same caller, and stores it together with `permit`.
///
/// # Errors
/// Rate limited if too many requests of the caller are in progress.
pub fn acquire_caller_permit(
    app: &App,
    context: &RequestContext,
    permit: RequestPermit,
    subject: LimitSubject,
) -> Result<PermitGuard> {
    let caller_permit = app.in_flight.acquire_for(subject).ok_or_else(too_many_concurrent)?;
    let permits = Permits::new(context.facts.kind.cost, subject, (permit, caller_permit));
    let _ = context.permits.set(permits);
    Ok(PermitGuard(context.clone()))
}

/// Awaits the body of a request, or what another server sends. The request releases its permits
/// meanwhile and acquires them again once that is complete, so that a client or a server that sends
/// slowly, or nothing, blocks no other client.
///
/// # Errors
/// Rate limited if too many requests of the same caller wait like this, or if too many of them are
/// in progress when the wait ends; unavailable if no permit is left then; the errors of `outside`.
pub async fn await_without_permits<T>(
    app: &App,
    context: &RequestContext,
    outside: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(permits) = context.permits.get() else { return outside.await };
    let body_permit =
        app.in_flight.acquire_waiting_for(permits.subject).ok_or_else(too_many_concurrent)?;
    permits.set(None);
    let received = outside.await?;
    drop(body_permit);
    let permit = app.in_flight.acquire(permits.cost).ok_or_else(no_permit_left)?;
    let caller_permit =
        app.in_flight.acquire_for(permits.subject).ok_or_else(too_many_concurrent)?;
    permits.set(Some((permit, caller_permit)));
    Ok(received)
}

fn no_permit_left() -> Error {
    counter!("requests_shed_total").increment(1);
    Error::unavailable("too many requests are in progress")
}

fn too_many_concurrent() -> Error {
    counter!("rate_limited_total", "limit" => "concurrency", "mode" => "enforced").increment(1);
    let error = Error::new(ErrorKind::RateLimited, "Too many concurrent requests");
    error.with_retry_after(Duration::from_secs(1))
}
