//! `GET /v1/admin/audit-log` and `/export`: an organization's trail, for its own key.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys;
use crate::error::{Error, Result};
use crate::http::auth::{AuditRead, Scoped};
use crate::http::edge::context::RequestContext;
use crate::http::operator::wire::ResponseMeta;
use crate::http::query::Query;
use crate::http::render::operator::key_errors::{
    BadRequest, Forbidden, Unauthorized, Unavailable, Unprocessable,
};
use crate::http::wire::Timestamp;
use crate::model::ValidationError as Refused;
use crate::model::audit::{AuditEventFilter, EventType, RecordedEvent};
use crate::model::caller::Caller;
use crate::model::ids::OrganizationId;
use crate::model::timestamp;
use crate::repo::audit_events;

/// How many events there are where nothing else is asked for, and at most.
const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 500;
/// How many events of an export are in memory at once.
const EXPORT_BATCH: i64 = 500;

/// One row of the trail.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Event)]
pub struct AuditLogEntry {
    /// Its place in the trail.
    #[schema(examples(42))]
    id: i64,
    timestamp: Timestamp,
    #[schema(examples("api_key.created"))]
    event_type: String,
    /// The 8 characters of the key that did it; empty where it was none.
    #[schema(examples("a1b2c3d4"))]
    api_key_prefix: String,
    #[schema(examples("/v1/organization/api-keys"))]
    path: String,
    #[schema(examples("POST"))]
    method: String,
    /// What the request was answered with; 0 where it was none of HTTP's.
    #[schema(examples(201))]
    status: u16,
    request_id: String,
    /// What changed: the text of a JSON object.
    #[schema(examples(r#"{"name":"ci"}"#))]
    detail: String,
    /// The same, as the object.
    #[schema(value_type = Object)]
    detail_object: serde_json::Value,
}

impl From<RecordedEvent> for AuditLogEntry {
    fn from(event: RecordedEvent) -> Self {
        Self {
            id: event.id,
            timestamp: Timestamp(event.created_at),
            event_type: event.event_type,
            api_key_prefix: event.key_display_id.unwrap_or_default(),
            path: event.path,
            method: event.method,
            status: event.status.unwrap_or_default(),
            request_id: event.request_id,
            detail: event.detail.to_string(),
            detail_object: event.detail,
        }
    }
}

/// What was asked for.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::EventFilters)]
pub struct EventFilters {
    #[schema(required)]
    event_type: Option<&'static str>,
    #[schema(required)]
    since: Option<Timestamp>,
    #[schema(required)]
    until: Option<Timestamp>,
    #[schema(examples(100))]
    limit: i64,
}

/// A part of the trail, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Events)]
pub struct AuditLogResponse {
    events: Vec<AuditLogEntry>,
    /// How many are in this answer.
    count: usize,
    filters: EventFilters,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// Show the newest rows of the organization's trail.
#[utoipa::path(get, path = "/v1/admin/audit-log", operation_id = "listAdminAuditLog",
    tag = "operator",
    params(("event_type" = Option<String>, Query, description = "Only events of this type."),
           ("since" = Option<String>, Query, description = "Only events from this time on."),
           ("until" = Option<String>, Query, description = "Only events before this time."),
           ("limit" = Option<i64>, Query, description = "1 to 500; 100 where left out.")),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The newest that match.", body = AuditLogResponse),
              BadRequest,
              Unauthorized, Forbidden, Unprocessable, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    Scoped(caller, _): Scoped<AuditRead>,
    context: RequestContext,
    mut query: Query,
) -> Result<Json<AuditLogResponse>> {
    let filter = parse_filter(&mut query);
    let limit = query.optional("limit", parse_limit).unwrap_or(DEFAULT_LIMIT);
    query.finish()?;
    let organization = caller.organization;
    let found = list_events(&app, organization, &filter, None, limit).await?;
    let events: Vec<_> = found.into_iter().map(AuditLogEntry::from).collect();
    let filters = EventFilters {
        event_type: filter.event_type.map(EventType::as_str),
        since: filter.since.map(Timestamp),
        until: filter.until.map(Timestamp),
        limit,
    };
    let stamp = ResponseMeta::from(&context);
    Ok(Json(AuditLogResponse { count: events.len(), events, filters, stamp }))
}

/// Read all of the organization's trail that matches, newest first, one JSON object a line.
///
/// An answer that breaks off was cut short by a failure: it has no end.
#[utoipa::path(get, path = "/v1/admin/audit-log/export", operation_id = "exportAdminAuditLog",
    tag = "operator",
    params(("event_type" = Option<String>, Query, description = "Only events of this type."),
           ("since" = Option<String>, Query, description = "Only events from this time on."),
           ("until" = Option<String>, Query, description = "Only events before this time.")),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The events, as in the list, one a line.",
               body = String, content_type = "application/x-ndjson"),
              BadRequest, Unauthorized, Forbidden, Unprocessable, Unavailable))]
pub(super) async fn export(
    State(app): State<App>,
    Scoped(caller, _): Scoped<AuditRead>,
    context: RequestContext,
    mut query: Query,
) -> Result<Response> {
    let filter = parse_filter(&mut query);
    query.finish()?;
    // The first part is read before the answer begins, so that a failure can still be told.
    let first = list_events(&app, caller.organization, &filter, None, EXPORT_BATCH).await?;
    let asking = Arc::new((app, caller, context, filter));
    let parts = stream::try_unfold(Some(first), move |part| {
        let asking = Arc::clone(&asking);
        async move {
            let Some(part) = part else { return Ok(None) };
            let next = next_batch(&asking, &part).await?;
            Ok::<_, Error>(Some((to_ndjson(part)?, next)))
        }
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(parts)).into_response())
}

/// The part after this one; `None` where this is the last. Whoever asks is confirmed again: an
/// export does not outlive its key, however slowly it is read.
async fn next_batch(
    (app, caller, context, filter): &(App, Arc<Caller>, RequestContext, AuditEventFilter),
    part: &[RecordedEvent],
) -> Result<Option<Vec<RecordedEvent>>> {
    let is_full = i64::try_from(part.len()).is_ok_and(|length| length == EXPORT_BATCH);
    let Some(last) = part.last().filter(|_| is_full) else { return Ok(None) };
    let (organization, audit) = (caller.organization, context.audit_context());
    let next = app.db.tenant_transaction(organization, async |tx| {
        keys::confirm_caller(tx, caller, &audit).await?.authorize("audit:read")?;
        audit_events::list(tx, organization, filter, Some(last.id), EXPORT_BATCH).await
    });
    let next = next.await;
    let next = next.inspect_err(|error| {
        tracing::error!(cause = %error.cause(), "an export was cut short");
    });
    next.map(Some)
}

fn to_ndjson(part: Vec<RecordedEvent>) -> Result<Bytes> {
    let mut text = Vec::new();
    for event in part {
        serde_json::to_writer(&mut text, &AuditLogEntry::from(event)).map_err(Error::internal)?;
        text.push(b'\n');
    }
    Ok(text.into())
}

async fn list_events(
    app: &App,
    organization: OrganizationId,
    filter: &AuditEventFilter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<RecordedEvent>> {
    let read = async |db: &mut _| audit_events::list(db, organization, filter, after, limit).await;
    app.db.tenant_transaction(organization, read).await
}

fn parse_filter(query: &mut Query) -> AuditEventFilter {
    AuditEventFilter {
        event_type: query.choice("event_type", EventType::parse, EventType::words),
        since: query.optional("since", timestamp::parse),
        until: query.optional("until", timestamp::parse),
    }
}

fn parse_limit(text: &str) -> Result<i64, Refused> {
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| format!("must be a number from 1 to {MAX_LIMIT}").into())
}
