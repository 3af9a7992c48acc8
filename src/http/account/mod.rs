//! The `account` family (contract §3): sign-up and sign-in for a dashboard front end. Responses are
//! `{data}` and `{error}`.

mod api_key;
pub mod dialect;
mod me;
mod sign_in;
mod wire;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The family's routes.
#[must_use]
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sign_in::sign_up))
        .routes(routes!(sign_in::log_in))
        .routes(routes!(sign_in::log_out))
        .routes(routes!(me::show))
        .routes(routes!(api_key::regenerate))
}
