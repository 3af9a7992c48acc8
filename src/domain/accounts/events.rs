//! Audit events of an account.

use sqlx::PgConnection;

use crate::error::Result;
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::ids::AccountId;
use crate::repo::{accounts, audit_events};

/// Records an event of an account in the audit log of its home organization. If that was deleted or
/// the account has left it, the audit log of the deployment is used.
pub async fn record_account_event(
    tx: &mut PgConnection,
    account: AccountId,
    event_type: AuditEventType,
    target: &str,
    detail: serde_json::Value,
    audit: &AuditContext,
) -> Result<()> {
    let event = NewAuditEvent {
        organization: accounts::find_audit_organization(tx, account).await?,
        event_type,
        actor: &account.to_string(),
        target,
        key_display_id: None,
        detail,
        audit,
    };
    audit_events::insert(tx, &event).await
}
