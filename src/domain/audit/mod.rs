//! Protects the audit log beyond the MACs of its events: records when the signing of events began,
//! and publishes the heads of the chains to the server's log, which the administrators of the
//! database cannot change.

pub mod retention;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::error::Result;
use crate::model::audit_head::{LOG_TARGET, SIGNING_SINCE_PREFIX};
use crate::model::audit_seal::{AuditSigner, MacCheck, PrunedPrefix, SignedHead, SigningStart};
use crate::repo::audit_heads::{self, ChainEnd};

/// The time after the start of signing in which events without a MAC are accepted: 24 hours, in
/// which servers of the previous version may still run beside those that sign, and one hour until
/// the heads are published next.
const UPGRADE_WINDOW: TimeDelta = TimeDelta::hours(25);
/// The maximum number of chains that one query lists.
const PAGE_SIZE: i64 = 1000;

/// Records `now` as the start of signing, unless a start is recorded already. Existing events
/// without a MAC are accepted by this call, once; those that servers of the previous version add
/// within `UPGRADE_WINDOW` are accepted by [`publish_heads`]. A recorded start whose MAC is valid
/// but made with an older pepper is signed again with the newest one.
///
/// Invariant: signing never begins again if any event has a MAC. Otherwise events inserted directly
/// into the database could pass for events from before the start of signing.
pub async fn begin_signing(
    db: &mut PgConnection,
    signer: &AuditSigner,
    now: DateTime<Utc>,
) -> Result<()> {
    if let Some(start) = audit_heads::find_signing_start(db).await? {
        let is_valid = signer.check_start(&start) == MacCheck::Valid;
        if is_valid && signer.is_outdated(&start.pepper_id) {
            let renewed = signer.sign_start(start.started_at, start.unsigned_until);
            if let Some(renewed) = renewed {
                audit_heads::store_signing_start(db, &renewed, true).await?;
            }
        }
        return Ok(());
    }
    let (has_events, has_macs) = audit_heads::has_events(db).await?;
    if has_macs {
        tracing::error!(
            "audit_signing is empty: its row was deleted in the database; run tenantry audit verify"
        );
        return Ok(());
    }
    let until = if has_events { now + UPGRADE_WINDOW } else { now };
    let Some(start) = signer.sign_start(now, until) else { return Ok(()) };
    audit_heads::store_signing_start(db, &start, false).await?;
    let mut from = Uuid::nil();
    while let Some(next) = sign_unsigned_page(db, signer, from, now).await? {
        from = next;
    }
    Ok(())
}

/// Stores a signed head for each organization of one page. It states up to which position the chain
/// may contain events without a MAC. Its own position is 0, so that it does not count as published:
/// the process that begins signing may have no server log. Returns the id to continue with.
async fn sign_unsigned_page(
    db: &mut PgConnection,
    signer: &AuditSigner,
    from: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<Uuid>> {
    let ends = audit_heads::list_chain_ends(db, from, true, PAGE_SIZE).await?;
    let heads = ends.iter().filter_map(|end| {
        let none = PrunedPrefix::default();
        let head = signer.sign_head(end.organization, (0, none.digest), end.last_unsigned, none)?;
        Some((end.organization, head))
    });
    audit_heads::store_heads(db, &heads.collect::<Vec<_>>(), now).await?;
    Ok(ends.last().and_then(|end| end.organization.successor()))
}

/// Returns the recorded start of signing and the result of checking its MAC; `None` if no start is
/// recorded.
pub async fn signing_start(app: &App) -> Result<Option<(SigningStart, MacCheck)>> {
    let start = app.db.run(async |db| audit_heads::find_signing_start(db).await).await?;
    Ok(start.map(|start| {
        let check = app.audit_signer.check_start(&start);
        (start, check)
    }))
}

/// Logs the start of signing, and the head of each chain that has grown since a server last logged
/// its head. Stores these heads in the database as published. An attacker who truncates a chain in
/// the database does not remove its head from the log. A stored head is signed, so that only this
/// application can write it.
///
/// Returns whether servers of the previous version may still be adding events.
pub async fn publish_heads(app: &App) -> Result<bool> {
    let start = signing_start(app).await?;
    let start = start.filter(|(_, check)| *check == MacCheck::Valid).map(|(start, _)| start);
    let now = app.clock.now();
    if let Some(start) = &start {
        let since = start.started_at.to_rfc3339_opts(SecondsFormat::Micros, true);
        tracing::info!(target: LOG_TARGET, "{SIGNING_SINCE_PREFIX}{since}");
    }
    let is_upgrade = start.is_some_and(|start| start.unsigned_until > now);
    let (signer, mut from) = (&app.audit_signer, Uuid::nil());
    let page = async |db: &mut _, from| publish_page(db, signer, (from, is_upgrade), now).await;
    while let Some(next) = app.db.run(async |db| page(db, from).await).await? {
        from = next;
    }
    Ok(is_upgrade)
}

/// Publishes the heads of one page of organizations, in the order of their ids from `from` on, and
/// returns the id to continue with. During an upgrade, events without a MAC are accepted.
async fn publish_page(
    db: &mut PgConnection,
    signer: &AuditSigner,
    (from, is_upgrade): (Uuid, bool),
    now: DateTime<Utc>,
) -> Result<Option<Uuid>> {
    let ends = audit_heads::list_chain_ends(db, from, is_upgrade, PAGE_SIZE).await?;
    let heads: Vec<_> =
        ends.iter().filter_map(|end| Some((end.organization, publish(signer, end)?))).collect();
    if !heads.is_empty() {
        audit_heads::store_heads(db, &heads, now).await?;
    }
    Ok(ends.last().and_then(|end| end.organization.successor()))
}

/// Logs one head if the chain has grown, and returns the record to store, if it changed.
fn publish(signer: &AuditSigner, end: &ChainEnd) -> Option<SignedHead> {
    let ChainEnd { organization, head, stored_head: stored, .. } = end;
    let is_same = stored.as_ref().is_some_and(|it| it.position == head.position);
    if !is_same {
        tracing::info!(target: LOG_TARGET, "{head}");
    }
    let mut unsigned_until = end.last_unsigned;
    let pruned = stored.as_ref().map(|stored| stored.pruned).unwrap_or_default();
    if let Some(stored) = stored {
        match signer.check_head(*organization, stored) {
            // It was not published, so its digest is not one of the chain.
            MacCheck::Valid if stored.position == 0 => {}
            MacCheck::Valid if end.digest_at_stored == Some(stored.digest) => {}
            // The stored head cannot be verified; it stays until its pepper is configured again.
            MacCheck::UnknownPepper(pepper) => {
                let organization = &head.organization;
                tracing::warn!(
                    organization,
                    pepper,
                    "stored audit head cannot be checked: its pepper is not configured"
                );
                return None;
            }
            // The stored head stays as evidence.
            MacCheck::Valid | MacCheck::Invalid => {
                let organization = &head.organization;
                tracing::error!(
                    organization,
                    "audit log differs from its stored head; run tenantry audit verify"
                );
                return None;
            }
        }
        unsigned_until = unsigned_until.max(stored.unsigned_until);
        let is_current = !signer.is_outdated(&stored.pepper_id);
        if is_same && is_current && unsigned_until == stored.unsigned_until {
            return None;
        }
    }
    signer.sign_head(*organization, (head.position, head.digest), unsigned_until, pruned)
}
