//! The audit log. Events are inserted in the transaction of the change, and never updated.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::{Error, Result};
use crate::model::audit::{AuditEventFilter, AuditEventType, NewAuditEvent, RecordedAuditEvent};
use crate::model::audit_detail;
use crate::model::ids::OrganizationId;

/// The number of events after which [`insert_all`] adds their links.
const LINK_BATCH: usize = 100;

/// Inserts an event with its MAC. When the transaction commits, the database appends a link to the
/// organization's chain, one transaction at a time, and seals it with the event's key, which it
/// does not store.
///
/// Invariant: a transaction that writes to several organizations' audit logs does so in the order
/// of their ids; otherwise two transactions could deadlock.
pub async fn insert(db: &mut PgConnection, event: &NewAuditEvent<'_>) -> Result<()> {
    // The signed content must equal the stored content, so the detail is bounded first.
    let detail = audit_detail::bounded(&event.detail);
    let event = &NewAuditEvent { detail, ..event.clone() };
    let seal = event.seal();
    let seal = seal.ok_or_else(|| Error::internal("no pepper to sign audit events under"))?;
    sqlx::query_scalar!(
        "insert into audit_events (organization_id, event_type, actor, target, method, path,
                                   status, address, request_id, key_display_id, detail,
                                   created_at, nonce, pepper_id, mac)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         returning set_config('app.audit_keys',
                              concat(current_setting('app.audit_keys', true),
                                     $13::uuid, ':', encode($16, 'hex')), true) is not null",
        event.organization.0,
        event.event_type.as_str(),
        event.actor,
        event.target,
        event.audit.method,
        event.audit.path,
        event.audit.status.and_then(|status| i16::try_from(status).ok()),
        event.audit.address.map(|address| address.to_string()),
        event.audit.request_id,
        event.key_display_id,
        event.detail,
        event.audit.at,
        seal.nonce,
        seal.pepper_id,
        &seal.mac[..],
        &seal.link_key[..],
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// Inserts events of several organizations, in the order that [`insert`] requires.
pub async fn insert_all(db: &mut PgConnection, mut events: Vec<NewAuditEvent<'_>>) -> Result<()> {
    events.sort_by_key(|event| event.organization);
    for (number, event) in events.iter().enumerate() {
        if number > 0 && number.is_multiple_of(LINK_BATCH) {
            link_inserted(db).await?;
        }
        insert(db, event).await?;
    }
    Ok(())
}

/// Adds the links of the events that the transaction inserted so far, before it commits, and
/// discards their keys. Otherwise the time for each link grows with the number of keys in the
/// transaction.
pub async fn link_inserted(tx: &mut PgConnection) -> Result<()> {
    let link = "set constraints audit_events_link immediate;
                set constraints audit_events_link deferred";
    sqlx::raw_sql(link).execute(&mut *tx).await?;
    sqlx::query_scalar!("select set_config('app.audit_keys', '', true)").fetch_one(tx).await?;
    Ok(())
}

struct Row {
    id: i64,
    event_type: String,
    actor: String,
    target: String,
    method: String,
    path: String,
    status: Option<i16>,
    address: Option<String>,
    request_id: String,
    key_display_id: Option<String>,
    detail: serde_json::Value,
    created_at: DateTime<Utc>,
}

impl From<Row> for RecordedAuditEvent {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            event_type: row.event_type,
            actor: row.actor,
            target: row.target,
            method: row.method,
            path: row.path,
            status: row.status.and_then(|status| u16::try_from(status).ok()),
            address: row.address,
            request_id: row.request_id,
            key_display_id: row.key_display_id,
            detail: row.detail,
            created_at: row.created_at,
        }
    }
}

/// Returns at most `limit` events of the organization's audit log, newest first: those before the
/// row id `after`, or the newest.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    filter: &AuditEventFilter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<RecordedAuditEvent>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, event_type, actor, target, method, path, status, address, request_id,
                key_display_id, detail, created_at
         from audit_events
         where organization_id = $1
           and ($2::text is null or event_type = $2)
           and ($3::timestamptz is null or created_at >= $3)
           and ($4::timestamptz is null or created_at < $4)
           and ($5::bigint is null or id < $5)
         order by id desc
         limit $6",
        organization.0,
        filter.event_type.map(AuditEventType::as_str),
        filter.since,
        filter.until,
        after,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(RecordedAuditEvent::from).collect())
}

/// Returns a page of the organization's audit events whose type, actor or target contains `search`,
/// newest first, and their total count.
pub async fn list_page(
    db: &mut PgConnection,
    organization: OrganizationId,
    filter: &AuditEventFilter,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<RecordedAuditEvent>, i64)> {
    let rows = sqlx::query_as!(
        Row,
        "select id, event_type, actor, target, method, path, status, address, request_id,
                key_display_id, detail, created_at
         from audit_events
         where organization_id = $1
           and ($2::text is null or event_type = $2)
           and ($3::timestamptz is null or created_at >= $3)
           and ($4::timestamptz is null or created_at < $4)
           and ($5::text is null or strpos(lower(event_type), lower($5)) > 0
                or strpos(lower(actor), lower($5)) > 0 or strpos(lower(target), lower($5)) > 0)
         order by id desc offset $6 limit $7",
        organization.0,
        filter.event_type.map(AuditEventType::as_str),
        filter.since,
        filter.until,
        search,
        offset,
        limit,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from audit_events
           where organization_id = $1
             and ($2::text is null or event_type = $2)
             and ($3::timestamptz is null or created_at >= $3)
             and ($4::timestamptz is null or created_at < $4)
             and ($5::text is null or strpos(lower(event_type), lower($5)) > 0
                  or strpos(lower(actor), lower($5)) > 0 or strpos(lower(target), lower($5)) > 0)"#,
        organization.0,
        filter.event_type.map(AuditEventType::as_str),
        filter.since,
        filter.until,
        search,
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().map(RecordedAuditEvent::from).collect(), total))
}
