//! The digests that chain the events of an organization's audit log, computed from its rows.

use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::model::ids::OrganizationId;

/// A stored event.
#[expect(missing_docs, reason = "columns of these names")]
pub struct AuditEventRow {
    /// Its id.
    pub id: i64,
    /// The organization in whose audit log it is recorded.
    pub organization: OrganizationId,
    pub event_type: String,
    pub actor: String,
    pub target: String,
    pub method: String,
    pub path: String,
    pub status: Option<i16>,
    pub address: Option<String>,
    pub request_id: String,
    pub key_display_id: Option<String>,
    /// The detail as the database writes it.
    pub detail: String,
    /// Microseconds since 1970; the minimum and the maximum of `i64` stand for the infinities.
    pub created_at: i64,
    /// Its nonce, pepper id and MAC; `None` if it is not signed.
    pub seal: Option<(Uuid, String, [u8; 32])>,
}

/// Returns the digest of a link: over the previous link's digest (zeros for the first link), the
/// position and every column of the event. It equals the result of the database function
/// `audit_digest`.
#[must_use]
pub fn link_digest(previous: [u8; 32], position: i64, event: &AuditEventRow) -> [u8; 32] {
    let quoted = |text: &str| Value::from(text).to_string();
    let or_null = |text: &Option<String>| text.as_deref().map_or("null".to_owned(), quoted);
    let created_at = match event.created_at {
        i64::MAX => "Infinity".to_owned(),
        i64::MIN => "-Infinity".to_owned(),
        micros => micros.to_string(),
    };
    let parts = [
        position.to_string(),
        event.id.to_string(),
        quoted(&event.organization.0.to_string()),
        quoted(&event.event_type),
        quoted(&event.actor),
        quoted(&event.target),
        quoted(&event.method),
        quoted(&event.path),
        or_null(&event.address),
        quoted(&event.request_id),
        or_null(&event.key_display_id),
        event.detail.clone(),
        quoted(&created_at),
        event.status.map_or("null".to_owned(), |status| status.to_string()),
    ];
    let text = format!("[{}]", parts.join(", "));
    Sha256::new().chain_update(previous).chain_update(text).finalize().into()
}
