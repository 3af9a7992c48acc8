//! Every kind of error in every family, in one snapshot.

use std::fmt::Write;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use tenantry::error::{AuthFailure, Error, ErrorKind, Issue, OauthFailure};
use tenantry::http::family::{Family, RouteTable};

use crate::support::{TestApp, run};

/// One error of every kind. `position` compiles only if it has every kind.
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
        ErrorKind::Unauthenticated(AuthFailure::InvalidVerifier),
        ErrorKind::MissingScopes(vec!["api-keys:write".to_owned()]),
        ErrorKind::MissingRole("admin".to_owned()),
        ErrorKind::Forbidden,
        ErrorKind::EmailNotVerified,
        ErrorKind::OrganizationSuspended,
        ErrorKind::PlanLimit { resource: "keys", limit: 100, used: 100 },
        ErrorKind::NotFound,
        ErrorKind::MethodNotAllowed,
        ErrorKind::Conflict,
        ErrorKind::Gone,
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
        ErrorKind::Unauthenticated(AuthFailure::InvalidClient),
        ErrorKind::Oauth(OauthFailure::InvalidGrant),
        ErrorKind::Oauth(OauthFailure::UnauthorizedClient),
        ErrorKind::Oauth(OauthFailure::UnsupportedGrantType),
        ErrorKind::Oauth(OauthFailure::InvalidScope),
        ErrorKind::Oauth(OauthFailure::InvalidTarget),
        ErrorKind::Oauth(OauthFailure::InvalidRedirectUri),
        ErrorKind::Oauth(OauthFailure::InvalidClientMetadata),
        ErrorKind::Oauth(OauthFailure::AuthorizationPending),
        ErrorKind::Oauth(OauthFailure::SlowDown),
        ErrorKind::Oauth(OauthFailure::ExpiredToken),
        ErrorKind::Oauth(OauthFailure::AccessDenied),
        ErrorKind::SsoSessionScoped,
        ErrorKind::SsoNotConfigured,
        ErrorKind::DomainTaken,
        ErrorKind::DomainRecordNotFound,
    ];
    for (at, kind) in kinds.iter().enumerate() {
        assert_eq!(position(kind), at);
    }
    let errors = kinds.into_iter().map(|kind| match kind {
        ErrorKind::Invalid => Error::invalid(issues.clone()),
        ErrorKind::Unavailable => Error::unavailable("the database is at 10.0.0.7"),
        kind => Error::new(kind, "What went wrong").with_source("password=hunter2"),
    });
    errors.collect()
}

/// The index of a kind in [`all_errors`]. Has no wildcard, so that no kind is forgotten.
fn position(kind: &ErrorKind) -> usize {
    match kind {
        ErrorKind::Malformed => 0,
        ErrorKind::Invalid => 1,
        ErrorKind::Unauthenticated(AuthFailure::MissingCredential) => 2,
        ErrorKind::Unauthenticated(AuthFailure::InvalidKey) => 3,
        ErrorKind::Unauthenticated(AuthFailure::InvalidToken) => 4,
        ErrorKind::Unauthenticated(AuthFailure::InvalidPassword) => 5,
        ErrorKind::Unauthenticated(AuthFailure::InactiveAccount) => 6,
        ErrorKind::Unauthenticated(AuthFailure::InvalidVerifier) => 7,
        ErrorKind::MissingScopes(_) => 8,
        ErrorKind::MissingRole(_) => 9,
        ErrorKind::Forbidden => 10,
        ErrorKind::EmailNotVerified => 11,
        ErrorKind::OrganizationSuspended => 12,
        ErrorKind::PlanLimit { .. } => 13,
        ErrorKind::NotFound => 14,
        ErrorKind::MethodNotAllowed => 15,
        ErrorKind::Conflict => 16,
        ErrorKind::Gone => 17,
        ErrorKind::EmailTaken => 18,
        ErrorKind::IdempotencyKeyReused => 19,
        ErrorKind::IdempotencyKeyInUse => 20,
        ErrorKind::TooLarge => 21,
        ErrorKind::UnsupportedMediaType => 22,
        ErrorKind::RateLimited => 23,
        ErrorKind::QuotaExceeded { .. } => 24,
        ErrorKind::Internal => 25,
        ErrorKind::Upstream => 26,
        ErrorKind::Unavailable => 27,
        ErrorKind::Unauthenticated(AuthFailure::InvalidClient) => 28,
        ErrorKind::Oauth(OauthFailure::InvalidGrant) => 29,
        ErrorKind::Oauth(OauthFailure::UnauthorizedClient) => 30,
        ErrorKind::Oauth(OauthFailure::UnsupportedGrantType) => 31,
        ErrorKind::Oauth(OauthFailure::InvalidScope) => 32,
        ErrorKind::Oauth(OauthFailure::InvalidTarget) => 33,
        ErrorKind::Oauth(OauthFailure::InvalidRedirectUri) => 34,
        ErrorKind::Oauth(OauthFailure::InvalidClientMetadata) => 35,
        ErrorKind::Oauth(OauthFailure::AuthorizationPending) => 36,
        ErrorKind::Oauth(OauthFailure::SlowDown) => 37,
        ErrorKind::Oauth(OauthFailure::ExpiredToken) => 38,
        ErrorKind::Oauth(OauthFailure::AccessDenied) => 39,
        ErrorKind::SsoSessionScoped => 40,
        ErrorKind::SsoNotConfigured => 41,
        ErrorKind::DomainTaken => 42,
        ErrorKind::DomainRecordNotFound => 43,
    }
}

/// A path of each family that no other route uses.
fn path_of(family: Family) -> &'static str {
    match family {
        Family::Onboarding => "/me/failures",
        Family::Account => "/auth/failures",
        Family::User => "/api/user/failures",
        Family::Organization => "/v1/organization/failures",
        Family::Operator => "/v1/admin/failures",
        Family::Verification => "/v1/verify/failures",
        Family::OAuth => "/oauth2/failures",
        Family::Other => "/failures",
    }
}

/// The server with routes that return the error with the index in their path.
fn failing_router(app: &TestApp) -> Router {
    let fail = |Path(at): Path<usize>| async move { all_errors().swap_remove(at) };
    let routes = Family::ALL.into_iter().fold(Router::new(), |routes, family| {
        routes.route(&format!("{}/{{at}}", path_of(family)), get(fail))
    });
    tenantry::http::with_middleware(&app.app, RouteTable::default(), routes)
}

#[tokio::test]
async fn every_kind_of_error_is_rendered_in_every_family() {
    run(async |app| {
        let actor = app.client_for(failing_router(app)).with("x-request-id", "request-of-a-test");
        let mut rendered = String::new();
        for family in Family::ALL {
            for at in 0..all_errors().len() {
                let response = actor.get(&format!("{}/{at}", path_of(family))).await;
                assert_eq!(Family::from_path(&format!("{}/{at}", path_of(family))), family);
                assert!(!response.text.contains("hunter2") && !response.text.contains("10.0.0.7"));
                writeln!(rendered, "{} {}", family.as_str(), response.status.as_u16()).unwrap();
                for name in ["content-type", "www-authenticate", "retry-after"] {
                    if !response.header(name).is_empty() {
                        writeln!(rendered, "  {name}: {}", response.header(name)).unwrap();
                    }
                }
                writeln!(rendered, "  {}", response.text).unwrap();
            }
        }
        insta::assert_snapshot!(rendered);
    })
    .await;
}

#[test]
fn every_path_belongs_to_the_documented_family() {
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
        ("/v1/verify", Family::Verification),
        ("/v1/verify/envoy/any/path", Family::Verification),
        ("/v1/verifying", Family::Other),
        ("/oauth2/introspect", Family::OAuth),
        ("/oauth2", Family::OAuth),
        ("/device", Family::OAuth),
        ("/device/", Family::Other),
        ("/devices", Family::Other),
        ("/oauth", Family::Other),
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
