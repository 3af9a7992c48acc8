//! `GET /v1/admin/org/{id}/usage`: how much of its plan an organization has used.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::organizations::status;
use crate::error::Result;
use crate::http::auth::{MasterKeyGuard, OrgUsage};
use crate::http::edge::context::RequestContext;
use crate::http::operator::organization_change::parse_organization_id;
use crate::http::operator::wire::ResponseMeta;
use crate::http::path::PathId;
use crate::http::render::operator::{BadRequest, NotFound, RateLimited, Unauthorized, Unavailable};
use crate::http::wire::Timestamp;
use crate::model::usage::Period;
use crate::repo;

/// The utilization ratios that are reported as thresholds, highest first.
const THRESHOLDS: [f64; 3] = [1.0, 0.9, 0.8];

/// How much of its plan an organization has used this month.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Usage)]
pub struct Usage {
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    #[schema(examples("starter"))]
    tier: &'static str,
    /// Whether the organization is active, that is, not suspended.
    active: bool,
    /// Requests this month (UTC).
    #[schema(examples(812_345))]
    interaction_count_current_period: u64,
    period_start: Timestamp,
    /// The end of the period, exclusive.
    period_end: Timestamp,
    /// How many requests the plan allows in a month; null means no limit.
    #[schema(required, examples(1_000_000))]
    tier_limit: Option<u64>,
    /// The used fraction of the limit; null if there is no limit.
    #[schema(required, examples(0.812_345))]
    utilization_ratio: Option<f64>,
    /// The highest of 0.8, 0.9 and 1.0 that the ratio has reached, if any.
    #[schema(required, examples(0.8))]
    threshold_crossed: Option<f64>,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// Show how much of its plan an organization has used this month.
#[utoipa::path(get, path = "/v1/admin/org/{id}/usage", operation_id = "getUsageOfOrganization",
    tag = "operator",
    params(("id" = String, Path, description = "The organization's id.")),
    security(("master_key" = [])),
    responses((status = 200, description = "The usage.", body = Usage), BadRequest, Unauthorized,
              NotFound, RateLimited, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    _operator: MasterKeyGuard<OrgUsage>,
    context: RequestContext,
    PathId(id): PathId,
) -> Result<Json<Usage>> {
    let (handle, period) = (parse_organization_id(&id)?, Period::month_of(context.received_at));
    app.meter.flush_and_log().await;
    let reading = app.db.transaction(async |tx| {
        let organization = status::lock_organization(tx, &handle).await?;
        let used = repo::usage::sum_requests(tx, organization.id, period).await?;
        Ok((organization, used))
    });
    let (organization, used) = reading.await?;
    let limit = app.config.plans.of(organization.plan).requests_per_month;
    let ratio = limit.map(|limit| usage_ratio(used, limit));
    Ok(Json(Usage {
        org_id: organization.handle,
        tier: organization.plan.as_str(),
        active: organization.suspended_at.is_none(),
        interaction_count_current_period: used,
        period_start: Timestamp::start_of(period.start),
        period_end: Timestamp::start_of(period.end),
        tier_limit: limit,
        utilization_ratio: ratio,
        threshold_crossed: ratio
            .and_then(|ratio| THRESHOLDS.into_iter().find(|threshold| ratio >= *threshold)),
        stamp: ResponseMeta::from(&context),
    }))
}

/// Returns the used fraction of a limit. A limit of zero counts as fully used.
#[expect(clippy::cast_precision_loss, reason = "both are far below 2^53")]
fn usage_ratio(used: u64, limit: u64) -> f64 {
    if limit == 0 { 1.0 } else { used as f64 / limit as f64 }
}
