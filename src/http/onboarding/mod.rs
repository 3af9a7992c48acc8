//! The `onboarding` family (contract §2): a script signs up without an account and manages its
//! keys. Responses are bare objects in `snake_case`.

pub mod dialect;
pub mod keys;
pub mod me;
pub mod signup;
pub mod tokens;
pub mod usage;
mod wire;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The family's routes.
#[must_use]
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(signup::sign_up))
        .routes(routes!(tokens::exchange))
        .routes(routes!(tokens::refresh))
        .routes(routes!(tokens::verify))
        .routes(routes!(me::show))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(usage::today))
        .routes(routes!(usage::summary))
}
