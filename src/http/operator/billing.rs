//! `POST /v1/admin/billing/org/{id}/suspend`, `/rotate` and `/plan`: what the billing worker does.

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

/// Suspend an organization that does not pay.
#[utoipa::path(post, path = "/v1/admin/billing/org/{id}/suspend",
    operation_id = "suspendOrganizationForBilling", tag = "operator",
    request_body(content = Option<EmptyBody>, description = "May be left out."),
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "It is suspended.", body = SuspendedOrganization),
              BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn suspend(
    State(app): State<App>,
    change: OrganizationChange<BillingSuspend, EmptyBody>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, on, context| {
            let (standing, since) = status::suspend(tx, &on.handle, &on.actor, &on.audit).await?;
            Ok(SuspendedOrganization::new(standing.handle, since, context))
        })
        .await
}

/// Give an organization that pays again a new key, end every other one, and reactivate it where it
/// was suspended for want of payment: by `BILLING_SUSPEND` or by Stripe's events.
///
/// What `ORG_SUSPEND` or the command line suspended stays suspended.
#[utoipa::path(post, path = "/v1/admin/billing/org/{id}/rotate",
    operation_id = "rotateKeysForBilling", tag = "operator",
    request_body(content = Option<EmptyBody>, description = "May be left out."),
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
        .run_with_secret(&app, async |tx, _, on, context| {
            let (handle, by, audit) = (&on.handle, on.actor.as_str(), &on.audit);
            let rotated = provisioning::force_rotate(&app, tx, handle, by, audit).await?;
            // What support suspended is not lifted by a payment (contract §5).
            if rotated.standing.is_suspended_for_billing() {
                status::reactivate_locked(tx, &rotated.standing, by, audit).await?;
            }
            Ok(ForceRotateResponse::response(rotated, context))
        })
        .await
}

/// The plan to be.
#[derive(ToSchema)]
#[schema(as = operator::ChangePlanRequest)]
pub struct ChangePlanRequest {
    /// `trial`, `starter`, `standard`, `pro`, `scale` or `enterprise`; the organization that a
    /// person's account was made with takes neither `standard` nor `enterprise`.
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
    stamp: ResponseMeta,
}

/// Move an organization to another plan, whose limits hold from its next request on.
#[utoipa::path(post, path = "/v1/admin/billing/org/{id}/plan", operation_id = "changePlan",
    tag = "operator", request_body = ChangePlanRequest,
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "Moved.", body = ChangedPlan), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn change_plan(
    State(app): State<App>,
    change: OrganizationChange<BillingPlan, ChangePlanRequest>,
) -> Result<Response> {
    change
        .run(&app, async |tx, request, on, context| {
            let (handle, by, audit) = (&on.handle, on.actor.as_str(), &on.audit);
            let before = status::change_plan(tx, handle, request.tier, by, audit).await?;
            Ok(ChangedPlan {
                org_id: before.handle,
                tier: request.tier.as_str(),
                previous_tier: before.plan.as_str(),
                stamp: ResponseMeta::from(context),
            })
        })
        .await
}
