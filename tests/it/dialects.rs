//! Every kind of failure through every family: one snapshot, held against the contract's table.

use std::fmt::Write;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use tenantry::error::{Error, Issue, Kind, Proof};
use tenantry::http::dialect::Family;

use crate::support::{TestApp, run};

/// One failure of every kind. A kind that is missing here does not compile into `position`.
fn failures() -> Vec<Error> {
    let issues = vec![Issue::of("org_id", "is reserved"), Issue::of("name", "is too long")];
    let spent = (100_000, 100_000);
    let kinds = [
        Kind::Malformed,
        Kind::Invalid,
        Kind::Unauthenticated(Proof::Missing),
        Kind::Unauthenticated(Proof::Key),
        Kind::Unauthenticated(Proof::Token),
        Kind::Unauthenticated(Proof::Password),
        Kind::Unauthenticated(Proof::InactiveAccount),
        Kind::MissingScopes(vec!["api-keys:write".to_owned()]),
        Kind::MissingRole("admin".to_owned()),
        Kind::Forbidden,
        Kind::EmailNotVerified,
        Kind::Suspended,
        Kind::PlanLimit { resource: "keys", limit: 100, used: 100 },
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::Conflict,
        Kind::EmailTaken,
        Kind::IdempotencyReused,
        Kind::IdempotencyProcessing,
        Kind::TooLarge,
        Kind::UnsupportedMediaType,
        Kind::RateLimited,
        Kind::QuotaExceeded { resource: "requests", limit: spent.0, used: spent.1 },
        Kind::Internal,
        Kind::Upstream,
        Kind::Unavailable,
    ];
    for (at, kind) in kinds.iter().enumerate() {
        assert_eq!(position(kind), at);
    }
    let failures = kinds.into_iter().map(|kind| match kind {
        Kind::Invalid => Error::invalid(issues.clone()),
        Kind::Unavailable => Error::unavailable("the database is at 10.0.0.7"),
        kind => Error::new(kind, "What went wrong").with_source("password=hunter2"),
    });
    failures.collect()
}

/// Where in [`failures`] a kind stands: without a wildcard, so that none is forgotten.
fn position(kind: &Kind) -> usize {
    match kind {
        Kind::Malformed => 0,
        Kind::Invalid => 1,
        Kind::Unauthenticated(Proof::Missing) => 2,
        Kind::Unauthenticated(Proof::Key) => 3,
        Kind::Unauthenticated(Proof::Token) => 4,
        Kind::Unauthenticated(Proof::Password) => 5,
        Kind::Unauthenticated(Proof::InactiveAccount) => 6,
        Kind::MissingScopes(_) => 7,
        Kind::MissingRole(_) => 8,
        Kind::Forbidden => 9,
        Kind::EmailNotVerified => 10,
        Kind::Suspended => 11,
        Kind::PlanLimit { .. } => 12,
        Kind::NotFound => 13,
        Kind::MethodNotAllowed => 14,
        Kind::Conflict => 15,
        Kind::EmailTaken => 16,
        Kind::IdempotencyReused => 17,
        Kind::IdempotencyProcessing => 18,
        Kind::TooLarge => 19,
        Kind::UnsupportedMediaType => 20,
        Kind::RateLimited => 21,
        Kind::QuotaExceeded { .. } => 22,
        Kind::Internal => 23,
        Kind::Upstream => 24,
        Kind::Unavailable => 25,
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
        Family::None => "/failures",
    }
}

/// The server with routes that fail as they are told to.
fn failing(app: &TestApp) -> Router {
    let fail = |Path(at): Path<usize>| async move { failures().swap_remove(at) };
    let routes = Family::ALL.into_iter().fold(Router::new(), |routes, family| {
        routes.route(&format!("{}/{{at}}", path_of(family)), get(fail))
    });
    tenantry::http::dress(&app.app, routes)
}

#[tokio::test]
async fn every_kind_of_failure_has_its_words_in_every_family() {
    run(async |app| {
        let actor = app.behind(failing(app)).with("x-request-id", "request-of-a-test");
        let mut shown = String::new();
        for family in Family::ALL {
            for at in 0..failures().len() {
                let answer = actor.get(&format!("{}/{at}", path_of(family))).await;
                assert_eq!(Family::of(&format!("{}/{at}", path_of(family))), family);
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
        ("/authors", Family::None),
        ("/api/auth/sign-out", Family::User),
        ("/api/user", Family::User),
        ("/api/users", Family::None),
        ("/api", Family::None),
        ("/v1/organization", Family::Organization),
        ("/v1/organization/api-keys/key_1", Family::Organization),
        ("/v1/organizations", Family::None),
        ("/v1/admin/org/create", Family::Operator),
        ("/v1/admin", Family::Operator),
        ("/v1/administrators", Family::None),
        ("/signups", Family::None),
        ("/health/live", Family::None),
        ("/v1/other", Family::None),
        ("/", Family::None),
        ("", Family::None),
    ];
    for (path, family) in table {
        assert_eq!(Family::of(path), family, "{path}");
    }
}
