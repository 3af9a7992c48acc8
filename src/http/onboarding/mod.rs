//! The `onboarding` family: a script signs up without an account and manages its keys. Responses
//! are bare objects in `snake_case`.

pub mod keys;
pub mod me;
pub mod signup;
pub mod tokens;
pub mod usage;
mod wire;

use utoipa_axum::routes;

use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind};

/// Returns the family's routes.
#[must_use]
pub fn routes() -> FamilyRoutes {
    FamilyRoutes::new(Family::Onboarding, AcceptedCredentials::Any)
        .route(RouteKind::WRITE, routes!(signup::sign_up))
        .route(RouteKind::WRITE, routes!(tokens::exchange))
        .route(RouteKind::WRITE, routes!(tokens::refresh))
        .route(RouteKind::CHECK, routes!(tokens::verify))
        .route(RouteKind::CHECK, routes!(me::show))
        .route(RouteKind::READ, routes!(keys::list))
        .route(RouteKind::WRITE, routes!(keys::create))
        .route(RouteKind::DELETE.quota_exempt(), routes!(keys::revoke))
        .route(RouteKind::READ.quota_exempt(), routes!(usage::today))
        .route(RouteKind::READ.quota_exempt(), routes!(usage::summary))
}
