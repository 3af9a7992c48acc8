//! The `operator` family: the operator creates, updates and suspends organizations, with a separate
//! master key for each kind of change; and an organization key manages itself. Responses are bare
//! objects with `request_id` and `timestamp`.

mod apps;
mod audit_log;
mod billing;
mod create_organization;
mod forced_key_changes;
mod idempotency;
mod organization_change;
mod own_key;
mod settings;
mod suspension;
mod usage;
mod wire;

use utoipa_axum::routes;

use crate::http::family::{AcceptedCredentials, Family, FamilyRoutes, RouteKind, Routes};

/// Returns the family's routes.
#[must_use]
pub fn routes() -> Routes {
    Routes::default().merge(master_key_routes()).merge(own_key_routes())
}

fn master_key_routes() -> FamilyRoutes {
    FamilyRoutes::new(Family::Operator, AcceptedCredentials::MasterKeys)
        .route(RouteKind::WRITE, routes!(create_organization::create))
        .route(RouteKind::WRITE, routes!(forced_key_changes::rotate))
        .route(RouteKind::WRITE, routes!(forced_key_changes::revoke))
        .route(RouteKind::WRITE, routes!(suspension::suspend))
        .route(RouteKind::WRITE, routes!(suspension::reactivate))
        .route(RouteKind::READ, routes!(usage::show))
        .route(RouteKind::READ, routes!(settings::show))
        .route(RouteKind::READ, routes!(settings::find))
        .route(RouteKind::WRITE, routes!(settings::update))
        .route(RouteKind::WRITE, routes!(billing::suspend))
        .route(RouteKind::WRITE, routes!(billing::rotate))
        .route(RouteKind::WRITE, routes!(billing::change_plan))
        .route(RouteKind::READ, routes!(apps::list))
        .route(RouteKind::WRITE, routes!(apps::publish))
        .route(RouteKind::WRITE, routes!(apps::disable))
        .route(RouteKind::WRITE, routes!(apps::enable))
}

/// Returns the routes that an organization's own key calls.
fn own_key_routes() -> FamilyRoutes {
    FamilyRoutes::new(Family::Operator, AcceptedCredentials::OrganizationKeys)
        .route(RouteKind::WRITE, routes!(own_key::rotate))
        .route(RouteKind::WRITE.quota_exempt(), routes!(own_key::revoke))
        .route(RouteKind::READ, routes!(audit_log::list))
        .route(RouteKind::READ, routes!(audit_log::export))
}
