//! Entries about changed credentials and what they depend on. Triggers write them (migration 0041);
//! a server that keeps answers in memory asks with each batch of lookups what has changed since.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};

/// The number of changes from which on none is named, and everything counts as changed.
const MAX_CHANGES: i64 = 10_000;

/// Which transactions a statement could see. Later statements see all of these and more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Identifies the running database: its start and its table. Another one counts transactions
    /// anew.
    instance: (DateTime<Utc>, i64),
    /// The first transaction that had not started. Of the earlier ones, all could be seen that were
    /// not `running`.
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
        Self { instance: (taken_at, 0), first_unstarted: 0, running: Vec::new(), taken_at }
    }

    /// Returns whether changes since this snapshot can be told by a later one: not if the two are
    /// of different databases, or of one that was reset to an earlier state.
    fn precedes(&self, later: &Self) -> bool {
        self.instance == later.instance && self.first_unstarted <= later.first_unstarted
    }
}

/// What has changed since an earlier snapshot.
#[derive(Debug, PartialEq, Eq)]
pub enum Changes {
    /// The rows with these ids.
    Of(Vec<Uuid>),
    /// Any row, or it cannot be told.
    All,
}

/// Returns a new snapshot and what has become visible between `last` and it. Applies to all
/// organizations.
///
/// Invariant: every statement that begins later sees at least what the new snapshot does.
///
/// # Errors
/// Unavailable on a standby, which does not know which transactions are running.
pub async fn find_since(
    db: &mut PgConnection,
    last: Option<&Snapshot>,
) -> Result<(Snapshot, Changes)> {
    let row = sqlx::query!(
        r#"select pg_is_in_recovery() as "is_in_recovery!",
                  pg_postmaster_start_time() as "started!",
                  'credential_changes'::regclass::oid::bigint as "table!",
                  clock_timestamp() as "now!",
                  pg_snapshot_xmax(pg_current_snapshot())::text::bigint as "first_unstarted!",
                  array(select running::text::bigint
                        from pg_snapshot_xip(pg_current_snapshot()) as x (running)) as "running!",
                  -- A restored dump contains ids of transactions that are still to come.
                  array((select subject from credential_changes
                         where transaction_id >= $1 and transaction_id
                               < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
                         limit $3)
                        union all
                        (select subject from credential_changes
                         where transaction_id = any($2)
                         limit $3)) as "changed!: Vec<Option<Uuid>>""#,
        // Without a snapshot, nothing is asked for.
        last.map_or(i64::MAX, |last| last.first_unstarted),
        last.map_or(&[][..], |last| &last.running),
        MAX_CHANGES,
    )
    .fetch_one(db)
    .await?;
    if row.is_in_recovery {
        return Err(Error::unavailable("a standby does not know which transactions are running"));
    }
    let snapshot = Snapshot {
        instance: (row.started, row.table),
        first_unstarted: row.first_unstarted,
        running: row.running,
        taken_at: row.now,
    };
    let is_complete = last.is_some_and(|last| last.precedes(&snapshot))
        && i64::try_from(row.changed.len()).is_ok_and(|count| count < MAX_CHANGES);
    let subjects: Option<Vec<Uuid>> = row.changed.into_iter().collect();
    let changes = subjects.filter(|_| is_complete).map_or(Changes::All, Changes::Of);
    Ok((snapshot, changes))
}

/// Removes up to 1,000 entries that every snapshot of the last 10 minutes has seen; returns how
/// many. Applies to all organizations.
///
/// Invariant: whoever keeps answers discards them when its snapshot is older than 5 minutes. The
/// age of an entry says nothing about when its transaction committed, so entries are compared with
/// the transactions that had ended 10 minutes ago, as an entry from then remembers.
///
/// Entries of a restored dump name transactions of another database. What distinguishes them is
/// that another transaction, that of the restore, wrote their rows.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from credential_changes where ctid = any(array(
             select c.ctid from credential_changes c
             where c.transaction_id < (
                       select horizon from credential_changes
                       where created_at < clock_timestamp() - interval '10 minutes'
                         and xmin::text::bigint = transaction_id % 4294967296
                       order by created_at desc limit 1)
                or c.created_at < clock_timestamp() - interval '10 minutes'
                   and c.xmin::text::bigint <> c.transaction_id % 4294967296
             limit 1000 for update of c skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(started: i64, table: i64, first_unstarted: i64) -> Snapshot {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("a time");
        let (instance, running) = ((at(started), table), Vec::new());
        Snapshot { instance, first_unstarted, running, taken_at: at(0) }
    }

    #[test]
    fn changes_can_be_told_only_between_two_snapshots_of_one_running_database() {
        let last = snapshot(1, 7, 100);
        assert!(last.precedes(&snapshot(1, 7, 100)));
        assert!(last.precedes(&snapshot(1, 7, 101)));
        assert!(!last.precedes(&snapshot(2, 7, 101)), "restarted, or another server");
        assert!(!last.precedes(&snapshot(1, 8, 101)), "another database");
        assert!(!last.precedes(&snapshot(1, 7, 99)), "reset to an earlier state");
    }
}
