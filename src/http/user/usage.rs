//! `GET /api/user/organizations/{organizationId}/usage`: this month's usage, by day and by key.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Result;
use crate::http::auth::{OrganizationScoped, UsageRead};
use crate::http::edge::context::RequestContext;
use crate::http::render::user::{BadRequest, Forbidden, Unauthorized, Unavailable};
use crate::http::user::responses::Success;
use crate::http::wire::Timestamp;
use crate::model::usage::{DayUsage, KeyUsage, Period};
use crate::repo;

/// The maximum number of keys in a response.
const MAX_KEYS: i64 = 100;

/// The organization's usage of this month.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Usage)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The start of the month (UTC).
    period_start: Timestamp,
    /// The end of the month, exclusive.
    period_end: Timestamp,
    requests: Requests,
    /// The days with requests, oldest first.
    daily: Vec<DailyUsage>,
    /// The keys and personal access tokens that were used, most used first, at most 100.
    keys: Vec<UsedKey>,
}

/// The requests of the month.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Requests)]
pub struct Requests {
    #[schema(examples(42))]
    used: u64,
    /// How many requests the plan allows; null means no limit.
    #[schema(required, examples(100_000))]
    limit: Option<u64>,
}

/// The requests of one day.
#[derive(Serialize, ToSchema)]
#[schema(as = user::DailyUsage)]
pub struct DailyUsage {
    /// The day (UTC).
    #[schema(format = Date, examples("2026-05-08"))]
    day: String,
    /// Requests with a valid credential, except those that were rejected with 429.
    #[schema(examples(42))]
    requests: u64,
    /// Requests that were rejected: those with 403, which `requests` includes, and those with 429,
    /// which it does not.
    #[schema(examples(1))]
    denied: u64,
}

impl From<DayUsage> for DailyUsage {
    fn from(used: DayUsage) -> Self {
        let day = used.day.format("%Y-%m-%d").to_string();
        Self { day, requests: used.requests, denied: used.rejected }
    }
}

/// A key that was used.
#[derive(Serialize, ToSchema)]
#[schema(as = user::UsedKey)]
#[serde(rename_all = "camelCase")]
pub struct UsedKey {
    /// The id of an organization key or a personal access token.
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    /// The label of the key; always null for a personal access token.
    #[schema(required, examples("Analytics Dashboard"))]
    name: Option<String>,
    /// Requests with the key in this organization.
    #[schema(examples(42))]
    requests: u64,
    /// When it was last used; null for a personal access token that is not pinned to this
    /// organization.
    #[schema(required)]
    last_used_at: Option<Timestamp>,
}

impl From<KeyUsage> for UsedKey {
    fn from(used: KeyUsage) -> Self {
        Self {
            id: used.key.to_string(),
            name: used.name,
            requests: used.requests,
            last_used_at: used.last_used_at.map(Timestamp),
        }
    }
}

/// Show this month's requests (UTC), by day and by key, and how many the plan allows.
///
/// Requests in a session are not counted.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/usage",
    operation_id = "getDashboardUsage", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The usage.", body = Success<Usage>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<UsageRead>,
    context: RequestContext,
) -> Result<Json<Success<Usage>>> {
    let (organization, period) = (caller.organization, Period::month_of(context.received_at));
    app.meter.flush_and_log().await;
    let (days, keys) = app
        .db
        .tenant_transaction(caller.organization, async |db| {
            let days = repo::usage::list_by_day(db, organization, period).await?;
            let keys = repo::usage::list_by_key(db, organization, period, MAX_KEYS).await?;
            Ok((days, keys))
        })
        .await?;
    let used = days.iter().map(|day| day.requests).sum();
    let usage = Usage {
        period_start: Timestamp::start_of(period.start),
        period_end: Timestamp::start_of(period.end),
        requests: Requests { used, limit: app.config.plans.of(caller.plan).requests_per_month },
        daily: days.into_iter().map(DailyUsage::from).collect(),
        keys: keys.into_iter().map(UsedKey::from).collect(),
    };
    Ok(Json(Success::ok("Usage fetched", usage)))
}
