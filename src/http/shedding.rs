//! What a server with too much to do leaves undone: passwords and mails first, then changes, then
//! reading, and last the checks of keys. Whether it lives and is ready is always answered.

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
const HASHING: [&str; 11] = [
    "/auth/signup",
    "/auth/login",
    "/api/auth/sign-up/email",
    "/api/auth/sign-in/email",
    "/api/auth/request-password-reset",
    "/api/auth/reset-password",
    "/api/auth/change-password",
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
    app.in_flight.enter(cost(method, &context.route)).ok_or_else(|| {
        counter!("requests_shed_total").increment(1);
        Error::unavailable("too many requests are under way")
    })
}

/// A place for a request among those of whoever makes it, until it is dropped.
///
/// # Errors
/// Rate limited where they have none left.
pub fn enter_as(app: &App, subject: Subject) -> Result<OwnPlace> {
    app.in_flight.enter_as(subject).ok_or_else(|| {
        counter!("rate_limited_total", "limit" => "concurrency", "mode" => "enforced").increment(1);
        let error = Error::new(Kind::RateLimited, "Too many requests at once");
        error.with_retry_after(Duration::from_secs(1))
    })
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
