//! What seals the audit log beside the events themselves: since when they carry MACs, and the heads
//! that are published where the database's administrators do not reach, which is the server's log.

pub mod retention;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::error::Result;
use crate::model::audit_head::{LOG_TARGET, SIGNING_SINCE_PREFIX};
use crate::model::audit_seal::{AuditSigner, MacCheck, PrunedPrefix, SignedHead, SigningStart};
use crate::repo::audit_heads::{self, ChainEnd};

/// How long what servers of the version before MACs add is vouched for: the 24 hours that they may
/// go on beside those that sign, and the one until the heads are looked at next.
const UPGRADE_WINDOW: TimeDelta = TimeDelta::hours(25);
/// How many heads are read at once.
const PAGE_SIZE: i64 = 1000;

/// Says since when events carry MACs, where nobody did: what was there before is vouched for once,
/// and by [`publish_heads`] what servers of the version before add in its first day.
///
/// Invariant: never again where any event carries a MAC, or events that were added past the
/// application could be passed off as older than MACs.
pub async fn begin_signing(
    db: &mut PgConnection,
    signer: &AuditSigner,
    now: DateTime<Utc>,
) -> Result<()> {
    if let Some(start) = audit_heads::find_signing_start(db).await? {
        let is_good = signer.check_start(&start) == MacCheck::Valid;
        if is_good && signer.is_outdated(&start.pepper_id) {
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
            "audit_signing is empty: it was removed past the application; run tenantry audit verify"
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

/// Vouches for what the chains of some organizations hold now, without saying that their heads were
/// published: what begins signing may have no log.
async fn sign_unsigned_page(
    db: &mut PgConnection,
    signer: &AuditSigner,
    from: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<Uuid>> {
    let ends = audit_heads::list_chain_ends(db, from, true, PAGE_SIZE).await?;
    let heads = ends.iter().filter_map(|end| {
        let none = PrunedPrefix::default();
        let head = signer.sign_head(end.organization, (0, none.digest), end.last_unsealed, none)?;
        Some((end.organization, head))
    });
    audit_heads::store_published(db, &heads.collect::<Vec<_>>(), now).await?;
    Ok(ends.last().and_then(|end| end.organization.successor()))
}

/// Since when events carry MACs, as the database has it, and whether that is proven.
pub async fn signing_start(app: &App) -> Result<Option<(SigningStart, MacCheck)>> {
    let start = app.db.run(async |db| audit_heads::find_signing_start(db).await).await?;
    Ok(start.map(|start| {
        let proof = app.audit_signer.check_start(&start);
        (start, proof)
    }))
}

/// Logs the head of each chain that has grown since its head was last logged, by whatever server,
/// and writes down that it was: who cuts a chain's end off in the database does not cut it out of
/// the log. Nobody else can write that down, for it is signed.
///
/// Returns whether servers of the previous version may still be adding events.
pub async fn publish_heads(app: &App) -> Result<bool> {
    let start = signing_start(app).await?;
    let start = start.filter(|(_, proof)| *proof == MacCheck::Valid).map(|(start, _)| start);
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

/// Publishes the heads of some organizations, from that with the least id that is at least `from`
/// on; where the next ones begin. In an upgrade, what carries no MAC is vouched for.
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
        audit_heads::store_published(db, &heads, now).await?;
    }
    Ok(ends.last().and_then(|end| end.organization.successor()))
}

/// Logs one head, where it has to be; what to write down of it.
fn publish(signer: &AuditSigner, end: &ChainEnd) -> Option<SignedHead> {
    let ChainEnd { organization, head, published_head: published, .. } = end;
    let is_same = published.as_ref().is_some_and(|it| it.position == head.position);
    if !is_same {
        tracing::info!(target: LOG_TARGET, "{head}");
    }
    let mut unsigned_until = end.last_unsealed;
    let pruned = published.as_ref().map(|published| published.pruned).unwrap_or_default();
    if let Some(published) = published {
        match signer.check_head(*organization, published) {
            MacCheck::Valid if published.position == 0 => {}
            MacCheck::Valid if end.digest_at_published == Some(published.digest) => {}
            // Nothing is known of what it says, and it stays for when the pepper is back.
            MacCheck::UnknownPepper(pepper) => {
                let organization = &head.organization;
                tracing::warn!(
                    organization,
                    pepper,
                    "published audit head can not be checked: its pepper is not configured"
                );
                return None;
            }
            // The evidence stays.
            MacCheck::Valid | MacCheck::Invalid => {
                let organization = &head.organization;
                tracing::error!(
                    organization,
                    "audit log differs from its published head; run tenantry audit verify"
                );
                return None;
            }
        }
        unsigned_until = unsigned_until.max(published.unsigned_until);
        let is_current = !signer.is_outdated(&published.pepper_id);
        if is_same && is_current && unsigned_until == published.unsigned_until {
            return None;
        }
    }
    signer.sign_head(*organization, (head.position, head.digest), unsigned_until, pruned)
}
