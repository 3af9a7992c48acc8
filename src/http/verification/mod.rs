//! The `verification` family: the operator's own API, and the proxies in front of it, check
//! customers' credentials. JSON routes follow the conventions of the `organization` family; proxy
//! routes respond with a status and headers; introspection is a route of OAuth.

mod checks;
mod identity_headers;
mod introspection;
mod proxies;
mod requirements;
mod revocations;
mod tokens;
mod usage;
mod verdict;
mod verifier;
mod wire;

use axum::handler::Handler;
use axum::routing::{MethodRouter, any};
use utoipa_axum::routes;

use crate::app::App;
use crate::http::edge::context::RequestContext;
use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind, Routes};
use crate::model::audit::AuditContext;

pub use self::verifier::LocalVerifier;

/// Returns the family's routes. A proxy route accepts any method: proxies pass on the client's.
#[must_use]
pub fn routes() -> Routes {
    let introspection = FamilyRoutes::new(Family::OAuth, AcceptedCredentials::Verifiers)
        .route(RouteKind::CHECK, routes!(introspection::introspect));
    let checks = FamilyRoutes::new(Family::Verification, AcceptedCredentials::Verifiers)
        .route(RouteKind::CHECK, routes!(checks::verify))
        .route(RouteKind::CHECK, routes!(checks::verify_batch))
        .route(RouteKind::CHECK, routes!(tokens::issue_token))
        .route(revocations::KIND, routes!(revocations::list))
        .route(RouteKind::CHECK, routes!(usage::report))
        .route(RouteKind::CHECK, routes!(usage::export))
        .route(RouteKind::PROXY_CHECK, routes!(proxies::forward))
        .undescribed(RouteKind::PROXY_CHECK, "/v1/verify/forward", other_methods(proxies::forward))
        .route(RouteKind::PROXY_CHECK, routes!(proxies::nginx))
        .undescribed(RouteKind::PROXY_CHECK, "/v1/verify/nginx", other_methods(proxies::nginx))
        .route(RouteKind::PROXY_CHECK, routes!(proxies::envoy))
        .undescribed(RouteKind::PROXY_CHECK, "/v1/verify/envoy", other_methods(proxies::envoy))
        .undescribed(RouteKind::PROXY_CHECK, "/v1/verify/envoy/", any(proxies::envoy))
        .undescribed(RouteKind::PROXY_CHECK, "/v1/verify/envoy/{*path}", any(proxies::envoy));
    Routes::from(checks).merge(introspection)
}

/// Returns a route for all methods except GET and HEAD, which the described route has.
fn other_methods<H: Handler<T, App>, T: 'static>(handler: H) -> MethodRouter<App> {
    MethodRouter::new().fallback(handler)
}

/// Returns the audit context of a check: with the route's pattern, since the rest of the path may
/// be the client's, and could contain a key.
fn check_audit_context(context: &RequestContext) -> AuditContext {
    AuditContext { path: context.route.clone(), ..context.audit_context() }
}
