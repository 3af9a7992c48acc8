//! Changes of an organization's status by the operator or by events of Stripe: suspension,
//! reactivation and plan.
//!
//! `actor` is recorded in the audit log: a master key's scope, a command or Stripe.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::error::{Error, Issue, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::external_actor::ExternalActor;
use crate::model::organization::OrganizationStatus;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::plan::Plan;
use crate::repo::{audit_events, organization_statuses};

/// Suspends an organization: once this commits, every request in its name is rejected, whatever the
/// credential. Its keys are not revoked. Suspending a suspended organization is no error. Returns
/// the status before the change, and the time of the suspension.
///
/// # Errors
/// Not found if there is no such organization.
pub async fn suspend(
    tx: &mut PgConnection,
    handle: &OrganizationHandle,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<(OrganizationStatus, DateTime<Utc>)> {
    let status = lock_organization(tx, handle).await?;
    let since = suspend_locked(tx, &status, actor, audit).await?;
    Ok((status, since))
}

/// Suspends an organization that is locked, as [`suspend`] does, and returns the time of the
/// suspension.
///
/// Invariant: a suspension for another reason than billing replaces one for billing, so that no
/// payment ends a suspension that the operator decided.
pub async fn suspend_locked(
    tx: &mut PgConnection,
    status: &OrganizationStatus,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<DateTime<Utc>> {
    let outranks = status.is_suspended_for_billing() && !actor.suspends_for_billing();
    if let Some(since) = status.suspended_at.filter(|_| !outranks) {
        return Ok(since);
    }
    let since = status.suspended_at.unwrap_or(audit.at);
    organization_statuses::set_suspended(tx, status.id, Some((since, actor)), audit.at).await?;
    let detail = match &status.suspended_by {
        Some(before) if outranks => json!({ "suspended_before_by": before.as_str() }),
        _ => json!({}),
    };
    record_operator_event(tx, status, AuditEventType::OrganizationSuspended, actor, detail, audit)
        .await?;
    Ok(since)
}

/// Reactivates an organization: its keys work again, except those that were revoked meanwhile.
/// Reactivating an active organization is no error. Returns the status before the change.
///
/// # Errors
/// Not found if there is no such organization.
pub async fn reactivate(
    tx: &mut PgConnection,
    handle: &OrganizationHandle,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<OrganizationStatus> {
    let status = lock_organization(tx, handle).await?;
    reactivate_locked(tx, &status, actor, audit).await?;
    Ok(status)
}

/// Reactivates an organization that is locked, as [`reactivate`] does.
pub async fn reactivate_locked(
    tx: &mut PgConnection,
    status: &OrganizationStatus,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<()> {
    if status.suspended_at.is_some() {
        organization_statuses::set_suspended(tx, status.id, None, audit.at).await?;
        record_operator_event(
            tx,
            status,
            AuditEventType::OrganizationReactivated,
            actor,
            json!({}),
            audit,
        )
        .await?;
    }
    Ok(())
}

/// Sets an organization's plan, whose limits apply from the next request on. Returns the status
/// before the change.
///
/// # Errors
/// Not found; invalid if the organization is an account's home organization and the plan is not
/// available for home organizations.
pub async fn change_plan(
    tx: &mut PgConnection,
    handle: &OrganizationHandle,
    plan: Plan,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<OrganizationStatus> {
    let status = lock_organization(tx, handle).await?;
    if status.is_home_organization && !plan.allows_home_organization() {
        let homes = Plan::ALL.into_iter().filter(|(plan, _)| plan.allows_home_organization());
        let allowed = homes.map(|(_, name)| name).collect();
        return Err(Error::invalid(vec![Issue::one_of("tier", allowed)]));
    }
    if plan != status.plan {
        organization_statuses::set_plan(tx, status.id, plan, audit.at).await?;
        let detail = json!({ "plan": plan.as_str(), "before": status.plan.as_str() });
        record_operator_event(
            tx,
            &status,
            AuditEventType::OrganizationPlanChanged,
            actor,
            detail,
            audit,
        )
        .await?;
    }
    Ok(status)
}

/// Returns the organization's status and locks the organization until the transaction ends.
///
/// # Errors
/// Not found if there is no such organization.
pub async fn lock_organization(
    tx: &mut PgConnection,
    handle: &OrganizationHandle,
) -> Result<OrganizationStatus> {
    let status = organization_statuses::lock(tx, handle).await?;
    status.ok_or_else(|| Error::not_found("There is no such organization"))
}

/// Records a change by the operator or Stripe in the organization's audit log.
pub async fn record_operator_event(
    tx: &mut PgConnection,
    status: &OrganizationStatus,
    event_type: AuditEventType,
    actor: ExternalActor,
    detail: Value,
    audit: &AuditContext,
) -> Result<()> {
    let event = NewAuditEvent {
        organization: status.id,
        event_type,
        actor: actor.as_str(),
        target: &status.handle,
        key_display_id: None,
        detail,
        audit,
    };
    audit_events::insert(tx, &event).await
}
