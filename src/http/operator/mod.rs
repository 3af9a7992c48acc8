//! The `operator` family (contract §5): the operator creates, changes and suspends organizations,
//! with a separate master key for each kind of change; and an organization key manages itself.
//! Responses are bare objects with `request_id` and `timestamp`.

mod audit_log;
mod billing;
mod create_organization;
pub mod dialect;
mod forced_key_changes;
mod idempotency;
mod organization_change;
mod own_key;
mod suspension;
mod usage;
mod wire;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The family's routes.
#[must_use]
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_organization::create))
        .routes(routes!(forced_key_changes::rotate))
        .routes(routes!(forced_key_changes::revoke))
        .routes(routes!(suspension::suspend))
        .routes(routes!(suspension::reactivate))
        .routes(routes!(usage::show))
        .routes(routes!(billing::suspend))
        .routes(routes!(billing::rotate))
        .routes(routes!(billing::change_plan))
        .routes(routes!(own_key::rotate))
        .routes(routes!(own_key::revoke))
        .routes(routes!(audit_log::list))
        .routes(routes!(audit_log::export))
}
