//! The settings of each database connection, and the checks of a connection before it is used.
//!
//! Settings are made by statements and not by the startup packet, which poolers do not pass on. All
//! of them are simple queries: behind a pooler in transaction mode a prepared statement may belong
//! to another client.

use sqlx::{Connection, PgConnection, Row};

/// Settings of a session: the statement that makes them, and the one that checks them.
#[derive(Clone, Copy)]
pub struct SessionSettings {
    set: &'static str,
    check: &'static str,
}

macro_rules! settings {
    ($($name:literal = $value:literal),+ $(,)?) => {
        SessionSettings {
            set: concat!($("set ", $name, " = '", $value, "'; "),+),
            check: concat!(
                "select true",
                $(" and current_setting('", $name, "') = '", $value, "'"),+
            ),
        }
    };
}

/// Limits that the database enforces even if this process stalls, and settings that the code relies
/// on whatever the role and the database configure.
pub const REQUESTS: SessionSettings = settings! {
    "statement_timeout" = "5s",
    "lock_timeout" = "1s",
    "idle_in_transaction_session_timeout" = "10s",
    "default_transaction_isolation" = "read committed",
    "row_security" = "on",
    "standard_conforming_strings" = "on",
    "transform_null_equals" = "off",
};

/// The same for lookups: their plans are cached, since planning takes ten times as long as running
/// them, and they use indexes whatever the size of the tables was at planning.
pub const LOOKUPS: SessionSettings = settings! {
    "statement_timeout" = "5s",
    "lock_timeout" = "1s",
    "idle_in_transaction_session_timeout" = "10s",
    "default_transaction_isolation" = "read committed",
    "row_security" = "on",
    "standard_conforming_strings" = "on",
    "transform_null_equals" = "off",
    "plan_cache_mode" = "force_generic_plan",
    "enable_seqscan" = "off",
    "enable_hashjoin" = "off",
    "enable_mergejoin" = "off",
};

/// What migrations rely on; they may take their time.
pub const MIGRATIONS: SessionSettings = settings! {
    "statement_timeout" = "0",
    "lock_timeout" = "0",
    "idle_in_transaction_session_timeout" = "0",
    "default_transaction_isolation" = "read committed",
    "row_security" = "on",
    "standard_conforming_strings" = "on",
    "transform_null_equals" = "off",
};

/// For commands that only read: nothing can change, and no lock is waited for.
pub const READ_ONLY: SessionSettings = settings! {
    "default_transaction_read_only" = "on",
    "statement_timeout" = "10s",
};

/// Makes the settings for the rest of the connection.
pub async fn configure(
    db: &mut PgConnection,
    settings: SessionSettings,
) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(settings.set).execute(db).await?;
    Ok(())
}

/// Checks the settings in a message of its own: behind a pooler in transaction mode that may be
/// another session.
pub async fn is_configured(
    db: &mut PgConnection,
    settings: SessionSettings,
) -> Result<bool, sqlx::Error> {
    sqlx::raw_sql(settings.check).fetch_one(db).await?.try_get(0)
}

/// The startup parameter that detects a pooler: Postgres accepts it, and a pooler rejects or drops
/// it.
pub const POOLER_PROBE: (&str, &str) = ("tenantry.pooler_probe", "on");

/// Whether [`POOLER_PROBE`] arrived, so that nothing stands between us and Postgres.
pub async fn is_direct(db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let arrived = "select coalesce(current_setting('tenantry.pooler_probe', true), '') = 'on'";
    sqlx::raw_sql(arrived).fetch_one(db).await?.try_get(0)
}

/// Detects, with two connections, a pooler that shares a session between clients: one that reuses
/// the last session gives it to the other connection, and one that rotates sessions changes it
/// between two transactions.
pub async fn is_transaction_pooled(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let first = session_id(one).await?;
    if session_id(one).await? != first {
        return Ok(true);
    }
    // While the transaction lasts, no other client has its session.
    let mut transaction = other.begin().await?;
    let others = session_id(&mut transaction).await?;
    let second = session_id(one).await?;
    transaction.rollback().await?;
    Ok(others == first || second != first)
}

async fn session_id(db: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("select pg_backend_pid()").fetch_one(db).await?.try_get(0)
}

/// Returns the version that a pooler's own database reports, such as `PgBouncer 1.18.0`.
pub async fn pooler_version(db: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::raw_sql("show version").fetch_one(db).await?.try_get(0)
}
