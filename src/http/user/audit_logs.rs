//! `GET /api/user/organizations/{organizationId}/audit-logs`: the organization's audit log.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Result;
use crate::http::auth::{AuditRead, OrganizationScoped};
use crate::http::query::Query;
use crate::http::render::user::{BadRequest, Forbidden, Unauthorized, Unavailable};
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::OffsetList;
use crate::http::wire::Timestamp;
use crate::model::audit::{AuditEventFilter, AuditEventType, RecordedAuditEvent};
use crate::model::ids::event_id;
use crate::model::timestamp;
use crate::repo::audit_events;

/// An event of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = user::AuditEvent)]
#[serde(rename_all = "camelCase")]
pub struct AuditLogEntry {
    #[schema(examples("evt_00000000042"))]
    id: String,
    #[schema(examples("api_key.created"))]
    event_type: String,
    /// Who caused it: the id of a membership, a key or an account, or a name such as `stripe` or
    /// `master:ORG_SUSPEND`.
    #[schema(examples("user_4fTq0kXyT1hJc8ZB"))]
    actor: String,
    /// What it affected: an id.
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    target: String,
    /// The client's address.
    #[schema(required, examples("203.0.113.9"))]
    ip_address: Option<String>,
    #[schema(examples("req_4fTq0kXyT1hJc8ZB"))]
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
            event_type: event.event_type,
            actor: event.actor,
            target: event.target,
            ip_address: event.address,
            request_id: event.request_id,
            detail: event.detail,
            created_at: Timestamp(event.created_at),
        }
    }
}

/// List the events of the organization's audit log, newest first.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/audit-logs",
    operation_id = "listAuditLogs", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("eventType" = Option<String>, Query, description = "Only events of this type."),
           ("since" = Option<String>, Query, description = "Only events at or after this time."),
           ("until" = Option<String>, Query, description = "Only events before this time."),
           ("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query,
            description = "Text that the type, the actor or the target must contain.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The events.", body = OffsetList<AuditLogEntry>),
              BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<AuditRead>,
    mut query: Query,
) -> Result<Json<OffsetList<AuditLogEntry>>> {
    let filter = AuditEventFilter {
        event_type: query.choice("eventType", AuditEventType::parse, AuditEventType::wire_names),
        since: query.optional("since", timestamp::parse),
        until: query.optional("until", timestamp::parse),
    };
    let page = OffsetPage::from_query(&mut query);
    query.finish()?;
    let organization = caller.organization;
    page.respond(
        &app,
        organization,
        ("Audit logs fetched", AuditLogEntry::from),
        async |db, search, window| {
            audit_events::list_page(db, organization, &filter, search, window).await
        },
    )
    .await
}
