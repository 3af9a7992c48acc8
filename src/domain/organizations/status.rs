//! How an organization stands with its operator: suspended and reactivated, moved to another plan.
//!
//! `by` is whoever decided it, for the trail: a master key's scope, a payment, a command.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::error::{Error, Issue, Result};
use crate::model::audit::{AuditContext, EventType, NewAuditEvent};
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{OrganizationStatus, is_billing_actor};
use crate::model::plan::Plan;
use crate::repo::{audit_events, organization_statuses};

/// Suspends an organization: from the moment this commits nothing is done in its name, whatever
/// the credential; its keys survive. One that is suspended stays so. How it stood, and since when
/// it is suspended.
///
/// # Errors
/// Not found.
pub async fn suspend(
    tx: &mut PgConnection,
    handle: &OrgHandle,
    by: &str,
    audit: &AuditContext,
) -> Result<(OrganizationStatus, DateTime<Utc>)> {
    let standing = lock_organization(tx, handle).await?;
    let since = suspend_locked(tx, &standing, by, audit).await?;
    Ok((standing, since))
}

/// The same, of an organization that is held.
///
/// Invariant: whoever suspends for another reason than billing outranks it, so that no payment
/// lifts what support decided.
pub async fn suspend_locked(
    tx: &mut PgConnection,
    standing: &OrganizationStatus,
    by: &str,
    audit: &AuditContext,
) -> Result<DateTime<Utc>> {
    let outranks = standing.is_suspended_for_billing() && !is_billing_actor(by);
    if let Some(since) = standing.suspended_at.filter(|_| !outranks) {
        return Ok(since);
    }
    let since = standing.suspended_at.unwrap_or(audit.at);
    organization_statuses::set_suspended(tx, standing.id, Some((since, by)), audit.at).await?;
    let detail = match &standing.suspended_by {
        Some(before) if outranks => json!({ "suspended_before_by": before }),
        _ => json!({}),
    };
    record_operator_event(tx, standing, EventType::OrganizationSuspended, by, detail, audit)
        .await?;
    Ok(since)
}

/// Reactivates an organization: its keys work again, those that were not revoked meanwhile. One
/// that is active stays so. How it stood.
///
/// # Errors
/// Not found.
pub async fn reactivate(
    tx: &mut PgConnection,
    handle: &OrgHandle,
    by: &str,
    audit: &AuditContext,
) -> Result<OrganizationStatus> {
    let standing = lock_organization(tx, handle).await?;
    reactivate_locked(tx, &standing, by, audit).await?;
    Ok(standing)
}

/// The same, of an organization that is held.
pub async fn reactivate_locked(
    tx: &mut PgConnection,
    standing: &OrganizationStatus,
    by: &str,
    audit: &AuditContext,
) -> Result<()> {
    if standing.suspended_at.is_some() {
        organization_statuses::set_suspended(tx, standing.id, None, audit.at).await?;
        record_operator_event(
            tx,
            standing,
            EventType::OrganizationReactivated,
            by,
            json!({}),
            audit,
        )
        .await?;
    }
    Ok(())
}

/// Moves an organization to a plan, whose limits hold from the next request on. How it stood.
///
/// # Errors
/// Not found; invalid where the organization is a person's home and the plan is not for those
/// (contract §3).
pub async fn change_plan(
    tx: &mut PgConnection,
    handle: &OrgHandle,
    plan: Plan,
    by: &str,
    audit: &AuditContext,
) -> Result<OrganizationStatus> {
    let standing = lock_organization(tx, handle).await?;
    if standing.is_home_organization && !plan.allows_home_organization() {
        let homes = Plan::ALL.into_iter().filter(|(plan, _)| plan.allows_home_organization());
        let allowed = homes.map(|(_, word)| word).collect();
        return Err(Error::invalid(vec![Issue::one_of("tier", allowed)]));
    }
    if plan != standing.plan {
        organization_statuses::set_plan(tx, standing.id, plan, audit.at).await?;
        let detail = json!({ "plan": plan.as_str(), "before": standing.plan.as_str() });
        record_operator_event(tx, &standing, EventType::OrganizationPlanChanged, by, detail, audit)
            .await?;
    }
    Ok(standing)
}

/// How the organization stands, and it held until the transaction ends.
///
/// # Errors
/// Not found.
pub async fn lock_organization(
    tx: &mut PgConnection,
    handle: &OrgHandle,
) -> Result<OrganizationStatus> {
    let standing = organization_statuses::lock(tx, handle).await?;
    standing.ok_or_else(|| Error::not_found("There is no such organization"))
}

/// Writes down what the operator did to an organization.
pub async fn record_operator_event(
    tx: &mut PgConnection,
    standing: &OrganizationStatus,
    event_type: EventType,
    by: &str,
    detail: Value,
    audit: &AuditContext,
) -> Result<()> {
    let event = NewAuditEvent {
        organization: standing.id,
        event_type,
        actor: by,
        target: &standing.handle,
        key_display_id: None,
        detail,
        audit,
    };
    audit_events::insert(tx, &event).await
}
