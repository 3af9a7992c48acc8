//! The stored heads of the audit log's chains, and the start of signing. Both are signed by the
//! application, since data from the database alone proves nothing.
//!
//! A stored head was published to the server's log, unless its position is 0: the start of signing
//! stores such a head for a chain, to state up to which position its events may lack a MAC.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::audit_head::ChainHead;
use crate::model::audit_seal::{SignedHead, SigningStart};
use crate::model::ids::OrganizationId;
use crate::repo::audit_chain::{to_digest, to_signed_head};

/// The current head of a chain, with its stored head.
pub struct ChainEnd {
    /// The chain's organization.
    pub organization: OrganizationId,
    /// The current head.
    pub head: ChainHead,
    /// The stored head, if there is one. A head at position 0 was not published.
    pub stored_head: Option<SignedHead>,
    /// The digest that the chain has now at the position of the stored head; `None` if there is no
    /// link at that position.
    pub digest_at_stored: Option<[u8; 32]>,
    /// The position of the last link without a seal; 0 if there is none or this was not requested.
    pub last_unsigned: i64,
}

/// Returns the ends of the chains of at most `limit` organizations with ids from `from` on, in the
/// order of the ids. `with_unsealed` also looks for links without a seal.
pub async fn list_chain_ends(
    db: &mut PgConnection,
    from: Uuid,
    with_unsealed: bool,
    limit: i64,
) -> Result<Vec<ChainEnd>> {
    let rows = sqlx::query!(
        r#"select o.id, o.handle, head.position, head.digest,
                  h.position as "published_position?", h.digest as "published_digest?",
                  h.unsigned_until as "unsigned_until?", h.pruned_until as "pruned_until?",
                  h.pruned_digest as "pruned_digest?", h.pepper_id as "pepper_id?",
                  h.mac as "mac?", there.digest as "digest_there?",
                  coalesce(unsealed.position, 0) as "last_unsigned!"
           from organizations o
           cross join lateral (
               select position, digest from audit_links where organization_id = o.id
               order by position desc limit 1) head
           left join audit_heads h on h.organization_id = o.id
           left join audit_links there
               on there.organization_id = o.id and there.position = h.position
           left join lateral (
               select position from audit_links
               where $2 and organization_id = o.id and seal is null
               order by position desc limit 1) unsealed on true
           where o.id >= $1 order by o.id limit $3"#,
        from,
        with_unsealed,
        limit,
    )
    .fetch_all(db)
    .await?;
    let ends = rows.into_iter().map(|row| ChainEnd {
        organization: OrganizationId(row.id),
        head: ChainHead {
            organization: row.handle,
            position: row.position,
            digest: to_digest(row.digest),
        },
        stored_head: to_signed_head(
            (row.published_position, row.published_digest),
            row.unsigned_until,
            (row.pruned_until, row.pruned_digest),
            (row.pepper_id, row.mac),
        ),
        digest_at_stored: row.digest_there.map(to_digest),
        last_unsigned: row.last_unsigned,
    });
    Ok(ends.collect())
}

/// Stores heads in place of the organizations' earlier ones. If two servers do so at once, the
/// later head is kept. A head is ignored if it was computed before a pruning, or allows fewer
/// unsigned events than the stored one.
pub async fn store_heads(
    db: &mut PgConnection,
    heads: &[(OrganizationId, SignedHead)],
    at: DateTime<Utc>,
) -> Result<()> {
    let organizations: Vec<Uuid> = heads.iter().map(|(organization, _)| organization.0).collect();
    let heads = || heads.iter().map(|(_, head)| head);
    let positions: Vec<i64> = heads().map(|head| head.position).collect();
    let digests: Vec<Vec<u8>> = heads().map(|head| head.digest.to_vec()).collect();
    let unsigned_until: Vec<i64> = heads().map(|head| head.unsigned_until).collect();
    let pruned_until: Vec<i64> = heads().map(|head| head.pruned.until).collect();
    let pruned_digests: Vec<Vec<u8>> = heads().map(|head| head.pruned.digest.to_vec()).collect();
    let peppers: Vec<String> = heads().map(|head| head.pepper_id.clone()).collect();
    let macs: Vec<Vec<u8>> = heads().map(|head| head.mac.to_vec()).collect();
    sqlx::query!(
        "insert into audit_heads as kept (organization_id, position, digest, unsigned_until,
                                          pruned_until, pruned_digest, pepper_id, mac,
                                          published_at)
         select n.*, $9 from unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::bigint[],
                                    $5::bigint[], $6::bytea[], $7::text[], $8::bytea[]) n
         on conflict on constraint audit_heads_pkey do update
             set position = excluded.position, digest = excluded.digest,
                 unsigned_until = excluded.unsigned_until, pepper_id = excluded.pepper_id,
                 mac = excluded.mac, published_at = excluded.published_at
             where kept.position <= excluded.position
               and kept.unsigned_until <= excluded.unsigned_until
               and kept.pruned_until = excluded.pruned_until",
        &organizations,
        &positions,
        &digests,
        &unsigned_until,
        &pruned_until,
        &pruned_digests,
        &peppers,
        &macs,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the handles of organizations with a stored head and no chain. An organization without a
/// row is named by its id.
pub async fn list_heads_without_chain(db: &mut PgConnection) -> Result<Vec<String>> {
    let handles = sqlx::query_scalar!(
        r#"select coalesce(o.handle, h.organization_id::text) as "handle!"
           from audit_heads h left join organizations o on o.id = h.organization_id
           where not exists (
               select from audit_links l where l.organization_id = h.organization_id)
           order by 1"#,
    );
    Ok(handles.fetch_all(db).await?)
}

/// Returns the start of signing; `None` if it is not recorded yet.
pub async fn find_signing_start(db: &mut PgConnection) -> Result<Option<SigningStart>> {
    let row = sqlx::query!(
        "select started_at, unsigned_until, pepper_id, mac from audit_signing
         where organization_id = $1",
        OrganizationId::SYSTEM.0,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| SigningStart {
        started_at: row.started_at,
        unsigned_until: row.unsigned_until,
        pepper_id: row.pepper_id,
        mac: to_digest(row.mac),
    }))
}

/// Returns whether there are events, and whether any of them has a MAC.
pub async fn has_events(db: &mut PgConnection) -> Result<(bool, bool)> {
    let row = sqlx::query!(
        r#"select exists (select from audit_events) as "any!",
                  exists (select from audit_events where mac is not null) as "signed!""#,
    )
    .fetch_one(db)
    .await?;
    Ok((row.any, row.signed))
}

/// Stores the start of signing. If servers start at the same time, the first one's is kept.
/// `renewed` replaces the MAC of the stored one.
pub async fn store_signing_start(
    db: &mut PgConnection,
    start: &SigningStart,
    renewed: bool,
) -> Result<()> {
    sqlx::query!(
        "insert into audit_signing (organization_id, started_at, unsigned_until, pepper_id, mac)
         values ($1, $2, $3, $4, $5)
         on conflict on constraint audit_signing_pkey do update
             set pepper_id = excluded.pepper_id, mac = excluded.mac where $6",
        OrganizationId::SYSTEM.0,
        start.started_at,
        start.unsigned_until,
        start.pepper_id,
        &start.mac[..],
        renewed,
    )
    .execute(db)
    .await?;
    Ok(())
}
