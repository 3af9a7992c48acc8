//! The `operator` family (contract §5): the operator's workers make organizations and step in where
//! they have to, each route with a master key of its own; and an organization's key looks after
//! itself. Bare objects with `request_id` and `timestamp`.

#![expect(clippy::struct_field_names, reason = "the contract's names")]

mod audit_log;
mod billing;
mod change;
pub mod dialect;
mod forced;
mod idempotency;
mod org_create;
mod own_key;
mod standing;
mod usage;
mod wire;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The family's routes.
#[must_use]
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(org_create::create))
        .routes(routes!(forced::rotate))
        .routes(routes!(forced::revoke))
        .routes(routes!(standing::suspend))
        .routes(routes!(standing::reactivate))
        .routes(routes!(usage::show))
        .routes(routes!(billing::suspend))
        .routes(routes!(billing::rotate))
        .routes(routes!(billing::change_plan))
        .routes(routes!(own_key::rotate))
        .routes(routes!(own_key::revoke))
        .routes(routes!(audit_log::list))
        .routes(routes!(audit_log::export))
}
