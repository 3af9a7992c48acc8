//! `POST /v1/usage/events` reports usage after the fact, and `GET /v1/usage/export` exports all
//! usage for billing.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::verification::usage_events::{UsageReport, record};
use crate::error::{Error, Issue, Location, Result};
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, text};
use crate::http::edge::context::RequestContext;
use crate::http::query::Query;
use crate::http::render::verification::{
    BadRequest, NotFound, TooLarge, Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::http::verification::verifier::JsonVerifier;
use crate::http::verification::wire::visible;
use crate::model::attribution::{
    Attribution, ExportPosition, ExportedUsage, MAX_RESOURCE_CHARS, Tags, UsageEvent, UsageOwner,
};
use crate::model::timestamp;
use crate::repo::usage_hourly;

/// The most events of one request.
const MAX_EVENTS: usize = 1000;
/// The most units of one event.
const MAX_UNITS: i32 = 1_000_000;
/// The longest source and id of an event, in characters.
const MAX_ID_CHARS: usize = 128;
/// How many sums one statement of an export reads.
const EXPORT_BATCH: i64 = 1000;

/// Usage that was not counted by a check.
#[derive(ToSchema)]
#[schema(as = verification::UsageEvents)]
pub struct UsageEventsRequest {
    /// 1 to 1,000 events, at most 1 MiB.
    #[schema(value_type = Vec<UsageEventRequest>, min_items = 1, max_items = 1000)]
    events: Vec<UsageEventRequest>,
}

impl FromFields for UsageEventsRequest {
    const MAX_BODY_BYTES: usize = 1024 * 1024;

    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { events: fields.required_objects("events", 1..=MAX_EVENTS)? })
    }
}

/// An event of usage: of a key, or of an organization.
#[derive(ToSchema)]
#[schema(as = verification::UsageEvent, examples(json!({
    "id": "job_1042", "source": "reports", "time": "2026-11-29T10:15:00Z",
    "key_id": "key_01JZ3VQ0Xb1cT4yW8mK2pa", "units": 25, "resource": "POST /reports",
})))]
pub struct UsageEventRequest {
    /// An id, unique within the source: an event that is sent again is counted once.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    id: String,
    /// What reports it, such as the name of a service.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    source: String,
    /// When the units were used: at most 24 hours ago, and at most 5 minutes ahead.
    #[schema(value_type = String, format = DateTime)]
    time: DateTime<Utc>,
    /// The key that used the units.
    #[schema(value_type = Option<String>)]
    key_id: Option<String>,
    /// The organization that used the units, if no key did.
    #[schema(value_type = Option<String>)]
    organization_id: Option<String>,
    /// How many units were used.
    #[schema(value_type = i32, minimum = 1, maximum = 1_000_000)]
    units: i32,
    /// The template of the route.
    #[schema(value_type = Option<String>, max_length = 128)]
    resource: Option<String>,
    /// What else the usage is attributed to: at most 8 of `name=value`.
    #[schema(value_type = Option<Vec<String>>, max_items = 8)]
    tags: Option<Tags>,
}

impl FromFields for UsageEventRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.required("id", text(|it| visible(it, MAX_ID_CHARS)));
        let source = fields.required("source", text(|it| visible(it, MAX_ID_CHARS)));
        let time = fields.required("time", text(timestamp::parse));
        let key_id = fields.optional("key_id", JsonNode::into_string);
        let organization_id = fields.optional("organization_id", JsonNode::into_string);
        let units = fields.required("units", |node| node.into_integer(1..=MAX_UNITS));
        let resource = fields.optional("resource", text(|it| visible(it, MAX_RESOURCE_CHARS)));
        let tags = fields.optional("tags", |node| Tags::parse(&node.into_strings()?));
        Some(Self {
            id: id?,
            source: source?,
            time: time?,
            key_id,
            organization_id,
            units: units?,
            resource,
            tags,
        })
    }
}

impl From<UsageEventRequest> for UsageEvent {
    fn from(event: UsageEventRequest) -> Self {
        let owner = match (event.key_id, event.organization_id) {
            (Some(key), None) => UsageOwner::Key(key),
            (None, Some(organization)) => UsageOwner::Organization(organization),
            (Some(_), Some(_)) => UsageOwner::Both,
            (None, None) => UsageOwner::Neither,
        };
        let resource = event.resource.unwrap_or_default();
        let attribution = Attribution { resource, tags: event.tags.unwrap_or_default() };
        let (source, id, time) = (event.source, event.id, event.time);
        Self { source, id, time, owner, units: event.units.into(), attribution }
    }
}

/// What became of the events.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::UsageReceipt)]
pub struct UsageReceipt {
    #[schema(examples("usage_receipt"))]
    object: &'static str,
    /// How many were counted.
    #[schema(examples(1))]
    accepted: usize,
    /// How many had been counted before.
    #[schema(examples(0))]
    duplicates: usize,
    /// The events that were not counted, and why.
    rejected: Vec<RejectedEvent>,
    request_id: String,
}

/// An event that was not counted.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::RejectedEvent)]
pub struct RejectedEvent {
    /// Its position in the list, from 0.
    #[schema(examples(3))]
    index: usize,
    /// `time_too_old`, `time_in_future`, `key_unknown`, `organization_unknown`, `both_ids` or
    /// `id_missing`.
    #[schema(examples("key_unknown"))]
    code: &'static str,
}

/// Report usage that no check has counted, such as that of a job that a request started.
///
/// Each event adds its units to the usage of its organization, and so to the monthly quota. It
/// takes no credits. Events are remembered for 32 days by `source` and `id`, and counted once.
#[utoipa::path(post, path = "/v1/usage/events", operation_id = "reportUsage",
    tag = "verification", request_body = UsageEventsRequest,
    security(("verifier" = []), ("verifier_bearer" = [])),
    responses((status = 200, description = "What became of the events.", body = UsageReceipt),
              BadRequest, Unauthorized, NotFound, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn report(
    State(app): State<App>,
    _verifier: JsonVerifier,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<UsageEventsRequest>,
) -> Result<Json<UsageReceipt>> {
    let events: Vec<UsageEvent> = request.events.into_iter().map(UsageEvent::from).collect();
    let UsageReport { accepted, duplicates, rejected } =
        record(&app, &events, context.received_at).await?;
    let rejected = rejected.into_iter().map(|(index, code)| RejectedEvent { index, code });
    Ok(Json(UsageReceipt {
        object: "usage_receipt",
        accepted,
        duplicates,
        rejected: rejected.collect(),
        request_id: context.id.clone(),
    }))
}

/// Export the usage of all organizations by hour, key, resource and tags.
///
/// The response contains one event in the JSON format of `CloudEvents` per line. The `id` of a sum
/// stays the same, so that an hour that is exported again replaces what was read before. Sums are
/// at most 10 seconds behind. If the export fails midway, the response ends incomplete, which
/// clients report as a transfer error.
#[utoipa::path(get, path = "/v1/usage/export", operation_id = "exportUsage",
    tag = "verification",
    params(("since" = Option<String>, Query,
            description = "Only hours that begin at or after this time. Default: 24 hours before \
                           `until`."),
           ("until" = Option<String>, Query,
            description = "Only hours that begin before this time. Default: now.")),
    security(("verifier" = []), ("verifier_bearer" = [])),
    responses((status = 200, description = "The sums, one event per line, oldest first.",
               body = String, content_type = "application/x-ndjson"),
              BadRequest, Unauthorized, NotFound, Unavailable))]
pub(super) async fn export(
    State(app): State<App>,
    _verifier: JsonVerifier,
    context: RequestContext,
    mut query: Query,
) -> Result<Response> {
    let until = query.optional("until", timestamp::parse).unwrap_or(context.received_at);
    let since = query.optional("since", timestamp::parse);
    query.finish()?;
    let since = since.unwrap_or(until - TimeDelta::hours(24));
    if since > until {
        let issue = Issue::field("since", "must not be after until");
        return Err(Error::invalid(vec![issue.with_location(Location::Query)]));
    }
    app.meter.flush_and_log().await;
    // The first batch is read before the response starts, so that a failure still gets an error
    // status.
    let first = list(&app, (since, until), None).await?;
    let app = Arc::new(app);
    let batches = stream::try_unfold(Some(first), move |batch| {
        let app = Arc::clone(&app);
        async move {
            let Some(batch) = batch else { return Ok(None) };
            let next = next_batch(&app, (since, until), &batch).await?;
            Ok::<_, Error>(Some((to_ndjson(&app, batch)?, next)))
        }
    });
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from_stream(batches)).into_response())
}

type Range = (DateTime<Utc>, DateTime<Utc>);

async fn list(
    app: &App,
    range: Range,
    after: Option<&ExportPosition>,
) -> Result<Vec<ExportedUsage>> {
    let listing = async |db: &mut _| usage_hourly::list(db, range, after, EXPORT_BATCH).await;
    app.db.run(listing).await
}

/// Returns the batch after `batch`; `None` if that was the last one.
async fn next_batch(
    app: &App,
    range: Range,
    batch: &[ExportedUsage],
) -> Result<Option<Vec<ExportedUsage>>> {
    let is_full = i64::try_from(batch.len()).is_ok_and(|length| length == EXPORT_BATCH);
    let Some(last) = batch.last().filter(|_| is_full) else { return Ok(None) };
    let next = list(app, range, Some(&last.position)).await;
    next.map(Some).inspect_err(|error| {
        tracing::error!(cause = %error.cause(), "usage export failed midway");
    })
}

fn to_ndjson(app: &App, batch: Vec<ExportedUsage>) -> Result<Bytes> {
    let mut text = Vec::new();
    for usage in batch {
        serde_json::to_writer(&mut text, &cloud_event(app, usage)).map_err(Error::internal)?;
        text.push(b'\n');
    }
    Ok(text.into())
}

/// Describes a sum in the JSON format of `CloudEvents` 1.0.
fn cloud_event(app: &App, usage: ExportedUsage) -> serde_json::Value {
    let ExportPosition { hour, key, resource, tags, .. } = usage.position;
    let key = key.map(|key| key.to_string());
    let attribution = hex::encode(&Sha256::digest(format!("{resource}\0{tags}"))[..8]);
    let hour = timestamp::format(hour);
    let tags: Vec<&str> = tags.split(',').filter(|tag| !tag.is_empty()).collect();
    json!({
        "specversion": "1.0",
        "id": format!("{}/{hour}/{}/{attribution}", usage.handle, key.as_deref().unwrap_or("-")),
        "source": app.config.http.public_url.as_str(),
        "type": "tenantry.usage.hour",
        "subject": usage.handle,
        "time": hour,
        "datacontenttype": "application/json",
        "data": {
            "organization_id": usage.handle,
            "organization_external_id": usage.organization_external_id,
            "key_id": key,
            "key_external_id": usage.key_external_id,
            "resource": Some(resource).filter(|it| !it.is_empty()),
            "tags": tags,
            "units": usage.units,
        },
    })
}
