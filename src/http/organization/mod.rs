//! The `organization` family: an organization's automation manages its keys. Responses are objects
//! with `object` and `request_id`.

mod audit;
mod identity;
mod key_changes;
mod keys;
mod rejections;
mod usage;
mod wire;

use utoipa_axum::routes;

use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind};

/// Returns the family's routes.
#[must_use]
pub fn routes() -> FamilyRoutes {
    FamilyRoutes::new(Family::Organization, AcceptedCredentials::AllButSessions)
        .route(RouteKind::READ, routes!(keys::list))
        .route(RouteKind::WRITE, routes!(keys::create))
        .route(RouteKind::READ, routes!(keys::show))
        .route(RouteKind::WRITE, routes!(key_changes::update))
        .route(RouteKind::DELETE.quota_exempt(), routes!(key_changes::revoke))
        .route(RouteKind::WRITE, routes!(key_changes::rotate))
        .route(RouteKind::CHECK, routes!(identity::show))
        .route(RouteKind::READ.quota_exempt(), routes!(usage::show))
        .route(RouteKind::READ, routes!(audit::list))
        .route(RouteKind::READ.quota_exempt(), routes!(rejections::list))
}
