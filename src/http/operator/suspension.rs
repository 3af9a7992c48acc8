//! `POST /v1/admin/org/{id}/suspend` and `/reactivate`.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::organizations::status;
use crate::error::Result;
use crate::http::auth::OrgSuspend;
use crate::http::edge::context::RequestContext;
use crate::http::operator::idempotency::RequiredIdempotencyHeader;
use crate::http::operator::organization_change::OrganizationChange;
use crate::http::operator::wire::{Confirmation, ResponseMeta};
use crate::http::render::operator::{
    BadRequest, Conflict, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable,
    Unprocessable, UnsupportedMediaType,
};
use crate::http::wire::Timestamp;

/// Confirms that the organization is suspended.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Suspended)]
pub struct SuspendedOrganization {
    suspended: bool,
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    /// Since when it is suspended. Suspending it again does not change this.
    suspended_at: Timestamp,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

impl SuspendedOrganization {
    /// Describes the suspension of the organization `org_id`.
    pub fn new(org_id: String, since: DateTime<Utc>, context: &RequestContext) -> Self {
        let suspended_at = Timestamp(since);
        Self { suspended: true, org_id, suspended_at, stamp: ResponseMeta::from(context) }
    }
}

/// Suspend an organization.
///
/// From the next request on, its keys are rejected with 403, and so are its members' sessions and
/// tokens in this organization. The keys are not revoked: they work again after a reactivation.
#[utoipa::path(post, path = "/v1/admin/org/{id}/suspend", operation_id = "suspendOrganization",
    tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "Suspended.", body = SuspendedOrganization),
              BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn suspend(
    State(app): State<App>,
    change: OrganizationChange<OrgSuspend, Confirmation>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, change, context| {
            let (organization, since) =
                status::suspend(tx, &change.handle, change.actor, &change.audit).await?;
            Ok(SuspendedOrganization::new(organization.handle, since, context))
        })
        .await
}

/// Confirms that the organization is active.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Reactivated)]
pub struct ReactivatedOrganization {
    reactivated: bool,
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    reactivated_at: Timestamp,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// Reactivate a suspended organization. The keys that were valid before work again.
#[utoipa::path(post, path = "/v1/admin/org/{id}/reactivate",
    operation_id = "reactivateOrganization", tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "Reactivated.", body = ReactivatedOrganization),
              BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn reactivate(
    State(app): State<App>,
    change: OrganizationChange<OrgSuspend, Confirmation>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, change, context| {
            let organization =
                status::reactivate(tx, &change.handle, change.actor, &change.audit).await?;
            Ok(ReactivatedOrganization {
                reactivated: true,
                org_id: organization.handle,
                reactivated_at: Timestamp(context.received_at),
                stamp: ResponseMeta::from(context),
            })
        })
        .await
}
