//! `/usage/…`: the number of requests of the organization.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Result;
use crate::http::auth::Authenticated;
use crate::http::edge::context::RequestContext;
use crate::http::query::Query;
use crate::http::render::onboarding::{
    BadRequest, Forbidden, Unauthorized, Unavailable, Unprocessable,
};
use crate::http::wire::Timestamp;
use crate::model::caller::Caller;
use crate::model::usage::Period;
use crate::repo;

/// The usage in a period.
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::Usage)]
pub struct Usage {
    /// The usage before this request: requests with keys and tokens that were not rejected with
    /// 429, checks by verifiers, and reported usage.
    #[schema(examples(42))]
    requests_used: u64,
    /// How many requests the plan allows in the period; null means no limit.
    #[schema(required, examples(100_000))]
    requests_limit: Option<u64>,
    /// `day_utc` or `month_utc`
    #[schema(examples("month_utc"))]
    period: &'static str,
    period_start: Timestamp,
    /// The end of the period, exclusive.
    period_end: Timestamp,
    /// The same as `period_start`.
    start: Timestamp,
    /// The same as `period_end`.
    end: Timestamp,
}

/// Show the number of requests today (UTC). Plans have no daily limit.
#[utoipa::path(get, path = "/usage/today", operation_id = "getUsageToday", tag = "onboarding",
    security(("api_key" = []), ("bearer" = []), ("session" = [])),
    responses((status = 200, description = "Today's requests.", body = Usage), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn today(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    context: RequestContext,
) -> Result<Json<Usage>> {
    read_usage(&app, &caller, "day_utc", Period::day_of(context.received_at), None).await
}

/// Show the number of requests in a calendar month (UTC).
#[utoipa::path(get, path = "/usage/summary", operation_id = "getUsageSummary", tag = "onboarding",
    params(("month" = Option<String>, Query, description = "`YYYY-MM`. Default: this month.",
            example = "2026-05")),
    security(("api_key" = []), ("bearer" = []), ("session" = [])),
    responses((status = 200, description = "The month's requests.", body = Usage), BadRequest,
              Unauthorized, Forbidden, Unprocessable, Unavailable))]
pub(super) async fn summary(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    context: RequestContext,
    mut query: Query,
) -> Result<Json<Usage>> {
    let month = query.optional("month", Period::parse_month);
    query.finish()?;
    let period = month.unwrap_or_else(|| Period::month_of(context.received_at));
    let limit = app.config.plans.of(caller.plan).requests_per_month;
    read_usage(&app, &caller, "month_utc", period, limit).await
}

/// Returns the usage in a period. It includes this server's latest requests; those of other servers
/// may be 10 seconds behind.
async fn read_usage(
    app: &App,
    caller: &Caller,
    name: &'static str,
    period: Period,
    limit: Option<u64>,
) -> Result<Json<Usage>> {
    app.meter.flush_and_log().await;
    let requests_used = app.db.tenant_transaction(caller.organization, async |db| {
        repo::usage::sum_requests(db, caller.organization, period).await
    });
    Ok(Json(Usage {
        requests_used: requests_used.await?,
        requests_limit: limit,
        period: name,
        period_start: Timestamp::start_of(period.start),
        period_end: Timestamp::start_of(period.end),
        start: Timestamp::start_of(period.start),
        end: Timestamp::start_of(period.end),
    }))
}
