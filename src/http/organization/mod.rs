//! The `organization` family (contract §4): an organization's own automation runs its keys. Objects
//! with `object` and `request_id`.

mod audit;
mod changes;
mod denials;
pub mod dialect;
mod identity;
mod keys;
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
        .routes(routes!(keys::show, changes::update, changes::revoke))
        .routes(routes!(changes::rotate))
        .routes(routes!(identity::show))
        .routes(routes!(usage::show))
        .routes(routes!(audit::list))
        .routes(routes!(denials::list))
}
