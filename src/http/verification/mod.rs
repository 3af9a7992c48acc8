//! The `verification` family (VERIFY): the operator's own API, and the proxies in front of it,
//! check customers' credentials. JSON routes follow the conventions of the `organization` family;
//! proxy routes answer with a status and headers.

mod checks;
mod proxies;
mod requirements;
mod verifier;
mod wire;

use axum::routing::{MethodRouter, any, delete};
use utoipa_axum::routes;

use crate::app::App;
use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind};

pub use self::verifier::LocalVerifier;

/// The family's routes. A proxy route accepts any method, since proxies pass on the client's.
#[must_use]
pub fn routes() -> FamilyRoutes {
    FamilyRoutes::new(Family::Verification, AcceptedCredentials::Verifiers)
        .route(RouteKind::CHECK, routes!(checks::verify))
        .route(RouteKind::CHECK, routes!(checks::verify_batch))
        .route(RouteKind::CHECK, routes!(proxies::forward))
        .undescribed(RouteKind::CHECK, "/v1/verify/forward", other_methods(proxies::forward))
        .route(RouteKind::CHECK, routes!(proxies::nginx))
        .undescribed(RouteKind::CHECK, "/v1/verify/nginx", other_methods(proxies::nginx))
        .route(RouteKind::CHECK, routes!(proxies::envoy))
        .undescribed(RouteKind::CHECK, "/v1/verify/envoy", other_methods(proxies::envoy))
        .undescribed(RouteKind::CHECK, "/v1/verify/envoy/{*path}", any(proxies::envoy))
}

/// Every standard method but GET and HEAD, which the described route has.
fn other_methods<H, T>(handler: H) -> MethodRouter<App>
where
    H: axum::handler::Handler<T, App>,
    T: 'static,
{
    delete(handler.clone())
        .options(handler.clone())
        .patch(handler.clone())
        .post(handler.clone())
        .put(handler.clone())
        .trace(handler.clone())
        .connect(handler)
}
