//! Import of keys that another system created, so that they keep working here.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::NewApiKey;
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::ids::{KeyId, MembershipId, OrganizationId, new_request_id};
use crate::model::key_format::{IMPORTED_PREFIX, imported_text};
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::names::KeyName;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::scope::ScopeSet;
use crate::repo::{audit_events, callers, keys, memberships, organizations};

/// The number of audit events that are linked into their chains at a time.
const LINK_BATCH: usize = 200;

/// A key to import.
pub struct ImportedKey {
    /// Its line in the file, for error messages, which never repeat the line's content.
    pub line: usize,
    /// The organization that it belongs to.
    pub organization: OrganizationHandle,
    /// The SHA-256 of its text.
    pub sha256: [u8; 32],
    /// Its name.
    pub name: Option<KeyName>,
    /// Its scopes.
    pub scopes: ScopeSet,
    /// When it expires; `None` means never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Stores keys in one transaction, as if the first owner of each organization had created them.
///
/// # Errors
/// Not found if an organization does not exist; conflict if a key or a name already exists. The
/// message names the line.
pub async fn import(app: &App, imported: Vec<ImportedKey>) -> Result<()> {
    let request_id = new_request_id(&*app.entropy);
    let (now, signer) = (app.clock.now(), app.audit_signer.clone());
    let audit = AuditContext::for_command("key import", request_id, now, signer);
    app.db
        .long_transaction(async |tx| {
            let mut to_store = Vec::with_capacity(imported.len());
            for key in &imported {
                let owner = memberships::find_owner(tx, &key.organization).await?;
                let no_such = || Error::not_found("there is no such organization");
                to_store.push((owner.ok_or_else(no_such).map_err(|it| key.with_line(it))?, key));
            }
            // Organizations are locked, and audit events added, in the order of their ids, so that
            // concurrent transactions do not deadlock.
            to_store.sort_by_key(|((organization, _), _)| organization.0);
            for (number, (owner, key)) in to_store.into_iter().enumerate() {
                if number > 0 && number.is_multiple_of(LINK_BATCH) {
                    audit_events::link_inserted(tx).await?;
                }
                let stored = import_key(app, tx, owner, key, &audit).await;
                stored.map_err(|error| key.with_line(error))?;
            }
            Ok(())
        })
        .await
}

impl ImportedKey {
    /// Adds the line to an error that the file caused.
    fn with_line(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::Conflict => {
                let message = format!("line {}: {}", self.line, error.message());
                Error::new(error.kind().clone(), message)
            }
            _ => error,
        }
    }
}

async fn import_key(
    app: &App,
    tx: &mut PgConnection,
    (organization, membership): (OrganizationId, MembershipId),
    key: &ImportedKey,
    audit: &AuditContext,
) -> Result<()> {
    // Locked, because otherwise a key could be added while the operator revokes all keys of the
    // organization.
    organizations::lock(tx, organization).await?;
    let text = imported_text(&key.sha256);
    // Checked with every pepper, because a key must not be imported twice.
    if !callers::find_by_digests(tx, &app.peppers.candidates(&text)).await?.is_empty() {
        return Err(Error::conflict("this key already exists"));
    }
    let (digest, pepper_id) = app.peppers.digest(&text);
    let id = KeyId::new(audit.at, &*app.entropy);
    let new = NewApiKey {
        id,
        organization,
        membership,
        digest,
        pepper_id,
        prefix: IMPORTED_PREFIX,
        // From the hash: the key's own text is not available here.
        display_id: &text["sha256:".len()..][..8],
        name: key.name.as_ref(),
        scopes: &key.scopes,
        created_at: audit.at,
        expires_at: key.expires_at,
        allowed_ips: &AllowedIps::default(),
        metadata: &Metadata::default(),
        enabled: true,
        external_id: None,
        limits: &NamedLimits::default(),
        metered_key: None,
        rotated_from: None,
    };
    keys::insert(tx, &new).await?;
    let event = NewAuditEvent {
        organization,
        event_type: AuditEventType::KeyImported,
        actor: "operator",
        target: &id.to_string(),
        key_display_id: None,
        detail: json!({ "scopes": key.scopes.to_stored() }),
        audit,
    };
    audit_events::insert(tx, &event).await
}
