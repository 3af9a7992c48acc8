//! Every kind of failure through every family: one snapshot, held against the contract's table.

use std::fmt::Write;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use tenantry::error::{AuthFailure, Error, ErrorKind, Issue};
use tenantry::http::family::{Family, RouteTable};

use crate::support::{TestApp, run};

/// One failure of every kind. A kind that is missing here does not compile into `position`.
fn all_errors() -> Vec<Error> {
    let issues = vec![Issue::field("org_id", "is reserved"), Issue::field("name", "is too long")];
    let spent = (100_000, 100_000);
    let kinds = [
        ErrorKind::Malformed,
        ErrorKind::Invalid,
        ErrorKind::Unauthenticated(AuthFailure::MissingCredential),
        ErrorKind::Unauthenticated(AuthFailure::InvalidKey),
        ErrorKind::Unauthenticated(AuthFailure::InvalidToken),
        ErrorKind::Unauthenticated(AuthFailure::InvalidPassword),
        ErrorKind::Unauthenticated(AuthFailure::InactiveAccount),
        ErrorKind::MissingScopes(vec!["api-keys:write".to_owned()]),
        ErrorKind::MissingRole("admin".to_owned()),
        ErrorKind::Forbidden,
        ErrorKind::EmailNotVerified,
        ErrorKind::OrganizationSuspended,
        ErrorKind::PlanLimit { resource: "keys", limit: 100, used: 100 },
        ErrorKind::NotFound,
        ErrorKind::MethodNotAllowed,
        ErrorKind::Conflict,
        ErrorKind::EmailTaken,
        ErrorKind::IdempotencyKeyReused,
        ErrorKind::IdempotencyKeyInUse,
        ErrorKind::TooLarge,
        ErrorKind::UnsupportedMediaType,
        ErrorKind::RateLimited,
        ErrorKind::QuotaExceeded { resource: "requests", limit: spent.0, used: spent.1 },
        ErrorKind::Internal,
        ErrorKind::Upstream,
        ErrorKind::Unavailable,
    ];
    for (at, kind) in kinds.iter().enumerate() {
        assert_eq!(position(kind), at);
    }
    let failures = kinds.into_iter().map(|kind| match kind {
        ErrorKind::Invalid => Error::invalid(issues.clone()),
        ErrorKind::Unavailable => Error::unavailable("the database is at 10.0.0.7"),
        kind => Error::new(kind, "What went wrong").with_source("password=hunter2"),
    });
    failures.collect()
}

/// Where in [`failures`] a kind stands: without a wildcard, so that none is forgotten.
fn position(kind: &ErrorKind) -> usize {
    match kind {
        ErrorKind::Malformed => 0,
        ErrorKind::Invalid => 1,
        ErrorKind::Unauthenticated(AuthFailure::MissingCredential) => 2,
        ErrorKind::Unauthenticated(AuthFailure::InvalidKey) => 3,
        ErrorKind::Unauthenticated(AuthFailure::InvalidToken) => 4,
        ErrorKind::Unauthenticated(AuthFailure::InvalidPassword) => 5,
        ErrorKind::Unauthenticated(AuthFailure::InactiveAccount) => 6,
        ErrorKind::MissingScopes(_) => 7,
        ErrorKind::MissingRole(_) => 8,
        ErrorKind::Forbidden => 9,
        ErrorKind::EmailNotVerified => 10,
        ErrorKind::OrganizationSuspended => 11,
        ErrorKind::PlanLimit { .. } => 12,
        ErrorKind::NotFound => 13,
        ErrorKind::MethodNotAllowed => 14,
        ErrorKind::Conflict => 15,
        ErrorKind::EmailTaken => 16,
        ErrorKind::IdempotencyKeyReused => 17,
        ErrorKind::IdempotencyKeyInUse => 18,
        ErrorKind::TooLarge => 19,
        ErrorKind::UnsupportedMediaType => 20,
        ErrorKind::RateLimited => 21,
        ErrorKind::QuotaExceeded { .. } => 22,
        ErrorKind::Internal => 23,
        ErrorKind::Upstream => 24,
        ErrorKind::Unavailable => 25,
    }
}

/// A path of each family at which nothing else is.
fn path_of(family: Family) -> &'static str {
    match family {
        Family::Onboarding => "/me/failures",
        Family::Account => "/auth/failures",
        Family::User => "/api/user/failures",
        Family::Organization => "/v1/organization/failures",
        Family::Operator => "/v1/admin/failures",
        Family::Other => "/failures",
    }
}

/// The server with routes that fail as they are told to.
fn failing_router(app: &TestApp) -> Router {
    let fail = |Path(at): Path<usize>| async move { all_errors().swap_remove(at) };
    let routes = Family::ALL.into_iter().fold(Router::new(), |routes, family| {
        routes.route(&format!("{}/{{at}}", path_of(family)), get(fail))
    });
    tenantry::http::with_middleware(&app.app, RouteTable::default(), routes)
}

#[tokio::test]
async fn every_kind_of_failure_has_its_words_in_every_family() {
    run(async |app| {
        let actor = app.client_for(failing_router(app)).with("x-request-id", "request-of-a-test");
        let mut shown = String::new();
        for family in Family::ALL {
            for at in 0..all_errors().len() {
                let answer = actor.get(&format!("{}/{at}", path_of(family))).await;
                assert_eq!(Family::from_path(&format!("{}/{at}", path_of(family))), family);
                assert!(!answer.text.contains("hunter2") && !answer.text.contains("10.0.0.7"));
                writeln!(shown, "{} {}", family.as_str(), answer.status.as_u16()).unwrap();
                for name in ["content-type", "www-authenticate", "retry-after"] {
                    if !answer.header(name).is_empty() {
                        writeln!(shown, "  {name}: {}", answer.header(name)).unwrap();
                    }
                }
                writeln!(shown, "  {}", answer.text).unwrap();
            }
        }
        insta::assert_snapshot!(shown);
    })
    .await;
}

#[test]
fn every_path_has_the_family_that_the_contract_gives_it() {
    let table = [
        ("/signup", Family::Onboarding),
        ("/me", Family::Onboarding),
        ("/me/api-keys/key_1", Family::Onboarding),
        ("/auth/token-exchange", Family::Onboarding),
        ("/auth/refresh", Family::Onboarding),
        ("/auth/verify", Family::Onboarding),
        ("/usage/today", Family::Onboarding),
        ("/auth", Family::Account),
        ("/auth/login", Family::Account),
        ("/auth/never", Family::Account),
        ("/authors", Family::Other),
        ("/api/auth/sign-out", Family::User),
        ("/api/user", Family::User),
        ("/api/users", Family::Other),
        ("/api", Family::Other),
        ("/v1/organization", Family::Organization),
        ("/v1/organization/api-keys/key_1", Family::Organization),
        ("/v1/organizations", Family::Other),
        ("/v1/admin/org/create", Family::Operator),
        ("/v1/admin", Family::Operator),
        ("/v1/administrators", Family::Other),
        ("/signups", Family::Other),
        ("/health/live", Family::Other),
        ("/v1/other", Family::Other),
        ("/", Family::Other),
        ("", Family::Other),
    ];
    for (path, family) in table {
        assert_eq!(Family::from_path(path), family, "{path}");
    }
}
