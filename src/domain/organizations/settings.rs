//! What the operator sets for an organization: its external id, metadata, rate limits and credits.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::domain::keys::credits::{self, audited};
use crate::domain::organizations::status::{lock_organization, record_operator_event};
use crate::error::{Error, Issue, Result};
use crate::model::ValidationError;
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::audit_detail::diff;
use crate::model::credits::CreditChange;
use crate::model::external_actor::ExternalActor;
use crate::model::metadata::MetadataChanges;
use crate::model::named_limits::NamedLimits;
use crate::model::names::ExternalId;
use crate::model::organization::{FoundOrganization, OrganizationSettings};
use crate::model::organization_handle::OrganizationHandle;
use crate::repo::organization_settings;

/// The settings to update; `None` leaves a setting unchanged.
pub struct SettingsChanges {
    /// The operator's own id for it; `Some(None)` removes it.
    pub external_id: Option<Option<ExternalId>>,
    /// Changes of its metadata.
    pub metadata: Option<MetadataChanges>,
    /// The rate limits that its credentials share.
    pub limits: Option<NamedLimits>,
    /// A change of the credits that its credentials share.
    pub credits: Option<CreditChange>,
}

/// Returns the organization with this handle.
///
/// # Errors
/// Not found if there is no such organization.
pub async fn find(db: &mut PgConnection, handle: &OrganizationHandle) -> Result<FoundOrganization> {
    let found = organization_settings::find(db, handle).await?;
    found.ok_or_else(|| Error::not_found("There is no such organization"))
}

/// Updates an organization's settings, and returns it.
///
/// # Errors
/// Not found; invalid if the metadata grows too large; conflict if units are added where there are
/// no credits.
pub async fn update(
    tx: &mut PgConnection,
    handle: &OrganizationHandle,
    changes: &SettingsChanges,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<FoundOrganization> {
    let status = lock_organization(tx, handle).await?;
    let mut organization = find(tx, handle).await?;
    let before = audited_settings(&organization.settings);
    let settings = &mut organization.settings;
    if let Some(external_id) = &changes.external_id {
        settings.external_id = external_id.as_ref().map(|it| it.as_str().to_owned());
    }
    if let Some(changes) = &changes.metadata {
        let invalid =
            |ValidationError(message)| Error::invalid(vec![Issue::field("metadata", message)]);
        settings.metadata = settings.metadata.merged(changes).map_err(invalid)?;
    }
    if let Some(limits) = &changes.limits {
        settings.limits = limits.clone();
    }
    let stored = (&*settings, changes.limits.is_some());
    organization_settings::update(tx, status.id, stored, audit.at).await?;
    if let Some(change) = changes.credits {
        settings.credits = credits::apply(tx, (status.id, status.id.0), change).await?;
    }
    let mut detail = diff(before, audited_settings(settings));
    add_private_changes(&mut detail, changes);
    record_operator_event(tx, &status, AuditEventType::OrganizationUpdated, actor, detail, audit)
        .await?;
    Ok(organization)
}

/// Adds that the operator's own data about the organization was changed, with the names of metadata
/// but without values: the organization reads its audit log.
fn add_private_changes(detail: &mut Value, changes: &SettingsChanges) {
    if changes.external_id.is_some() {
        detail["external_id_changed"] = json!(true);
    }
    if let Some(MetadataChanges(members)) = &changes.metadata {
        detail["metadata_changed"] = members.keys().cloned().collect();
    }
}

/// Returns the settings that concern the organization as its audit log shows them.
#[must_use]
pub fn audited_settings(settings: &OrganizationSettings) -> Value {
    json!({ "limits": settings.limits.to_stored(), "credits": settings.credits.map(audited) })
}
