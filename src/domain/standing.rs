//! How an organization stands with its operator: suspended and reactivated, moved to another plan.
//!
//! `by` is whoever decided it, for the trail: a master key's scope, a payment, a command.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::error::{Error, Issue, Result};
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{Standing, is_billing};
use crate::model::plan::Plan;
use crate::repo::{audit_events, standings};

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
    trail: &Trail,
) -> Result<(Standing, DateTime<Utc>)> {
    let standing = hold(tx, handle).await?;
    let since = begin_suspension(tx, &standing, by, trail).await?;
    Ok((standing, since))
}

/// The same, of an organization that is held.
///
/// Invariant: whoever suspends for another reason than billing outranks it, so that no payment
/// lifts what support decided.
///
/// # Errors
/// The database's own.
pub async fn begin_suspension(
    tx: &mut PgConnection,
    standing: &Standing,
    by: &str,
    trail: &Trail,
) -> Result<DateTime<Utc>> {
    let outranks = standing.is_suspended_for_billing() && !is_billing(by);
    if let Some(since) = standing.suspended_at.filter(|_| !outranks) {
        return Ok(since);
    }
    let since = standing.suspended_at.unwrap_or(trail.at);
    standings::set_suspended(tx, standing.id, Some((since, by)), trail.at).await?;
    let detail = match &standing.suspended_by {
        Some(before) if outranks => json!({ "suspended_before_by": before }),
        _ => json!({}),
    };
    record(tx, standing, EventType::OrganizationSuspended, by, detail, trail).await?;
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
    trail: &Trail,
) -> Result<Standing> {
    let standing = hold(tx, handle).await?;
    end_suspension(tx, &standing, by, trail).await?;
    Ok(standing)
}

/// The same, of an organization that is held.
///
/// # Errors
/// The database's own.
pub async fn end_suspension(
    tx: &mut PgConnection,
    standing: &Standing,
    by: &str,
    trail: &Trail,
) -> Result<()> {
    if standing.suspended_at.is_some() {
        standings::set_suspended(tx, standing.id, None, trail.at).await?;
        record(tx, standing, EventType::OrganizationReactivated, by, json!({}), trail).await?;
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
    trail: &Trail,
) -> Result<Standing> {
    let standing = hold(tx, handle).await?;
    if standing.is_home && !plan.suits_a_home() {
        let homes = Plan::ALL.into_iter().filter(|(plan, _)| plan.suits_a_home());
        let allowed = homes.map(|(_, word)| word).collect();
        return Err(Error::invalid(vec![Issue::of_choice("tier", allowed)]));
    }
    if plan != standing.plan {
        standings::set_plan(tx, standing.id, plan, trail.at).await?;
        let detail = json!({ "plan": plan.as_str(), "before": standing.plan.as_str() });
        record(tx, &standing, EventType::OrganizationPlanChanged, by, detail, trail).await?;
    }
    Ok(standing)
}

/// How the organization stands, and it held until the transaction ends.
///
/// # Errors
/// Not found.
pub async fn hold(tx: &mut PgConnection, handle: &OrgHandle) -> Result<Standing> {
    let standing = standings::hold(tx, handle).await?;
    standing.ok_or_else(|| Error::not_found("There is no such organization"))
}

/// Writes down what the operator did to an organization.
///
/// # Errors
/// The database's own.
pub async fn record(
    tx: &mut PgConnection,
    standing: &Standing,
    event_type: EventType,
    by: &str,
    detail: Value,
    trail: &Trail,
) -> Result<()> {
    let event = AuditEvent {
        organization: standing.id,
        event_type,
        actor: by,
        target: &standing.handle,
        key_display_id: None,
        detail,
        trail,
    };
    audit_events::insert(tx, &event).await
}
