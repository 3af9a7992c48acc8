//! The `organization` family (contract §4): an organization's automation manages its keys.
//! Responses are objects with `object` and `request_id`.

mod audit;
pub mod dialect;
mod identity;
mod key_changes;
mod keys;
mod rejections;
mod usage;
mod wire;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The family's routes.
#[must_use]
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::show, key_changes::update, key_changes::revoke))
        .routes(routes!(key_changes::rotate))
        .routes(routes!(identity::show))
        .routes(routes!(usage::show))
        .routes(routes!(audit::list))
        .routes(routes!(rejections::list))
}
