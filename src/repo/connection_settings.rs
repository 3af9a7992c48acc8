//! The settings of each database connection, and the checks of a connection before it is used.
//!
//! Settings are sent in statements and not in the startup packet, which poolers do not pass on. All
//! statements are simple queries: behind a pooler in transaction mode, a prepared statement may
//! belong to another client.

use sqlx::{Connection, PgConnection, Row};

/// Settings of a session: the statement that applies them, and the one that checks them.
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

/// Deadlines that the database enforces even if this process stalls, and settings that the code
/// relies on, whatever is configured for the role and the database.
pub const REQUESTS: SessionSettings = settings! {
    "statement_timeout" = "5s",
    "lock_timeout" = "1s",
    "idle_in_transaction_session_timeout" = "10s",
    "default_transaction_isolation" = "read committed",
    "row_security" = "on",
    "standard_conforming_strings" = "on",
    "transform_null_equals" = "off",
};

/// [`REQUESTS`], and settings for lookups: their plans are cached, since planning takes ten times
/// as long as execution, and they use indexes, whatever the size of the tables was at planning.
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

/// Settings that migrations rely on, without deadlines.
pub const MIGRATIONS: SessionSettings = settings! {
    "statement_timeout" = "0",
    "lock_timeout" = "0",
    "idle_in_transaction_session_timeout" = "0",
    "default_transaction_isolation" = "read committed",
    "row_security" = "on",
    "standard_conforming_strings" = "on",
    "transform_null_equals" = "off",
};

/// Settings for commands that only read: they can change nothing, and a statement takes at most 10
/// seconds.
pub const READ_ONLY: SessionSettings = settings! {
    "default_transaction_read_only" = "on",
    "statement_timeout" = "10s",
};

/// Applies the settings to the rest of the session.
pub async fn configure(
    db: &mut PgConnection,
    settings: SessionSettings,
) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(settings.set).execute(db).await?;
    Ok(())
}

/// Returns whether the settings apply. The check is a message of its own, which a pooler in
/// transaction mode may send to another session.
pub async fn is_configured(
    db: &mut PgConnection,
    settings: SessionSettings,
) -> Result<bool, sqlx::Error> {
    sqlx::raw_sql(settings.check).fetch_one(db).await?.try_get(0)
}

/// The startup parameter that detects a pooler: Postgres accepts it, and a pooler rejects or drops
/// it.
pub const POOLER_PROBE: (&str, &str) = ("tenantry.pooler_probe", "on");

/// Returns whether Postgres received [`POOLER_PROBE`], so that there is no pooler in between.
pub async fn is_direct(db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let arrived = "select coalesce(current_setting('tenantry.pooler_probe', true), '') = 'on'";
    sqlx::raw_sql(arrived).fetch_one(db).await?.try_get(0)
}

/// Returns whether a pooler shares sessions between clients, which takes two connections: a pooler
/// that reuses the last session gives it to the other connection, and one that rotates sessions
/// changes it between two transactions.
pub async fn is_transaction_pooled(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let first = session_id(one).await?;
    if session_id(one).await? != first {
        return Ok(true);
    }
    // During the transaction, no other client can have its session.
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
