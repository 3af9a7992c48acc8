//! Entries about changed credentials and what they depend on. Triggers write them (migration 0041);
//! a server that caches answers asks with each batch of lookups what has changed since.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;

/// The number of changes from which they are not listed, and everything counts as changed.
const MAX_CHANGES: i64 = 10_000;

/// Which transactions a statement could see. Later statements see all of these and more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Identifies the running database: its start, the file of the table, and the epoch, which a
    /// crash removes. Another database counts transactions anew.
    instance: (DateTime<Utc>, String, Uuid),
    /// The first transaction that had not started. All earlier ones that were not `running` could
    /// be seen.
    first_unstarted: i64,
    running: Vec<i64>,
    /// When the snapshot was taken, by the database's clock.
    pub taken_at: DateTime<Utc>,
}

impl Snapshot {
    /// Returns a snapshot of a database without transactions.
    #[cfg(test)]
    #[must_use]
    pub fn for_test(taken_at: DateTime<Utc>) -> Self {
        Self {
            instance: (DateTime::UNIX_EPOCH, String::new(), Uuid::nil()),
            first_unstarted: 0,
            running: Vec::new(),
            taken_at,
        }
    }

    /// Returns whether a later snapshot shows what changed since this one. It does not if the two
    /// are of different databases, or of one that was reset to an earlier state.
    fn precedes(&self, later: &Self) -> bool {
        self.instance == later.instance && self.first_unstarted <= later.first_unstarted
    }
}

/// What has changed since an earlier snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Changes {
    /// The rows with these ids.
    Of(Vec<Uuid>),
    /// Any row, or it is unknown which.
    All,
}

/// Returns a new snapshot and what has become visible between `last` and it; `None` if none can be
/// taken: on a standby, which does not know which transactions are running, and in a database that
/// has not begun an epoch since it crashed. Applies to all organizations.
///
/// Invariant: every statement that begins later sees at least what the new snapshot does.
pub async fn find_since(
    db: &mut PgConnection,
    last: Option<&Snapshot>,
) -> Result<Option<(Snapshot, Changes)>> {
    let row = sqlx::query!(
        r#"select pg_postmaster_start_time() as "started!",
                  pg_relation_filepath('credential_changes') as "file!",
                  (select subject from database_epochs) as epoch,
                  clock_timestamp() as "now!",
                  pg_snapshot_xmax(pg_current_snapshot())::text::bigint as "first_unstarted!",
                  array(select running::text::bigint
                        from pg_snapshot_xip(pg_current_snapshot()) as x (running)) as "running!",
                  -- A restored dump contains ids of transactions that are still to come. Entries of
                  -- transactions that are still running cannot be seen, and would only be skipped.
                  array((select subject from credential_changes
                         where transaction_id >= $1 and transaction_id
                               < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
                         limit $3)
                        union all
                        (select subject from credential_changes
                         where transaction_id = any(array(
                             select id from unnest($2::bigint[]) as r (id)
                             where pg_visible_in_snapshot(id::text::xid8, pg_current_snapshot())))
                         limit $3)) as "changed!: Vec<Option<Uuid>>""#,
        // Without a snapshot, nothing is asked for.
        last.map_or(i64::MAX, |last| last.first_unstarted),
        last.map_or(&[][..], |last| &last.running),
        MAX_CHANGES,
    )
    .fetch_one(db)
    .await;
    let row = match row {
        Err(error) if is_standby(&error) => return Ok(None),
        row => row?,
    };
    let Some(epoch) = row.epoch else { return Ok(None) };
    let snapshot = Snapshot {
        instance: (row.started, row.file, epoch),
        first_unstarted: row.first_unstarted,
        running: row.running,
        taken_at: row.now,
    };
    let is_complete = last.is_some_and(|last| last.precedes(&snapshot))
        && i64::try_from(row.changed.len()).is_ok_and(|count| count < MAX_CHANGES);
    let subjects: Option<Vec<Uuid>> = row.changed.into_iter().collect();
    let changes = subjects.filter(|_| is_complete).map_or(Changes::All, Changes::Of);
    Ok(Some((snapshot, changes)))
}

/// Returns whether a statement failed because the database is a standby, where unlogged tables
/// cannot be read.
fn is_standby(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "0A000")
}

/// Begins an epoch if recovery after a crash has removed the last one.
pub async fn begin_epoch(db: &mut PgConnection) -> Result<()> {
    sqlx::query!(
        "insert into database_epochs (subject) values (gen_random_uuid()) on conflict do nothing"
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes up to 1,000 entries that every snapshot of the last 10 minutes has seen; returns how
/// many. Applies to all organizations.
///
/// Invariant: a server discards the answers that it keeps when its snapshot is older than 5
/// minutes. An entry can become visible long after its creation, so only entries of transactions
/// that had ended 10 minutes ago are removed: those before the `horizon` of an entry of that age.
/// The transaction of an entry is its row's `xmin`. After a savepoint, or in a restored dump,
/// `transaction_id` differs from it, and the entry's `horizon` cannot be used. So this function
/// inserts an entry whose `horizon` can.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    sqlx::query!(
        "insert into credential_changes (subject)
         select gen_random_uuid() where exists (select from credential_changes)",
    )
    .execute(&mut *db)
    .await?;
    let result = sqlx::query!(
        "delete from credential_changes where ctid = any(array(
             select c.ctid from credential_changes c
             cross join (select horizon from credential_changes
                         where created_at < clock_timestamp() - interval '10 minutes'
                           and xmin::text::bigint = transaction_id % 4294967296
                         order by created_at desc limit 1) h
             where age(c.xmin) > age((h.horizon % 4294967296)::text::xid)
             limit 1000 for update of c skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(started: i64, file: &str, epoch: u128, first_unstarted: i64) -> Snapshot {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("a time");
        let instance = (at(started), file.to_owned(), Uuid::from_u128(epoch));
        Snapshot { instance, first_unstarted, running: Vec::new(), taken_at: at(0) }
    }

    #[test]
    fn changes_are_known_only_between_two_snapshots_of_one_running_database() {
        let last = snapshot(1, "base/1/7", 1, 100);
        assert!(last.precedes(&snapshot(1, "base/1/7", 1, 100)));
        assert!(last.precedes(&snapshot(1, "base/1/7", 1, 101)));
        assert!(!last.precedes(&snapshot(2, "base/1/7", 1, 101)), "restarted, or another server");
        assert!(!last.precedes(&snapshot(1, "base/2/7", 1, 101)), "another database");
        assert!(!last.precedes(&snapshot(1, "base/1/7", 2, 101)), "recovered from a crash");
        assert!(!last.precedes(&snapshot(1, "base/1/7", 1, 99)), "reset to an earlier state");
    }
}
