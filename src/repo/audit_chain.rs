//! The seal on the trails. Links are made by the database itself, at the end of the transaction
//! that adds an event; here they are read, of all organizations.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::audit_chain::{Head, Link};
use crate::model::ids::OrganizationId;

/// A digest as the database holds it. One of another length is none of ours, and fits nothing.
fn digest(bytes: Vec<u8>) -> [u8; 32] {
    bytes.try_into().unwrap_or_default()
}

/// At most `limit` links, chain after chain: those behind the link with this organization, position
/// and digest, or the first. Each is held against its event and the link before it.
///
/// # Errors
/// The database's own.
pub async fn links(
    db: &mut PgConnection,
    (of, position, before): (OrganizationId, i64, Option<[u8; 32]>),
    limit: i64,
) -> Result<Vec<Link>> {
    let rows = sqlx::query!(
        r#"select l.organization_id, coalesce(o.handle, l.organization_id::text) as "handle!",
                  l.position, l.event_id, l.digest, e.id is not null as "has_event!",
                  coalesce(e.organization_id = l.organization_id and l.digest = audit_digest(
                      coalesce(lag(l.digest) over chain,
                               case when l.organization_id = $1 then $3::bytea end),
                      l.position, e), false) as "fits!"
           from (select * from audit_links where (organization_id, position) > ($1, $2)
                 order by organization_id, position limit $4) l
           left join audit_events e on e.id = l.event_id
           left join organizations o on o.id = l.organization_id
           window chain as (partition by l.organization_id order by l.position)
           order by l.organization_id, l.position"#,
        of.0,
        position,
        before.as_ref().map(|digest| &digest[..]),
        limit,
    )
    .fetch_all(db)
    .await?;
    let links = rows.into_iter().map(|row| Link {
        organization: OrganizationId(row.organization_id),
        handle: row.handle,
        position: row.position,
        event: row.event_id,
        digest: digest(row.digest),
        has_event: row.has_event,
        fits: row.fits,
    });
    Ok(links.collect())
}

/// Which of the next `limit` events after the place `after` have no link: their organizations'
/// handles and their places; and the place of the last event that was looked at, if any was.
///
/// # Errors
/// The database's own.
pub async fn without_link(
    db: &mut PgConnection,
    after: i64,
    limit: i64,
) -> Result<(Vec<(String, i64)>, Option<i64>)> {
    let row = sqlx::query!(
        r#"select max(e.id) as last,
                  coalesce(array_agg(e.id order by e.id) filter (where l.event_id is null), '{}')
                      as "events!",
                  coalesce(array_agg(coalesce(o.handle, e.organization_id::text) order by e.id)
                               filter (where l.event_id is null), '{}') as "handles!"
           from (select id, organization_id from audit_events where id > $1
                 order by id limit $2) e
           left join audit_links l on l.event_id = e.id
           left join organizations o on o.id = e.organization_id"#,
        after,
        limit,
    )
    .fetch_one(db)
    .await?;
    Ok((row.handles.into_iter().zip(row.events).collect(), row.last))
}

/// The heads of the chains of at most `limit` organizations, from that with the least id that is at
/// least `from` on.
///
/// # Errors
/// The database's own.
pub async fn heads(
    db: &mut PgConnection,
    from: Uuid,
    limit: i64,
) -> Result<Vec<(OrganizationId, Head)>> {
    let rows = sqlx::query!(
        "select o.id, o.handle, head.position, head.digest
         from organizations o
         cross join lateral (
             select position, digest from audit_links where organization_id = o.id
             order by position desc limit 1) head
         where o.id >= $1 order by o.id limit $2",
        from,
        limit,
    )
    .fetch_all(db)
    .await?;
    let heads = rows.into_iter().map(|row| {
        let (organization, position) = (row.handle, row.position);
        let head = Head { organization, position, digest: digest(row.digest) };
        (OrganizationId(row.id), head)
    });
    Ok(heads.collect())
}
