//! Keys that were minted elsewhere and go on working here.

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::NewApiKey;
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::ids::{KeyId, new_request_id};
use crate::model::key_format::{IMPORTED_PREFIX, imported_text};
use crate::model::key_name::KeyName;
use crate::model::metadata::Metadata;
use crate::model::org_handle::OrgHandle;
use crate::model::scope::ScopeSet;
use crate::repo::{audit_events, keys, users};

/// A key that was minted elsewhere.
pub struct ImportedKey {
    /// Whose it is.
    pub organization: OrgHandle,
    /// The SHA-256 of its text.
    pub sha256: [u8; 32],
    /// Its label.
    pub name: Option<KeyName>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When it ends; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Stores keys in one transaction, for the owners of their organizations.
///
/// # Errors
/// Not found where an organization is not there, conflict where a key or a name is.
pub async fn import(app: &App, imported: Vec<ImportedKey>) -> Result<()> {
    let trail = Trail {
        method: "-".to_owned(),
        path: "key import".to_owned(),
        address: None,
        request_id: new_request_id(&*app.entropy),
        at: app.clock.now(),
    };
    app.db
        .transaction(async |tx| {
            for key in &imported {
                let handle = key.organization.as_str();
                let owner = users::find_owner(tx, &key.organization).await?;
                let (organization, user) = owner.ok_or_else(|| {
                    Error::not_found(format!("there is no organization {handle}"))
                })?;
                let text = imported_text(&key.sha256);
                let (digest, pepper_id) = app.peppers.digest(&text);
                let id = KeyId::new(trail.at, &*app.entropy);
                let new = NewApiKey {
                    id,
                    organization,
                    user,
                    digest,
                    pepper_id,
                    prefix: IMPORTED_PREFIX,
                    // Of the hash, not of the key: that may not be known.
                    display_id: &text["sha256:".len()..][..8],
                    name: key.name.as_ref(),
                    scopes: &key.scopes,
                    created_at: trail.at,
                    expires_at: key.expires_at,
                    allowed_ips: &AllowedIps::default(),
                    metadata: &Metadata::default(),
                    enabled: true,
                    rotated_from: None,
                };
                keys::insert(tx, &new).await?;
                let event = AuditEvent {
                    organization,
                    event_type: EventType::KeyImported,
                    actor: "operator",
                    target: &id.to_string(),
                    key_display_id: None,
                    detail: json!({ "scopes": key.scopes.to_stored() }),
                    trail: &trail,
                };
                audit_events::insert(tx, &event).await?;
            }
            Ok(())
        })
        .await
}
