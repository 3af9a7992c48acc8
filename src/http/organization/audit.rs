//! `GET /v1/organization/audit-log`: the organization's audit log.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Result;
use crate::http::auth::{AuditRead, Scoped};
use crate::http::cursor_page::CursorPage;
use crate::http::edge::context::RequestContext;
use crate::http::organization::wire::CursorList;
use crate::http::query::Query;
use crate::http::render::organization::{BadRequest, Forbidden, Unauthorized, Unavailable};
use crate::http::wire::Timestamp;
use crate::model::audit::{AuditEventFilter, AuditEventType, RecordedAuditEvent};
use crate::model::cursor::PagedList;
use crate::model::ids::event_id;
use crate::model::timestamp;
use crate::repo::audit_events;

/// An event of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::AuditEvent)]
pub struct AuditLogEntry {
    #[schema(examples("evt_00000000042"))]
    id: String,
    #[schema(examples("audit_event"))]
    object: &'static str,
    #[schema(examples("api_key.created"))]
    event_type: String,
    /// Who caused it: the id of a membership, a key or an account, or a name such as `stripe` or
    /// `master:ORG_SUSPEND`.
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    actor: String,
    /// What it affected: an id.
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pb"))]
    target: String,
    /// The client's address.
    #[schema(required, examples("203.0.113.9"))]
    address: Option<String>,
    request_id: String,
    /// Details of the event, such as the changed fields.
    #[schema(value_type = Object)]
    detail: serde_json::Value,
    created_at: Timestamp,
}

impl From<RecordedAuditEvent> for AuditLogEntry {
    fn from(event: RecordedAuditEvent) -> Self {
        Self {
            id: event_id(event.id),
            object: "audit_event",
            event_type: event.event_type,
            actor: event.actor,
            target: event.target,
            address: event.address,
            request_id: event.request_id,
            detail: event.detail,
            created_at: Timestamp(event.created_at),
        }
    }
}

/// List the events of the organization's audit log, newest first.
#[utoipa::path(get, path = "/v1/organization/audit-log", operation_id = "listAuditEvents",
    tag = "organization",
    params(("event_type" = Option<String>, Query, description = "Only events of this type."),
           ("since" = Option<String>, Query, description = "Only events from this time on."),
           ("until" = Option<String>, Query, description = "Only events before this time."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("cursor" = Option<String>, Query, description = "The previous page's `cursor`.")),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of audit events.",
              body = CursorList<AuditLogEntry>),
              BadRequest, Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    Scoped(caller, _): Scoped<AuditRead>,
    context: RequestContext,
    mut query: Query,
) -> Result<Json<CursorList<AuditLogEntry>>> {
    let filter = AuditEventFilter {
        event_type: query.choice("event_type", AuditEventType::parse, AuditEventType::wire_names),
        since: query.optional("since", timestamp::parse),
        until: query.optional("until", timestamp::parse),
    };
    let organization = caller.organization;
    let page = CursorPage::from_query(&mut query, &app, PagedList::AuditEvents, organization.0);
    query.finish()?;
    let position = |event: &RecordedAuditEvent| u128::from(event.id.unsigned_abs());
    let (rows, cursor) = page
        .read(&app, position, async |db, after, limit| {
            let after = after.and_then(|after| i64::try_from(after).ok());
            audit_events::list(db, organization, &filter, after, limit).await
        })
        .await?;
    let events = rows.into_iter().map(AuditLogEntry::from).collect();
    Ok(Json(CursorList::new(events, cursor, &context.id)))
}
