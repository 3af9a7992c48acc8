//! `POST /v1/admin/billing/org/{id}/suspend`, `/rotate` and `/plan`: changes by the billing worker.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::organizations::provisioning;
use crate::domain::organizations::status;
use crate::error::Result;
use crate::http::auth::{BillingPlan, BillingRotate, BillingSuspend};
use crate::http::body::{Fields, FromFields};
use crate::http::operator::forced_key_changes::ForceRotateResponse;
use crate::http::operator::idempotency::RequiredIdempotencyHeader;
use crate::http::operator::organization_change::{OrganizationChange, OrganizationChangeBody};
use crate::http::operator::suspension::SuspendedOrganization;
use crate::http::operator::wire::{EmptyBody, ResponseMeta};
use crate::http::render::operator::{
    BadRequest, Conflict, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable,
    Unprocessable, UnsupportedMediaType,
};
use crate::model::plan::Plan;

/// Suspend an organization for missing payment.
#[utoipa::path(post, path = "/v1/admin/billing/org/{id}/suspend",
    operation_id = "suspendOrganizationForBilling", tag = "operator",
    request_body(content = Option<EmptyBody>, description = "Optional."),
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "Suspended.", body = SuspendedOrganization),
              BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn suspend(
    State(app): State<App>,
    change: OrganizationChange<BillingSuspend, EmptyBody>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, change, context| {
            let (organization, since) =
                status::suspend(tx, &change.handle, change.actor, &change.audit).await?;
            Ok(SuspendedOrganization::new(organization.handle, since, context))
        })
        .await
}

/// Reactivate an organization after payment: create a new key and revoke all its other keys.
///
/// The organization is reactivated only if it was suspended for missing payment, that is, with the
/// master key `BILLING_SUSPEND` or by an event from Stripe. If it was suspended with `ORG_SUSPEND`
/// or on the command line, it stays suspended.
#[utoipa::path(post, path = "/v1/admin/billing/org/{id}/rotate",
    operation_id = "rotateKeysForBilling", tag = "operator",
    request_body(content = Option<EmptyBody>, description = "Optional."),
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "The new key.", body = ForceRotateResponse), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn rotate(
    State(app): State<App>,
    change: OrganizationChange<BillingRotate, EmptyBody>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, change, context| {
            let (handle, actor, audit) = (&change.handle, change.actor, &change.audit);
            let rotated = provisioning::force_rotate(&app, tx, handle, actor, audit).await?;
            // A payment must not end a suspension that has another reason.
            if rotated.status.is_suspended_for_billing() {
                status::reactivate_locked(tx, &rotated.status, actor, audit).await?;
            }
            Ok(ForceRotateResponse::new(rotated, context))
        })
        .await
}

/// The new plan.
#[derive(ToSchema)]
#[schema(as = operator::ChangePlanRequest)]
pub struct ChangePlanRequest {
    /// `trial`, `starter`, `standard`, `pro`, `scale` or `enterprise`. The home organization of an
    /// account cannot have `standard` or `enterprise`.
    #[schema(value_type = String, examples("pro"))]
    tier: Plan,
}

impl FromFields for ChangePlanRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let tier = fields.required_choice("tier", &Plan::ALL);
        Some(Self { tier: tier? })
    }
}

impl OrganizationChangeBody for ChangePlanRequest {}

/// The new and the previous plan of an organization.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::ChangedPlan)]
pub struct ChangedPlan {
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    #[schema(examples("pro"))]
    tier: &'static str,
    #[schema(examples("starter"))]
    previous_tier: &'static str,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// Change the plan of an organization. Its limits apply from the next request on.
#[utoipa::path(post, path = "/v1/admin/billing/org/{id}/plan", operation_id = "changePlan",
    tag = "operator", request_body = ChangePlanRequest,
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "Changed.", body = ChangedPlan), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn change_plan(
    State(app): State<App>,
    change: OrganizationChange<BillingPlan, ChangePlanRequest>,
) -> Result<Response> {
    change
        .run(&app, async |tx, request, change, context| {
            let (handle, actor, audit) = (&change.handle, change.actor, &change.audit);
            let before = status::change_plan(tx, handle, request.tier, actor, audit).await?;
            Ok(ChangedPlan {
                org_id: before.handle,
                tier: request.tier.as_str(),
                previous_tier: before.plan.as_str(),
                stamp: ResponseMeta::from(context),
            })
        })
        .await
}
