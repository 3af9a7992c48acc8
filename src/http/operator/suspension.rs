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

/// That an organization is suspended.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Suspended)]
pub struct SuspendedOrganization {
    suspended: bool,
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    /// Since when; a second time changes nothing.
    suspended_at: Timestamp,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

impl SuspendedOrganization {
    /// What is told of the organization `org_id`.
    pub fn new(org_id: String, since: DateTime<Utc>, context: &RequestContext) -> Self {
        let suspended_at = Timestamp(since);
        Self { suspended: true, org_id, suspended_at, stamp: ResponseMeta::from(context) }
    }
}

/// Suspend an organization: its keys, and its people's sessions and tokens there, are refused (403)
/// from now on.
///
/// Its keys survive, and work again once it is reactivated.
#[utoipa::path(post, path = "/v1/admin/org/{id}/suspend", operation_id = "suspendOrganization",
    tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "It is suspended.", body = SuspendedOrganization),
              BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn suspend(
    State(app): State<App>,
    change: OrganizationChange<OrgSuspend, Confirmation>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, on, context| {
            let (standing, since) = status::suspend(tx, &on.handle, &on.actor, &on.audit).await?;
            Ok(SuspendedOrganization::new(standing.handle, since, context))
        })
        .await
}

/// That an organization is active again.
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

/// Reactivate a suspended organization: the keys that it had work again.
#[utoipa::path(post, path = "/v1/admin/org/{id}/reactivate",
    operation_id = "reactivateOrganization", tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "It is active.", body = ReactivatedOrganization),
              BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn reactivate(
    State(app): State<App>,
    change: OrganizationChange<OrgSuspend, Confirmation>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, on, context| {
            let standing = status::reactivate(tx, &on.handle, &on.actor, &on.audit).await?;
            Ok(ReactivatedOrganization {
                reactivated: true,
                org_id: standing.handle,
                reactivated_at: Timestamp(context.received_at),
                stamp: ResponseMeta::from(context),
            })
        })
        .await
}
