//! The `account` family: sign-up and sign-in for a dashboard front end. Responses are `{data}` and
//! `{error}`.

mod api_key;
mod me;
mod sign_in;
mod wire;

use utoipa_axum::routes;

use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind};

/// Returns the family's routes.
#[must_use]
pub fn routes() -> FamilyRoutes {
    FamilyRoutes::new(Family::Account, AcceptedCredentials::Sessions)
        .route(RouteKind::HASH_OR_MAIL, routes!(sign_in::sign_up))
        .route(RouteKind::HASH_OR_MAIL, routes!(sign_in::log_in))
        .route(RouteKind::DELETE, routes!(sign_in::log_out))
        .route(RouteKind::READ, routes!(me::show))
        .route(RouteKind::WRITE, routes!(api_key::regenerate))
}
