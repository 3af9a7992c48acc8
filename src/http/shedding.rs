//! What a server with too much to do leaves undone: passwords and mails first, then changes, then
//! reading, and last the checks of keys. Whether it lives and is ready is always answered.
//!
//! The one thing to know: a request holds its permits only while the server works on it, never
//! while it waits for its client.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::Method;
use metrics::counter;

use crate::app::App;
use crate::app::in_flight::{Cost, RequestPermit, SubjectPermit};
use crate::error::{Error, ErrorKind, Result};
use crate::http::context::RequestContext;
use crate::http::trusted_origin::is_safe;
use crate::model::rate_limit::LimitSubject;

/// Routes that ask whose a credential is.
const CREDENTIAL_CHECK_ROUTES: [&str; 3] = ["/auth/verify", "/me", "/v1/organization/me"];
/// Routes that hash passwords, or queue mails.
const HASHING_OR_MAIL_ROUTES: [&str; 12] = [
    "/auth/signup",
    "/auth/login",
    "/api/auth/sign-up/email",
    "/api/auth/sign-in/email",
    "/api/auth/request-password-reset",
    "/api/auth/reset-password",
    "/api/auth/change-password",
    "/api/auth/verify-email",
    "/api/auth/send-verification-email",
    "/api/user/me",
    "/api/user/organizations/{organizationId}/invites",
    "/api/user/organizations/{organizationId}/invites/{id}/resend",
];

/// A place for a request until it is dropped.
///
/// # Errors
/// Unavailable where those of its cost have none left.
pub fn acquire_permit(
    app: &App,
    context: &RequestContext,
    method: &Method,
) -> Result<RequestPermit> {
    app.in_flight.acquire(cost(method, &context.route)).ok_or_else(no_permit_left)
}

/// The permits of a request, which it holds while it is worked on.
pub struct Permits {
    cost: Cost,
    subject: LimitSubject,
    current: Mutex<Option<(RequestPermit, SubjectPermit)>>,
}

impl Permits {
    fn set(&self, held: Option<(RequestPermit, SubjectPermit)>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// The permits of a request under way, until it is dropped.
#[must_use]
pub struct PermitGuard(RequestContext);

impl Drop for PermitGuard {
    fn drop(&mut self) {
        if let Some(permits) = self.0.permits.get() {
            permits.set(None);
        }
    }
}

/// Has a request, which has its place among all, take its place among those of its caller, and
/// hold both.
///
/// # Errors
/// Rate limited where its caller has none left.
pub fn acquire_caller_permit(
    app: &App,
    context: &RequestContext,
    (method, place): (&Method, RequestPermit),
    subject: LimitSubject,
) -> Result<PermitGuard> {
    let own = app.in_flight.acquire_for(subject).ok_or_else(too_many_concurrent)?;
    let held = Mutex::new(Some((place, own)));
    let _ =
        context.permits.set(Permits { cost: cost(method, &context.route), subject, current: held });
    Ok(PermitGuard(context.clone()))
}

/// Waits for the body of a request, which gives its permits back meanwhile and takes them again
/// once the body is whole: who sends slowly, or not at all, holds nothing that others need.
///
/// # Errors
/// Rate limited where too many bodies of the same caller are waited for, or too many of its
/// requests are under way when this one is whole; unavailable where no place is left then; those of
/// `arriving`.
pub async fn await_body<T>(
    app: &App,
    context: &RequestContext,
    arriving: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(permits) = context.permits.get() else { return arriving.await };
    let waiting =
        app.in_flight.acquire_body_for(permits.subject).ok_or_else(too_many_concurrent)?;
    permits.set(None);
    let body = arriving.await?;
    drop(waiting);
    let place = app.in_flight.acquire(permits.cost).ok_or_else(no_permit_left)?;
    let own = app.in_flight.acquire_for(permits.subject).ok_or_else(too_many_concurrent)?;
    permits.set(Some((place, own)));
    Ok(body)
}

fn no_permit_left() -> Error {
    counter!("requests_shed_total").increment(1);
    Error::unavailable("too many requests are under way")
}

fn too_many_concurrent() -> Error {
    counter!("rate_limited_total", "limit" => "concurrency", "mode" => "enforced").increment(1);
    let error = Error::new(ErrorKind::RateLimited, "Too many requests at once");
    error.with_retry_after(Duration::from_secs(1))
}

fn cost(method: &Method, route: &str) -> Cost {
    match (is_safe(method), route) {
        (true, route) if CREDENTIAL_CHECK_ROUTES.contains(&route) => Cost::Check,
        (true, _) => Cost::Read,
        (false, "/api/user/me") if method == Method::PUT => Cost::Write,
        (false, route) if HASHING_OR_MAIL_ROUTES.contains(&route) => Cost::Hashing,
        (false, _) => Cost::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_that_has_a_cost_of_its_own_is_one_of_ours() {
        let (_, document) = crate::http::openapi::routes_and_document();
        for (routes, is_read) in
            [(&CREDENTIAL_CHECK_ROUTES[..], true), (&HASHING_OR_MAIL_ROUTES[..], false)]
        {
            for route in routes {
                let item = document.paths.paths.get(*route);
                let item = item.unwrap_or_else(|| panic!("nothing is at {route}"));
                let changes = [&item.post, &item.put, &item.patch, &item.delete];
                let is_there = if is_read { &[&item.get][..] } else { &changes };
                assert!(is_there.iter().any(|it| it.is_some()), "{route} has no such method");
            }
        }
    }
}
