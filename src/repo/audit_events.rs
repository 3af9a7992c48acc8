//! The trail: rows are added here, in the transaction of the change, and never changed.

use sqlx::PgConnection;

use crate::error::Result;
use crate::model::audit::AuditEvent;

/// Adds one row.
///
/// # Errors
/// The database's own.
pub async fn insert(db: &mut PgConnection, event: &AuditEvent<'_>) -> Result<()> {
    sqlx::query!(
        "insert into audit_events (organization_id, event_type, actor, target, method, path,
                                   address, request_id, key_display_id, detail, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        event.organization.0,
        event.event_type.as_str(),
        event.actor,
        event.target,
        event.trail.method,
        event.trail.path,
        event.trail.address,
        event.trail.request_id,
        event.key_display_id,
        event.detail,
        event.trail.at,
    )
    .execute(db)
    .await?;
    Ok(())
}
