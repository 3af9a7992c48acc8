//! Removes audit events that are older than `RETENTION_AUDIT_DAYS`: from the beginning of each chain,
//! as far as its head was published, and only what is as it was written. What is wrong, or can not
//! be checked for want of a pepper, stays, with everything behind it: it is evidence.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::audit_chain::{Link, Verification};
use crate::model::audit_seal::{AuditSigner, Proof, Pruned, SignedHead};
use crate::model::ids::OrganizationId;
use crate::repo::{audit_chain, audit_retention};

/// How many events are removed by one transaction, and how many organizations are read at once.
const PAGE: i64 = 1000;

/// Removes events that are older than this many days.
///
/// # Errors
/// The database's own.
pub async fn sweep(app: &App, days: i32) -> Result<()> {
    let before = app.clock.now() - TimeDelta::days(days.into());
    let mut after = Uuid::nil();
    loop {
        let due = async |db: &mut _| audit_retention::due(db, after, before, PAGE).await;
        let organizations = app.db.run(due).await?;
        let Some(last) = organizations.last() else { return Ok(()) };
        after = last.0;
        for organization in organizations {
            let remove =
                async |tx: &mut _| remove(tx, &app.audit_signer, organization, before).await;
            while let removed @ 1.. = app.db.transaction(remove).await? {
                metrics::counter!("retention_removed_total", "table" => "audit_events")
                    .increment(removed);
            }
        }
    }
}

/// Removes the first events of a chain. How many; none where another server is at it.
async fn remove(
    tx: &mut PgConnection,
    signer: &AuditSigner,
    organization: OrganizationId,
    before: DateTime<Utc>,
) -> Result<u64> {
    let Some(head) = audit_retention::lock_head(tx, organization).await? else { return Ok(0) };
    if signer.check_head(organization, &head) != Proof::Good {
        keep(organization, "its published head is not good");
        return Ok(0);
    }
    let links = audit_chain::links(tx, (organization, head.pruned.until), PAGE).await?;
    let is_due = |link: &Link| {
        let is_old = |at: i64| at < before.timestamp_micros();
        link.organization == organization
            && link.position < head.position
            && link.stored.as_ref().is_none_or(|event| is_old(event.created_at))
    };
    let links: Vec<Link> = links.into_iter().take_while(is_due).collect();
    let Some(last) = links.last() else { return Ok(0) };
    if let Some(finding) = Verification::of_part(signer.clone(), &links).first() {
        keep(organization, &finding.fault.to_string());
        return Ok(0);
    }
    let pruned = Pruned { until: last.position, digest: last.digest };
    let SignedHead { position, digest, unsigned_until, .. } = head;
    let head = signer.sign_head(organization, (position, digest), unsigned_until, pruned);
    let head = head.ok_or_else(|| Error::internal("no pepper to sign the audit log under"))?;
    let events: Vec<i64> = links.iter().map(|link| link.event).collect();
    audit_retention::remove(tx, organization, &head, &events).await?;
    Ok(events.len().try_into().unwrap_or(u64::MAX))
}

fn keep(organization: OrganizationId, why: &str) {
    let organization = organization.0;
    tracing::error!(%organization, why, "old audit events are kept; run tenantry audit verify");
}
