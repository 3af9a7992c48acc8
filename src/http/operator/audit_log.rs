//! `GET /v1/admin/audit-log` and `/export`: an organization's audit log, for its own key.

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
use crate::model::ValidationError;
use crate::model::audit::{AuditEventFilter, AuditEventType, RecordedAuditEvent};
use crate::model::caller::Caller;
use crate::model::ids::OrganizationId;
use crate::model::scope::BuiltInScope;
use crate::model::timestamp;
use crate::repo::audit_events;

/// The default and the maximum number of events in a response.
const DEFAULT_LIMIT: i64 = 100;
const MAX_LIMIT: i64 = 500;
/// The number of events of an export that are read at a time.
const EXPORT_BATCH: i64 = 500;

/// An event of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Event)]
pub struct AuditLogEntry {
    /// The id of the event. Later events have higher ids.
    #[schema(examples(42))]
    id: i64,
    timestamp: Timestamp,
    #[schema(examples("api_key.created"))]
    event_type: String,
    /// The 8 characters after the prefix of the key that caused the event; empty if no key did.
    #[schema(examples("a1b2c3d4"))]
    api_key_prefix: String,
    #[schema(examples("/v1/organization/api-keys"))]
    path: String,
    #[schema(examples("POST"))]
    method: String,
    /// The HTTP status of the response; 0 if the event was not caused by an HTTP request.
    #[schema(examples(201))]
    status: u16,
    request_id: String,
    /// Details of the event: a JSON object, serialized as a string.
    #[schema(examples(r#"{"name":"ci"}"#))]
    detail: String,
    /// The same as `detail`, as a JSON object.
    #[schema(value_type = Object)]
    detail_object: serde_json::Value,
}

impl From<RecordedAuditEvent> for AuditLogEntry {
    fn from(event: RecordedAuditEvent) -> Self {
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

/// The filters of the request.
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

/// Events of the audit log, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Events)]
pub struct AuditLogResponse {
    events: Vec<AuditLogEntry>,
    /// The number of events in this response.
    count: usize,
    filters: EventFilters,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// List the newest events of the organization's audit log.
#[utoipa::path(get, path = "/v1/admin/audit-log", operation_id = "listAdminAuditLog",
    tag = "operator",
    params(("event_type" = Option<String>, Query, description = "Only events of this type."),
           ("since" = Option<String>, Query, description = "Only events at or after this time."),
           ("until" = Option<String>, Query, description = "Only events before this time."),
           ("limit" = Option<i64>, Query, description = "1 to 500. Default: 100.")),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The matching events.", body = AuditLogResponse),
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
    let rows = list_events(&app, organization, &filter, None, limit).await?;
    let events: Vec<_> = rows.into_iter().map(AuditLogEntry::from).collect();
    let filters = EventFilters {
        event_type: filter.event_type.map(AuditEventType::as_str),
        since: filter.since.map(Timestamp),
        until: filter.until.map(Timestamp),
        limit,
    };
    let stamp = ResponseMeta::from(&context);
    Ok(Json(AuditLogResponse { count: events.len(), events, filters, stamp }))
}

/// Export all matching events of the organization's audit log.
///
/// The response contains one JSON object per line, newest first. If the export fails midway, the
/// response ends incomplete, which clients report as a transfer error.
#[utoipa::path(get, path = "/v1/admin/audit-log/export", operation_id = "exportAdminAuditLog",
    tag = "operator",
    params(("event_type" = Option<String>, Query, description = "Only events of this type."),
           ("since" = Option<String>, Query, description = "Only events at or after this time."),
           ("until" = Option<String>, Query, description = "Only events before this time.")),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The events, as in the list, one per line.",
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
    // The first batch is read before the response starts, so that a failure still gets an error
    // status.
    let first = list_events(&app, caller.organization, &filter, None, EXPORT_BATCH).await?;
    let request = Arc::new((app, caller, context, filter));
    let batches = stream::try_unfold(Some(first), move |batch| {
        let request = Arc::clone(&request);
        async move {
            let Some(batch) = batch else { return Ok(None) };
            let next = next_batch(&request, &batch).await?;
            Ok::<_, Error>(Some((to_ndjson(batch)?, next)))
        }
    });
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from_stream(batches)).into_response())
}

/// Returns the batch after `batch`; `None` if that was the last one. Checks the caller again, so
/// that an export does not outlive its key, however slowly the client reads it.
async fn next_batch(
    (app, caller, context, filter): &(App, Arc<Caller>, RequestContext, AuditEventFilter),
    batch: &[RecordedAuditEvent],
) -> Result<Option<Vec<RecordedAuditEvent>>> {
    let is_full = i64::try_from(batch.len()).is_ok_and(|length| length == EXPORT_BATCH);
    let Some(last) = batch.last().filter(|_| is_full) else { return Ok(None) };
    let (organization, audit) = (caller.organization, context.audit_context());
    let next = app.db.tenant_transaction(organization, async |tx| {
        keys::confirm_caller(tx, caller, &audit).await?.authorize(BuiltInScope::AuditRead)?;
        audit_events::list(tx, organization, filter, Some(last.id), EXPORT_BATCH).await
    });
    let next = next.await;
    let next = next.inspect_err(|error| {
        tracing::error!(cause = %error.cause(), "audit log export failed midway");
    });
    next.map(Some)
}

fn to_ndjson(batch: Vec<RecordedAuditEvent>) -> Result<Bytes> {
    let mut text = Vec::new();
    for event in batch {
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
) -> Result<Vec<RecordedAuditEvent>> {
    let list = async |db: &mut _| audit_events::list(db, organization, filter, after, limit).await;
    app.db.tenant_transaction(organization, list).await
}

fn parse_filter(query: &mut Query) -> AuditEventFilter {
    AuditEventFilter {
        event_type: query.choice("event_type", AuditEventType::parse, AuditEventType::wire_names),
        since: query.optional("since", timestamp::parse),
        until: query.optional("until", timestamp::parse),
    }
}

fn parse_limit(text: &str) -> Result<i64, ValidationError> {
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| format!("must be a number from 1 to {MAX_LIMIT}").into())
}
