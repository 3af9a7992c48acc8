//! `POST /v1/admin/billing/org/{id}/suspend`, `/rotate` and `/plan`: what the billing worker does.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::{provisioning, standing};
use crate::error::Result;
use crate::http::body::{Fields, FromFields};
use crate::http::caller::{BillingPlan, BillingRotate, BillingSuspend};
use crate::http::operator::change::{AboutOrganization, Change};
use crate::http::operator::dialect::{
    BadRequest, Conflict, Invalid, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::operator::forced::Rotated;
use crate::http::operator::idempotency::RequiredHeader;
use crate::http::operator::standing::Suspended;
use crate::http::operator::wire::{Empty, Stamp};
use crate::model::plan::Plan;

/// Suspend an organization that does not pay.
#[utoipa::path(post, path = "/v1/admin/billing/org/{id}/suspend",
    operation_id = "suspendOrganizationForBilling", tag = "operator",
    request_body(content = Option<Empty>, description = "May be left out."),
    params(("id" = String, Path, description = "The organization's id."), RequiredHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "It is suspended.", body = Suspended), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Invalid,
              RateLimited, Unavailable))]
pub(super) async fn suspend(
    State(app): State<App>,
    change: Change<BillingSuspend, Empty>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, on, context| {
            let (standing, since) = standing::suspend(tx, &on.handle, &on.by, &on.trail).await?;
            Ok(Suspended::new(standing.handle, since, context))
        })
        .await
}

/// Give an organization that pays again a new key, end every other one, and reactivate it where it
/// was suspended for want of payment: by `BILLING_SUSPEND` or by Stripe's events.
///
/// What `ORG_SUSPEND` or the command line suspended stays suspended.
#[utoipa::path(post, path = "/v1/admin/billing/org/{id}/rotate",
    operation_id = "rotateKeysForBilling", tag = "operator",
    request_body(content = Option<Empty>, description = "May be left out."),
    params(("id" = String, Path, description = "The organization's id."), RequiredHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "The new key.", body = Rotated), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Invalid,
              RateLimited, Unavailable))]
pub(super) async fn rotate(
    State(app): State<App>,
    change: Change<BillingRotate, Empty>,
) -> Result<Response> {
    change
        .run_showing(&app, async |tx, _, on, context| {
            let (handle, by, trail) = (&on.handle, on.by.as_str(), &on.trail);
            let rotated = provisioning::force_rotate(&app, tx, handle, by, trail).await?;
            // What support suspended is not lifted by a payment (contract §5).
            if rotated.standing.is_suspended_for_billing() {
                standing::end_suspension(tx, &rotated.standing, by, trail).await?;
            }
            Ok(Rotated::reply(rotated, context))
        })
        .await
}

/// The plan to be.
#[derive(ToSchema)]
#[schema(as = operator::ChangePlanRequest)]
pub struct PlanRequest {
    /// `trial`, `starter`, `standard`, `pro`, `scale` or `enterprise`; the organization that a
    /// person's account was made with takes neither `standard` nor `enterprise`.
    #[schema(value_type = String, examples("pro"))]
    tier: Plan,
}

impl FromFields for PlanRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let tier = fields.required_choice("tier", &Plan::ALL);
        Some(Self { tier: tier? })
    }
}

impl AboutOrganization for PlanRequest {}

/// What an organization pays for now, and did before.
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
    stamp: Stamp,
}

/// Move an organization to another plan, whose limits hold from its next request on.
#[utoipa::path(post, path = "/v1/admin/billing/org/{id}/plan", operation_id = "changePlan",
    tag = "operator", request_body = PlanRequest,
    params(("id" = String, Path, description = "The organization's id."), RequiredHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "Moved.", body = ChangedPlan), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Invalid,
              RateLimited, Unavailable))]
pub(super) async fn change_plan(
    State(app): State<App>,
    change: Change<BillingPlan, PlanRequest>,
) -> Result<Response> {
    change
        .run(&app, async |tx, request, on, context| {
            let (handle, by, trail) = (&on.handle, on.by.as_str(), &on.trail);
            let before = standing::change_plan(tx, handle, request.tier, by, trail).await?;
            Ok(ChangedPlan {
                org_id: before.handle,
                tier: request.tier.as_str(),
                previous_tier: before.plan.as_str(),
                stamp: Stamp::from(context),
            })
        })
        .await
}
