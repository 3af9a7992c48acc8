//! `GET /v1/organization/usage`: the usage of the month, and the plan's limits.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Result;
use crate::http::auth::{BillingRead, Scoped};
use crate::http::edge::context::RequestContext;
use crate::http::render::organization::{BadRequest, Forbidden, Unauthorized, Unavailable};
use crate::http::wire::Timestamp;
use crate::model::usage::Period;
use crate::repo;

/// The usage in the current billing period, and the plan's limits.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::Usage)]
pub struct Usage {
    #[schema(examples("usage"))]
    object: &'static str,
    billing_period: BillingPeriod,
    requests: Requests,
    rate_limit: RateLimit,
    request_id: String,
}

/// A calendar month (UTC).
#[derive(Serialize, ToSchema)]
#[schema(as = organization::BillingPeriod)]
pub struct BillingPeriod {
    start: Timestamp,
    /// The end of the month, exclusive.
    end: Timestamp,
}

/// Requests in the period.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::Requests)]
pub struct Requests {
    #[schema(examples(42))]
    used: u64,
    /// How many requests the plan allows; null means no limit.
    #[schema(required, examples(100_000))]
    limit: Option<u64>,
}

/// The plan's rate limit.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::RateLimit)]
pub struct RateLimit {
    /// How many requests the plan allows in a window; null means no limit.
    #[schema(required, examples(600))]
    limit: Option<u64>,
    /// The length of the window, in seconds.
    #[schema(examples(60))]
    window_s: u64,
}

/// Show this month's requests and the plan's limits.
#[utoipa::path(get, path = "/v1/organization/usage", operation_id = "getOrganizationUsage",
    tag = "organization", security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The usage.", body = Usage), BadRequest, Unauthorized,
              Forbidden, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    Scoped(caller, _): Scoped<BillingRead>,
    context: RequestContext,
) -> Result<Json<Usage>> {
    let period = Period::month_of(context.received_at);
    app.meter.flush_and_log().await;
    let used = app.db.tenant_transaction(caller.organization, async |db| {
        repo::usage::sum_requests(db, caller.organization, period).await
    });
    let plan = app.config.plans.of(caller.plan);
    Ok(Json(Usage {
        object: "usage",
        billing_period: BillingPeriod {
            start: Timestamp::start_of(period.start),
            end: Timestamp::start_of(period.end),
        },
        requests: Requests { used: used.await?, limit: plan.requests_per_month },
        rate_limit: RateLimit { limit: plan.requests_per_minute, window_s: 60 },
        request_id: context.id.clone(),
    }))
}
