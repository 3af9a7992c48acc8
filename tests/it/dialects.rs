//! Every kind of failure through every family: one snapshot, held against the contract's table.

use std::fmt::Write;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use tenantry::error::{Error, Issue, Kind};
use tenantry::http::dialect::Family;

use crate::support::{TestApp, run};

/// One failure of every kind. A kind that is missing here does not compile into `position`.
fn failures() -> Vec<Error> {
    let issues = vec![Issue::of("org_id", "is reserved"), Issue::of("name", "is too long")];
    let spent = (100_000, 100_000);
    let kinds = [
        Kind::Malformed,
        Kind::Invalid,
        Kind::Unauthenticated,
        Kind::MissingScopes(vec!["api-keys:write".to_owned()]),
        Kind::MissingRole("admin".to_owned()),
        Kind::Forbidden,
        Kind::Suspended,
        Kind::PlanLimit { resource: "keys", limit: 100, used: 100 },
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::Conflict,
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
        Kind::Unauthenticated => 2,
        Kind::MissingScopes(_) => 3,
        Kind::MissingRole(_) => 4,
        Kind::Forbidden => 5,
        Kind::Suspended => 6,
        Kind::PlanLimit { .. } => 7,
        Kind::NotFound => 8,
        Kind::MethodNotAllowed => 9,
        Kind::Conflict => 10,
        Kind::IdempotencyReused => 11,
        Kind::IdempotencyProcessing => 12,
        Kind::TooLarge => 13,
        Kind::UnsupportedMediaType => 14,
        Kind::RateLimited => 15,
        Kind::QuotaExceeded { .. } => 16,
        Kind::Internal => 17,
        Kind::Upstream => 18,
        Kind::Unavailable => 19,
    }
}

/// A path of each family at which nothing else is.
fn path_of(family: Family) -> &'static str {
    match family {
        Family::Onboarding => "/me/failures",
        Family::Organization => "/v1/organization/failures",
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
        ("/v1/organization", Family::Organization),
        ("/v1/organization/api-keys/key_1", Family::Organization),
        ("/v1/organizations", Family::None),
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
