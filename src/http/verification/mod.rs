//! The `verification` family (VERIFY): the operator's own API, and the proxies in front of it,
//! check customers' credentials. JSON routes follow the conventions of the `organization` family;
//! proxy routes answer with a status and headers.

mod checks;
mod proxies;
mod requirements;
mod revocations;
mod verifier;
mod wire;

use axum::handler::Handler;
use axum::routing::{MethodRouter, any};
use utoipa_axum::routes;

use crate::app::App;
use crate::http::edge::context::RequestContext;
use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind};
use crate::model::audit::AuditContext;

pub use self::verifier::LocalVerifier;

/// The family's routes. A proxy route accepts any method, since proxies pass on the client's.
#[must_use]
pub fn routes() -> FamilyRoutes {
    FamilyRoutes::new(Family::Verification, AcceptedCredentials::Verifiers)
        .route(RouteKind::CHECK, routes!(checks::verify))
        .route(RouteKind::CHECK, routes!(checks::verify_batch))
        .route(revocations::KIND, routes!(revocations::list))
        .route(RouteKind::PROXY_CHECK, routes!(proxies::forward))
        .undescribed(RouteKind::PROXY_CHECK, "/v1/verify/forward", other_methods(proxies::forward))
        .route(RouteKind::PROXY_CHECK, routes!(proxies::nginx))
        .undescribed(RouteKind::PROXY_CHECK, "/v1/verify/nginx", other_methods(proxies::nginx))
        .route(RouteKind::PROXY_CHECK, routes!(proxies::envoy))
        .undescribed(RouteKind::PROXY_CHECK, "/v1/verify/envoy", other_methods(proxies::envoy))
        .undescribed(RouteKind::PROXY_CHECK, "/v1/verify/envoy/", any(proxies::envoy))
        .undescribed(RouteKind::PROXY_CHECK, "/v1/verify/envoy/{*path}", any(proxies::envoy))
}

/// Every method but GET and HEAD, which the described route has.
fn other_methods<H: Handler<T, App>, T: 'static>(handler: H) -> MethodRouter<App> {
    MethodRouter::new().fallback(handler)
}

/// Returns the audit context of a check: with the route's pattern, since the rest of the path may
/// be the client's, and could contain a key.
fn check_audit_context(context: &RequestContext) -> AuditContext {
    AuditContext { path: context.route.clone(), ..context.audit_context() }
}
