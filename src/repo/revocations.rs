//! Entries about credentials and organizations that ended or lost permissions. Triggers write them
//! (migration 0038); verifiers read them from where they stopped.

use std::iter::repeat_with;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::ids::KeyId;
use crate::model::revocation::{Revocation, RevocationCursor};

/// The maximum number of entries that a read returns.
const MAX_ENTRIES: i64 = 1_000;

/// The entries after a cursor, and the cursor after them.
#[derive(Clone)]
pub struct RevocationPage {
    /// The entries, at most 1,000. An entry may be repeated in a later page, and is never skipped.
    pub entries: Vec<Revocation>,
    /// Where the next page begins.
    pub cursor: RevocationCursor,
}

struct Row {
    reader: i64,
    is_in_recovery: bool,
    has_epoch: bool,
    instance: i64,
    now: i64,
    first_unstarted: i64,
    running: Vec<i64>,
    transaction_id: Option<i64>,
    id: Option<i64>,
    event: Option<String>,
    organization_handle: Option<String>,
    key_id: Option<Uuid>,
    at: Option<DateTime<Utc>>,
}

impl Row {
    /// Returns the cursor after everything that has been visible to this row's statement.
    fn newest_cursor(&self) -> RevocationCursor {
        RevocationCursor {
            instance: self.instance,
            created_at: self.now,
            transaction: self.first_unstarted,
            entry: 0,
            running: self.running.clone(),
        }
    }

    fn into_entry(self) -> Option<Revocation> {
        Some(Revocation {
            event: self.event?,
            organization_handle: self.organization_handle?,
            key: self.key_id.map(KeyId::from_uuid),
            at: self.at?,
        })
    }
}

/// Returns a page for each reader: after its cursor, or without entries for `None`. Returns no
/// pages if the database has begun no epoch since it crashed. Applies to all organizations.
///
/// # Errors
/// Unavailable on a standby, which does not know which transactions are running.
pub async fn read(
    db: &mut PgConnection,
    readers: &[Option<&RevocationCursor>],
) -> Result<Option<Vec<RevocationPage>>> {
    let transactions: Vec<Option<i64>> =
        readers.iter().map(|cursor| cursor.map(|it| it.transaction)).collect();
    let entries: Vec<Option<i64>> =
        readers.iter().map(|cursor| cursor.map(|it| it.entry)).collect();
    let running: Vec<String> = readers.iter().map(|cursor| array_of(*cursor)).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select r.n as "reader!", pg_is_in_recovery() as "is_in_recovery!",
                  exists (select from database_epochs) as "has_epoch!",
                  hashtextextended(concat_ws(' ', pg_postmaster_start_time() at time zone 'UTC',
                                             d.oid, 'revocations'::regclass::oid,
                                             (select subject from database_epochs)), 0)
                      as "instance!",
                  extract(epoch from now())::bigint as "now!",
                  s.first_unstarted as "first_unstarted!", s.running as "running!",
                  e.transaction_id as "transaction_id?", e.id as "id?", e.type as "event?",
                  o.handle as "organization_handle?", e.key_id as "key_id?", e.created_at as "at?"
           from unnest($1::bigint[], $2::bigint[], $3::text[])
                with ordinality as r (transaction_id, entry, running, n)
           cross join (
               select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as first_unstarted,
                      array(select running::text::bigint
                            from pg_snapshot_xip(pg_current_snapshot()) as x (running)
                            order by running) as running) s
           join pg_database d on d.datname = current_database()
           left join lateral (
               (select n.* from revocations n
                where (n.transaction_id, n.id) > (r.transaction_id, r.entry)
                  -- A restored dump contains ids that are still to come.
                  and n.transaction_id < s.first_unstarted
                order by n.transaction_id, n.id
                limit $4)
               union all
               (select late.* from revocations late
                where late.transaction_id = any(r.running::bigint[])
                order by late.transaction_id, late.id
                limit $4)
               order by transaction_id, id
               limit $4) e on true
           left join organizations o on o.id = e.organization_id
           order by r.n, e.transaction_id, e.id"#,
        &transactions as &[Option<i64>],
        &entries as &[Option<i64>],
        &running,
        MAX_ENTRIES,
    )
    .fetch_all(db)
    .await?;
    if rows.iter().any(|row| !row.has_epoch) {
        return Ok(None);
    }
    into_pages(rows, readers.len()).map(Some)
}

/// Returns the array of a cursor's running transactions, as Postgres reads it.
fn array_of(cursor: Option<&RevocationCursor>) -> String {
    let running = cursor.map(|cursor| &cursor.running[..]).unwrap_or_default();
    let running: Vec<String> = running.iter().map(ToString::to_string).collect();
    format!("{{{}}}", running.join(","))
}

/// Divides the rows among the readers. Each reader has at least one row, which may have no entry.
fn into_pages(rows: Vec<Row>, readers: usize) -> Result<Vec<RevocationPage>> {
    let mut rows = rows.into_iter().peekable();
    let mut reader = 0;
    let next_page = || {
        reader += 1;
        let of_reader: Vec<Row> =
            repeat_with(|| rows.next_if(|row| row.reader == reader)).map_while(|row| row).collect();
        into_page(of_reader)
    };
    repeat_with(next_page).take(readers).collect()
}

fn into_page(rows: Vec<Row>) -> Result<RevocationPage> {
    let last = rows.last().ok_or_else(|| Error::internal("a reader of revocations has no row"))?;
    if last.is_in_recovery {
        return Err(Error::unavailable("a standby does not know which transactions are running"));
    }
    let mut cursor = last.newest_cursor();
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= MAX_ENTRIES);
    if is_full && let (Some(transaction), Some(entry)) = (last.transaction_id, last.id) {
        (cursor.transaction, cursor.entry) = (transaction, entry);
    }
    let entries = rows.into_iter().filter_map(Row::into_entry).collect();
    Ok(RevocationPage { entries, cursor: cursor.bounded() })
}

/// Removes up to 1,000 entries that are older than 25 hours; returns how many. Applies to all
/// organizations.
///
/// Invariant: an entry is kept for as long as a valid cursor may precede it: 24 hours, and the hour
/// that the longest transaction may take from its change to its commit.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from revocations where ctid = any(array(
             select ctid from revocations where created_at < now() - interval '25 hours'
             limit 1000 for update skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
