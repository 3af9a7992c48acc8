//! Removes the oldest events of the audit log, from the beginning of their chains.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::audit_seal::SignedHead;
use crate::model::ids::OrganizationId;
use crate::repo::audit_chain::to_signed_head;

/// An organization with a stored head.
pub struct PruningCandidate {
    /// The chain's organization.
    pub organization: OrganizationId,
    /// Whether its first remaining event is older than requested, and a head after it was
    /// published.
    pub is_due: bool,
    /// Whether events without a MAC are left.
    pub has_unsigned: bool,
}

/// Returns at most `limit` organizations with ids from `from` on, in the order of the ids, and
/// whether they have events that are older than `before`.
pub async fn list(
    db: &mut PgConnection,
    from: Uuid,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<PruningCandidate>> {
    let rows = sqlx::query!(
        r#"select h.organization_id, h.unsigned_until > h.pruned_until as "has_unsigned!",
                  h.position > h.pruned_until + 1 and coalesce(e.created_at < $2, true)
                      as "is_due!"
           from (select organization_id, position, unsigned_until, pruned_until from audit_heads
                 where organization_id >= $1 order by organization_id limit $3) h
           left join audit_links l
               on l.organization_id = h.organization_id and l.position = h.pruned_until + 1
           left join audit_events e on e.id = l.event_id
           order by h.organization_id"#,
        from,
        before,
        limit,
    )
    .fetch_all(db)
    .await?;
    let listed = rows.into_iter().map(|row| PruningCandidate {
        organization: OrganizationId(row.organization_id),
        is_due: row.is_due,
        has_unsigned: row.has_unsigned,
    });
    Ok(listed.collect())
}

/// Locks the organization's stored head until the transaction ends, and returns it. `None` if
/// there is none or another transaction has locked it.
pub async fn lock_head(
    tx: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Option<SignedHead>> {
    let row = sqlx::query!(
        "select position, digest, unsigned_until, pruned_until, pruned_digest, pepper_id, mac
         from audit_heads where organization_id = $1 for update skip locked",
        organization.0,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.and_then(|row| {
        to_signed_head(
            (Some(row.position), Some(row.digest)),
            Some(row.unsigned_until),
            (Some(row.pruned_until), Some(row.pruned_digest)),
            (Some(row.pepper_id), Some(row.mac)),
        )
    }))
}

/// Removes these events, and the links up to the position that `head` records as removed. The
/// caller has locked the stored head. The first link stays, since transactions lock it to append.
pub async fn remove(
    tx: &mut PgConnection,
    organization: OrganizationId,
    head: &SignedHead,
    events: &[i64],
) -> Result<()> {
    sqlx::query!(
        "update audit_heads set pruned_until = $2, pruned_digest = $3, pepper_id = $4, mac = $5
         where organization_id = $1",
        organization.0,
        head.pruned.until,
        &head.pruned.digest[..],
        head.pepper_id,
        &head.mac[..],
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query_scalar!("select set_config('app.audit_retention', 'on', true)")
        .fetch_one(&mut *tx)
        .await?;
    sqlx::query!(
        "delete from audit_links where organization_id = $1 and position between 2 and $2",
        organization.0,
        head.pruned.until,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("delete from audit_events where id = any($1)", events).execute(&mut *tx).await?;
    sqlx::query_scalar!("select set_config('app.audit_retention', '', true)").fetch_one(tx).await?;
    Ok(())
}
