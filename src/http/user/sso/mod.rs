//! `/api/user/organizations/{organizationId}/sso`, and signing in with single sign-on.

mod callback;
mod connection_attributes;
mod connection_changes;
mod connections;
mod domains;
mod pages;
mod sign_in;

use utoipa_axum::routes;

use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind};

/// Adds the routes of an organization's connections and domains.
#[must_use]
pub(super) fn add_routes(routes: FamilyRoutes) -> FamilyRoutes {
    routes
        .route(RouteKind::READ, routes!(connections::list))
        .route(RouteKind::WRITE, routes!(connections::create))
        .route(RouteKind::READ, routes!(connections::show))
        .route(RouteKind::WRITE, routes!(connection_changes::update))
        .route(RouteKind::DELETE, routes!(connection_changes::delete))
        .route(RouteKind::WRITE, routes!(connection_changes::activate))
        .route(RouteKind::WRITE, routes!(connection_changes::disable))
        .route(RouteKind::READ, routes!(domains::list))
        .route(RouteKind::WRITE, routes!(domains::add))
        .route(domains::VERIFY, routes!(domains::verify))
        .route(RouteKind::DELETE, routes!(domains::delete))
}

/// Returns the routes of a browser in which no one is signed in yet.
#[must_use]
pub(super) fn browser_routes() -> FamilyRoutes {
    FamilyRoutes::new(Family::User, AcceptedCredentials::None)
        .route(RouteKind::READ_BY_POST, routes!(sign_in::identify))
        .route(RouteKind::WRITE, routes!(sign_in::sign_in))
        .route(RouteKind::READ, routes!(sign_in::start))
        .route(RouteKind::READ, routes!(callback::complete))
        .route(RouteKind::READ, routes!(callback::show_error))
}
