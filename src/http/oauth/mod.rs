//! The `oauth` family: the authorization server (RFC 6749, OAUTH §3.1). It speaks the dialect of
//! those standards: forms, unknown parameters are ignored, errors have a code and a description.

pub mod challenge;
mod client_authentication;
pub mod metadata;
mod revocation;
mod token;

use axum::Router;
use axum::routing::get;
use utoipa_axum::routes;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind, Routes};

/// The family's routes.
#[must_use]
pub fn routes() -> Routes {
    FamilyRoutes::new(Family::OAuth, AcceptedCredentials::None)
        .route(RouteKind::WRITE.open_to_all_origins(), routes!(token::issue))
        .route(RouteKind::DELETE.open_to_all_origins(), routes!(revocation::revoke))
        .into()
}

/// The documents that clients read first.
pub fn document_routes() -> Router<App> {
    Router::new()
        .route("/.well-known/oauth-authorization-server", get(metadata::authorization_server))
        .route("/.well-known/oauth-protected-resource", get(metadata::protected_resource))
}

/// Checks that the authorization server is on.
///
/// # Errors
/// Not found, as for a path without a route.
fn require_on(app: &App) -> Result<()> {
    if app.config.oauth.is_on {
        Ok(())
    } else {
        Err(Error::not_found("No route matches this path"))
    }
}
