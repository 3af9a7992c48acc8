//! Removes audit events that are older than `RETENTION_AUDIT_DAYS`: from the beginning of each
//! chain up to its published head, and only events that pass verification. An event that was
//! altered, or that cannot be verified because its pepper is not configured, stays as evidence,
//! with all events after it.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::audit_chain::{ChainLink, ChainObservation, ChainVerifier};
use crate::model::audit_findings::{AuditFault, AuditFinding};
use crate::model::audit_seal::{AuditSigner, MacCheck, PrunedPrefix, SignedHead};
use crate::model::ids::OrganizationId;
use crate::repo::audit_chain;
use crate::repo::audit_retention::{self, PruningCandidate};

/// The maximum number of events that one transaction removes, and of organizations that one query
/// lists.
const PAGE_SIZE: i64 = 1000;

/// Removes audit events that are older than `days` days. A failure in one organization is logged,
/// and the others are still processed.
pub async fn sweep(app: &App, days: i32) -> Result<()> {
    let before = app.clock.now() - TimeDelta::days(days.into());
    let mut from = Some(Uuid::nil());
    while let Some(first) = from {
        let page = async |db: &mut _| audit_retention::list(db, first, before, PAGE_SIZE).await;
        let listed = app.db.run(page).await?;
        from = listed.last().and_then(|it| it.organization.successor());
        for PruningCandidate { organization, has_unsigned, .. } in
            listed.iter().filter(|it| it.is_due)
        {
            if let Err(error) = sweep_one(app, *organization, *has_unsigned, before).await {
                let (organization, cause) = (organization.0, error.cause());
                tracing::warn!(%organization, %cause, "old audit events not removed; will retry");
            }
        }
    }
    Ok(())
}

async fn sweep_one(
    app: &App,
    organization: OrganizationId,
    has_unsigned: bool,
    before: DateTime<Utc>,
) -> Result<()> {
    // Events without a MAC are proven only by the published head, so the whole chain is verified.
    if has_unsigned && let Some(finding) = first_finding(app, organization).await? {
        log_not_removed(organization, &finding.fault);
        return Ok(());
    }
    let remove = async |tx: &mut _| remove(tx, &app.audit_signer, organization, before).await;
    while let removed @ 1.. = app.db.transaction(remove).await? {
        metrics::counter!("retention_removed_total", "table" => "audit_events").increment(removed);
    }
    Ok(())
}

/// Returns the first finding in an organization's chain, `None` if the chain is valid.
async fn first_finding(app: &App, organization: OrganizationId) -> Result<Option<AuditFinding>> {
    let mut verification = ChainVerifier::with_known_heads(app.audit_signer.clone(), []);
    let mut last = (organization, i64::MIN);
    loop {
        let page = async |db: &mut _| audit_chain::list_links(db, last, PAGE_SIZE).await;
        let mut links = app.db.run(page).await?;
        links.retain(|link| link.organization == organization);
        let is_end = links.is_empty();
        let observed = if is_end {
            verification.finish(Vec::new())
        } else {
            links.iter().flat_map(|link| verification.verify_link(link)).collect()
        };
        last = verification.last();
        let finding = observed.into_iter().find_map(ChainObservation::finding);
        if finding.is_some() || is_end {
            return Ok(finding);
        }
    }
}

/// Removes the oldest due events of a chain, at most [`PAGE_SIZE`], and returns their number: 0 if
/// another transaction has the chain's head locked, or if the events do not pass verification.
async fn remove(
    tx: &mut PgConnection,
    signer: &AuditSigner,
    organization: OrganizationId,
    before: DateTime<Utc>,
) -> Result<u64> {
    let Some(head) = audit_retention::lock_head(tx, organization).await? else { return Ok(0) };
    let head_fault = match signer.check_head(organization, &head) {
        MacCheck::Valid => None,
        MacCheck::Invalid => Some(AuditFault::ForgedHead),
        MacCheck::UnknownPepper(pepper) => Some(AuditFault::UnknownHeadPepper(pepper)),
    };
    if let Some(fault) = head_fault {
        log_not_removed(organization, &fault);
        return Ok(0);
    }
    let links = audit_chain::list_links(tx, (organization, head.pruned.until), PAGE_SIZE).await?;
    let is_due = |link: &ChainLink| {
        let is_old = |at: i64| at < before.timestamp_micros();
        link.organization == organization
            && link.position < head.position
            && link.stored.as_ref().is_none_or(|event| is_old(event.created_at))
    };
    let links: Vec<ChainLink> = links.into_iter().take_while(is_due).collect();
    let Some(last) = links.last() else { return Ok(0) };
    if let Some(finding) = ChainVerifier::verify_part(signer.clone(), &links).first() {
        log_not_removed(organization, &finding.fault);
        return Ok(0);
    }
    let pruned = PrunedPrefix { until: last.position, digest: last.digest };
    let SignedHead { position, digest, unsigned_until, .. } = head;
    let head = signer.sign_head(organization, (position, digest), unsigned_until, pruned);
    let head = head.ok_or_else(|| Error::internal("no pepper to sign the audit log with"))?;
    let events: Vec<i64> = links.iter().map(|link| link.event_id).collect();
    audit_retention::remove(tx, organization, &head, &events).await?;
    Ok(events.len().try_into().unwrap_or(u64::MAX))
}

/// Logs why events are not removed. An unknown pepper is only a warning: once it is configured, the
/// events can be verified.
fn log_not_removed(organization: OrganizationId, fault: &AuditFault) {
    let organization = organization.0;
    if fault.is_unchecked() {
        tracing::warn!(
            %organization,
            %fault,
            "old audit events not removed: their pepper is not configured"
        );
    } else {
        tracing::error!(
            %organization,
            %fault,
            "old audit events not removed: verification failed; run tenantry audit verify"
        );
    }
}
