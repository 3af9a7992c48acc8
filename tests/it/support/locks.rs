//! A lock that stops the server's work at a chosen place.

use std::fmt::Debug;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::waiting::wait_until_async;

/// A lock on a table. Work that writes the table waits for it until it is released.
pub struct TableLock(PgConnection);

impl TableLock {
    /// Stops work when it writes the table. The table can be read meanwhile.
    pub async fn before_write(mut db: PgConnection, table: &str) -> Self {
        execute(&mut db, format!("begin; lock table {table} in share row exclusive mode")).await;
        Self(db)
    }

    /// Stops work that has written the table when it commits: the database has received the
    /// `COMMIT` and has not answered it.
    pub async fn before_commit(mut db: PgConnection, table: &str) -> Self {
        let trigger = format!(
            "create or replace function wait_for_lock_of_test() returns trigger language plpgsql
                 as $$ begin perform pg_advisory_xact_lock_shared(1); return null; end $$;
             drop trigger if exists wait_for_lock_of_test on {table};
             create constraint trigger wait_for_lock_of_test after insert or update on {table}
                 deferrable initially deferred
                 for each row execute function wait_for_lock_of_test();
             select pg_advisory_lock(1)"
        );
        execute(&mut db, trigger).await;
        Self(db)
    }

    /// Waits until a statement waits for this lock; returns it.
    pub async fn blocked_statement(&mut self) -> String {
        let mut statement = None;
        wait_until_async("a statement waits for the lock", async || {
            // Otherwise later queries would see the first query's statistics.
            execute(&mut self.0, "select pg_stat_clear_snapshot()".to_owned()).await;
            let blocked = "select query from pg_stat_activity
                           where pg_backend_pid() = any(pg_blocking_pids(pid)) limit 1";
            statement = sqlx::query_scalar(blocked).fetch_optional(&mut self.0).await.unwrap();
            statement.is_some()
        })
        .await;
        statement.unwrap_or_default()
    }

    /// Runs `work` until it waits for this lock, and then drops it. Returns the statement that
    /// waits.
    ///
    /// # Panics
    /// If the work finishes first.
    pub async fn cancel(&mut self, work: impl Future<Output: Debug>) -> String {
        tokio::select! {
            done = work => panic!("finished in spite of the lock: {done:?}"),
            statement = self.blocked_statement() => statement,
        }
    }

    /// Lets all work continue.
    pub async fn release(mut self) {
        execute(&mut self.0, "rollback; select pg_advisory_unlock_all()".to_owned()).await;
        self.0.close().await.expect("closed");
    }
}

async fn execute(db: &mut PgConnection, sql: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(db).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
