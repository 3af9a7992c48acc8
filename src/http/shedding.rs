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
use crate::app::in_flight::{Cost, OwnPlace, Place};
use crate::error::{Error, Kind, Result};
use crate::http::context::RequestContext;
use crate::http::trusted_page::is_safe;
use crate::model::limit::Subject;

/// Routes that ask whose a credential is.
const CHECKS: [&str; 3] = ["/auth/verify", "/me", "/v1/organization/me"];
/// Routes that hash passwords, or queue mails.
const HASHING: [&str; 12] = [
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
pub fn enter(app: &App, context: &RequestContext, method: &Method) -> Result<Place> {
    app.in_flight.enter(cost(method, &context.route)).ok_or_else(no_place)
}

/// The permits of a request, which it holds while it is worked on.
pub struct Permits {
    cost: Cost,
    subject: Subject,
    held: Mutex<Option<(Place, OwnPlace)>>,
}

impl Permits {
    fn set(&self, held: Option<(Place, OwnPlace)>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// The permits of a request under way, until it is dropped.
#[must_use]
pub struct Held(RequestContext);

impl Drop for Held {
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
pub fn hold(
    app: &App,
    context: &RequestContext,
    (method, place): (&Method, Place),
    subject: Subject,
) -> Result<Held> {
    let own = app.in_flight.enter_as(subject).ok_or_else(too_many)?;
    let held = Mutex::new(Some((place, own)));
    let _ = context.permits.set(Permits { cost: cost(method, &context.route), subject, held });
    Ok(Held(context.clone()))
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
    let waiting = app.in_flight.wait_as(permits.subject).ok_or_else(too_many)?;
    permits.set(None);
    let body = arriving.await?;
    drop(waiting);
    let place = app.in_flight.enter(permits.cost).ok_or_else(no_place)?;
    let own = app.in_flight.enter_as(permits.subject).ok_or_else(too_many)?;
    permits.set(Some((place, own)));
    Ok(body)
}

fn no_place() -> Error {
    counter!("requests_shed_total").increment(1);
    Error::unavailable("too many requests are under way")
}

fn too_many() -> Error {
    counter!("rate_limited_total", "limit" => "concurrency", "mode" => "enforced").increment(1);
    let error = Error::new(Kind::RateLimited, "Too many requests at once");
    error.with_retry_after(Duration::from_secs(1))
}

fn cost(method: &Method, route: &str) -> Cost {
    match (is_safe(method), route) {
        (true, route) if CHECKS.contains(&route) => Cost::Check,
        (true, _) => Cost::Read,
        (false, "/api/user/me") if method == Method::PUT => Cost::Write,
        (false, route) if HASHING.contains(&route) => Cost::Hashing,
        (false, _) => Cost::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_that_has_a_cost_of_its_own_is_one_of_ours() {
        let (_, document) = crate::http::openapi::split();
        for (routes, is_read) in [(&CHECKS[..], true), (&HASHING[..], false)] {
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
