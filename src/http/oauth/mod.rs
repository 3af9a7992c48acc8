//! The `oauth` family: the authorization server. It follows the RFCs: requests are forms, unknown
//! parameters are ignored, and errors have a code and a description. While OAuth is off, none of
//! the routes exists.

mod authorize;
mod client_authentication;
mod client_documents;
mod consent;
mod device;
mod device_authorization;
pub mod metadata;
mod registration;
mod responses;
mod revocation;
mod sign_in_page;
mod token;
mod userinfo;

pub use client_authentication::{ClientAuthentication, authenticate as authenticate_client};

use axum::Router;
use axum::routing::get;
use utoipa_axum::routes;

use crate::app::App;
use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind, Routes};
use crate::model::ValidationError;

/// The path of the page for signing in.
const SIGN_IN_PATH: &str = "/oauth2/sign-in";
/// The parameter that shows the page even to a person who is signed in.
const SWITCH_PARAMETER: &str = "switch";
/// The path of the page that asks for consent.
const CONSENT_PATH: &str = "/oauth2/consent";

/// The path of the page on which a person types a device's code and answers its request.
const DEVICE_PATH: &str = "/device";
/// The parameter with the code.
const USER_CODE_PARAMETER: &str = "user_code";
/// The grant type of the device flow (RFC 8628 §3.4).
const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Accepts any text as the value of a query parameter.
#[expect(clippy::unnecessary_wraps, reason = "the signature of a parser")]
fn parse_text(text: &str) -> Result<String, ValidationError> {
    Ok(text.to_owned())
}

/// Returns the family's routes, except introspection.
#[must_use]
pub fn routes() -> Routes {
    let pages = FamilyRoutes::new(Family::OAuth, AcceptedCredentials::None)
        .route(RouteKind::READ, routes!(authorize::authorize))
        .route(RouteKind::WRITE, routes!(authorize::authorize_by_post))
        .route(RouteKind::READ, routes!(sign_in_page::show_page))
        .route(RouteKind::READ, routes!(consent::show_page))
        .route(RouteKind::READ, routes!(device::show_page));
    let in_session = FamilyRoutes::new(Family::OAuth, AcceptedCredentials::Sessions)
        .route(RouteKind::WRITE, routes!(consent::answer))
        .route(RouteKind::WRITE, routes!(device::claim))
        .route(RouteKind::WRITE, routes!(device::approve))
        .route(RouteKind::WRITE, routes!(device::deny));
    let for_clients = FamilyRoutes::new(Family::OAuth, AcceptedCredentials::None)
        .route(
            RouteKind::WRITE.open_to_all_origins(),
            routes!(device_authorization::authorize_device),
        )
        .route(RouteKind::WRITE.open_to_all_origins(), routes!(token::issue))
        .route(RouteKind::DELETE.open_to_all_origins(), routes!(revocation::revoke))
        .route(RouteKind::WRITE.open_to_all_origins(), routes!(registration::register))
        .route(RouteKind::READ.open_to_all_origins(), routes!(registration::show))
        .route(RouteKind::WRITE.open_to_all_origins(), routes!(registration::update))
        .route(RouteKind::DELETE.open_to_all_origins(), routes!(registration::delete));
    let for_tokens = FamilyRoutes::new(Family::OAuth, AcceptedCredentials::OauthTokens)
        .route(RouteKind::READ.open_to_all_origins(), routes!(userinfo::show))
        .route(RouteKind::READ_BY_POST.open_to_all_origins(), routes!(userinfo::show_by_post));
    Routes::from(pages).merge(in_session).merge(for_clients).merge(for_tokens)
}

/// Returns the routes of the documents that clients read first.
pub fn document_routes() -> Router<App> {
    Router::new()
        .route("/.well-known/oauth-authorization-server", get(metadata::authorization_server))
        .route("/.well-known/openid-configuration", get(metadata::openid_provider))
        .route("/.well-known/oauth-protected-resource", get(metadata::protected_resource))
}
