//! `POST /v1/admin/org/{id}/suspend` and `/reactivate`.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::standing;
use crate::error::Result;
use crate::http::caller::OrgSuspend;
use crate::http::context::RequestContext;
use crate::http::operator::change::Change;
use crate::http::operator::dialect::{
    BadRequest, Conflict, Invalid, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::operator::idempotency::RequiredHeader;
use crate::http::operator::wire::{Confirmation, Stamp};
use crate::http::wire::Timestamp;

/// That an organization is suspended.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Suspended)]
pub struct Suspended {
    suspended: bool,
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    /// Since when; a second time changes nothing.
    suspended_at: Timestamp,
    #[serde(flatten)]
    stamp: Stamp,
}

impl Suspended {
    /// What is told of the organization `org_id`.
    pub fn new(org_id: String, since: DateTime<Utc>, context: &RequestContext) -> Self {
        let suspended_at = Timestamp(since);
        Self { suspended: true, org_id, suspended_at, stamp: Stamp::from(context) }
    }
}

/// Suspend an organization: its keys, and its people's sessions and tokens there, are refused (403)
/// from now on.
///
/// Its keys survive, and work again once it is reactivated.
#[utoipa::path(post, path = "/v1/admin/org/{id}/suspend", operation_id = "suspendOrganization",
    tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."), RequiredHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "It is suspended.", body = Suspended), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Invalid,
              RateLimited, Unavailable))]
pub(super) async fn suspend(
    State(app): State<App>,
    change: Change<OrgSuspend, Confirmation>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, on, context| {
            let (standing, since) = standing::suspend(tx, &on.handle, &on.by, &on.trail).await?;
            Ok(Suspended::new(standing.handle, since, context))
        })
        .await
}

/// That an organization is active again.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Reactivated)]
pub struct Reactivated {
    reactivated: bool,
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    reactivated_at: Timestamp,
    #[serde(flatten)]
    stamp: Stamp,
}

/// Reactivate a suspended organization: the keys that it had work again.
#[utoipa::path(post, path = "/v1/admin/org/{id}/reactivate",
    operation_id = "reactivateOrganization", tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."), RequiredHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "It is active.", body = Reactivated), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Invalid,
              RateLimited, Unavailable))]
pub(super) async fn reactivate(
    State(app): State<App>,
    change: Change<OrgSuspend, Confirmation>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, on, context| {
            let standing = standing::reactivate(tx, &on.handle, &on.by, &on.trail).await?;
            Ok(Reactivated {
                reactivated: true,
                org_id: standing.handle,
                reactivated_at: Timestamp(context.at),
                stamp: Stamp::from(context),
            })
        })
        .await
}
