//! The chains of the audit log. The database creates the links itself, at the end of the
//! transaction that inserts an event. This module only reads the rows, of all organizations; no
//! function of the database verifies them.

use chrono::{DateTime, Utc};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef, Postgres};
use sqlx::types::{Json, JsonRawValue};
use sqlx::{Decode, PgConnection, Type};
use uuid::Uuid;

use crate::error::Result;
use crate::model::audit_chain::ChainLink;
use crate::model::audit_digest::AuditEventRow;
use crate::model::audit_seal::{PrunedPrefix, SignedHead};
use crate::model::ids::OrganizationId;

/// The epoch of Postgres's timestamps, 2000-01-01 UTC, in microseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// A time in microseconds since 1970, which can be infinite or outside of chrono's range.
struct Micros(i64);

impl Type<Postgres> for Micros {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for Micros {
    /// Decodes the binary format, which results of prepared statements have.
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let count = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        Ok(Self(match count {
            i64::MIN | i64::MAX => count,
            count => count.saturating_add(POSTGRES_EPOCH),
        }))
    }
}

/// Converts a stored digest. One of another length was not written by Tenantry, and becomes zeros,
/// which match nothing.
pub(super) fn to_digest(bytes: Vec<u8>) -> [u8; 32] {
    bytes.try_into().unwrap_or_default()
}

/// Converts the columns of a stored head, if there is one.
pub(super) fn to_signed_head(
    (position, end): (Option<i64>, Option<Vec<u8>>),
    unsigned_until: Option<i64>,
    (pruned_until, pruned_digest): (Option<i64>, Option<Vec<u8>>),
    (pepper_id, mac): (Option<String>, Option<Vec<u8>>),
) -> Option<SignedHead> {
    Some(SignedHead {
        position: position?,
        digest: to_digest(end?),
        unsigned_until: unsigned_until?,
        pruned: PrunedPrefix { until: pruned_until?, digest: to_digest(pruned_digest?) },
        pepper_id: pepper_id?,
        mac: to_digest(mac?),
    })
}

struct Row {
    organization_id: Uuid,
    handle: String,
    position: i64,
    event_id: i64,
    digest: Vec<u8>,
    seal: Option<Vec<u8>>,
    owner: Option<Uuid>,
    event_type: Option<String>,
    actor: Option<String>,
    target: Option<String>,
    method: Option<String>,
    path: Option<String>,
    status: Option<i16>,
    address: Option<String>,
    request_id: Option<String>,
    key_display_id: Option<String>,
    detail: Option<Json<Box<JsonRawValue>>>,
    created_at: Option<Micros>,
    nonce: Option<Uuid>,
    pepper_id: Option<String>,
    mac: Option<Vec<u8>>,
    head_position: Option<i64>,
    head_digest: Option<Vec<u8>>,
    head_unsigned_until: Option<i64>,
    head_pruned_until: Option<i64>,
    head_pruned_digest: Option<Vec<u8>>,
    head_pepper_id: Option<String>,
    head_mac: Option<Vec<u8>>,
}

impl From<Row> for ChainLink {
    fn from(mut row: Row) -> Self {
        Self {
            organization: OrganizationId(row.organization_id),
            head: to_signed_head(
                (row.head_position, row.head_digest.take()),
                row.head_unsigned_until,
                (row.head_pruned_until, row.head_pruned_digest.take()),
                (row.head_pepper_id.take(), row.head_mac.take()),
            ),
            position: row.position,
            digest: to_digest(std::mem::take(&mut row.digest)),
            seal: row.seal.take().map(to_digest),
            event_id: row.event_id,
            handle: std::mem::take(&mut row.handle),
            stored: row.into_event(),
        }
    }
}

impl Row {
    /// Returns the event; `None` if its row does not exist. Columns that cannot be null are then
    /// absent.
    fn into_event(self) -> Option<AuditEventRow> {
        Some(AuditEventRow {
            id: self.event_id,
            organization: OrganizationId(self.owner?),
            event_type: self.event_type?,
            actor: self.actor?,
            target: self.target?,
            method: self.method?,
            path: self.path?,
            status: self.status,
            address: self.address,
            request_id: self.request_id?,
            key_display_id: self.key_display_id,
            detail: self.detail?.0.get().to_owned(),
            created_at: self.created_at?.0,
            seal: match (self.nonce, self.pepper_id, self.mac) {
                (Some(nonce), Some(pepper_id), Some(mac)) => {
                    Some((nonce, pepper_id, to_digest(mac)))
                }
                _ => None,
            },
        })
    }
}

/// Returns at most `limit` links, chain by chain: those after the link with this organization and
/// position, each with its event and its organization's stored head.
pub async fn list_links(
    db: &mut PgConnection,
    (organization, position): (OrganizationId, i64),
    limit: i64,
) -> Result<Vec<ChainLink>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select l.organization_id, coalesce(o.handle, l.organization_id::text) as "handle!",
                  l.position, l.event_id, l.digest, l.seal,
                  e.organization_id as "owner?", e.event_type as "event_type?",
                  e.actor as "actor?", e.target as "target?", e.method as "method?",
                  e.path as "path?", e.status, e.address, e.request_id as "request_id?",
                  e.key_display_id, e.detail as "detail?: Json<Box<JsonRawValue>>",
                  e.created_at as "created_at?: Micros", e.nonce, e.pepper_id, e.mac,
                  h.position as "head_position?", h.digest as "head_digest?",
                  h.unsigned_until as "head_unsigned_until?",
                  h.pruned_until as "head_pruned_until?",
                  h.pruned_digest as "head_pruned_digest?",
                  h.pepper_id as "head_pepper_id?", h.mac as "head_mac?"
           from audit_links l
           left join audit_events e on e.id = l.event_id
           left join organizations o on o.id = l.organization_id
           left join audit_heads h on h.organization_id = l.organization_id
           where (l.organization_id, l.position) > ($1, $2)
           order by l.organization_id, l.position limit $3"#,
        organization.0,
        position,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(ChainLink::from).collect())
}

/// Returns which of the next `limit` events after the row id `after` have no link in their
/// organization's chain: their organizations' handles and their row ids; and the row id of the last
/// event that was checked. A link in the part of a chain that retention removed does not count.
pub async fn list_unlinked_events(
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
           left join audit_heads h on h.organization_id = e.organization_id
           left join audit_links l
               on l.event_id = e.id and l.organization_id = e.organization_id
                  and l.position > coalesce(h.pruned_until, 0)
           left join organizations o on o.id = e.organization_id"#,
        after,
        limit,
    )
    .fetch_one(db)
    .await?;
    Ok((row.handles.into_iter().zip(row.events).collect(), row.last))
}
