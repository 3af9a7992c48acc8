//! The `oauth` family (OAUTH §3.1): the authorization endpoint and its pages. Errors are those of
//! the RFCs, and unknown parameters are ignored. While OAuth is off, none of the routes exists.

mod authorize;
mod browser_cookie;
mod consent;
mod guard;
mod responses;
mod sign_in_page;

use utoipa_axum::routes;

use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind, Routes};
use crate::model::ValidationError;

/// The path of the page for signing in.
const SIGN_IN_PATH: &str = "/oauth2/sign-in";
/// Its parameter with which it is shown to a person who is signed in already.
const SWITCH_PARAMETER: &str = "switch";
/// The path of the page that asks for consent.
const CONSENT_PATH: &str = "/oauth2/consent";

/// Parses any text of a query.
#[expect(clippy::unnecessary_wraps, reason = "the signature of a parser")]
fn parse_text(text: &str) -> Result<String, ValidationError> {
    Ok(text.to_owned())
}

/// The family's routes.
#[must_use]
pub fn routes() -> Routes {
    let pages = FamilyRoutes::new(Family::OAuth, AcceptedCredentials::None)
        .route(RouteKind::READ, routes!(authorize::authorize))
        .route(RouteKind::WRITE, routes!(authorize::authorize_by_post))
        .route(RouteKind::READ, routes!(sign_in_page::show_page))
        .route(RouteKind::READ, routes!(consent::show_page));
    let in_session = FamilyRoutes::new(Family::OAuth, AcceptedCredentials::Sessions)
        .route(RouteKind::WRITE, routes!(consent::answer));
    Routes::from(pages).merge(in_session)
}
