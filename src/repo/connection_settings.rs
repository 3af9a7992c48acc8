//! What each connection of ours is set to, and what is asked of a connection before it is trusted.
//!
//! Settings are made by statements, not by the startup packet, which poolers do not pass on. All
//! of it goes as simple queries: behind a pooler in transaction mode a prepared statement may
//! belong to somebody else.

use sqlx::{Connection, PgConnection, Row};

/// Settings of a session: the statement that makes them, and the one that says whether they hold.
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

/// What the database holds each connection to, should we be gone, and what the code relies on,
/// whatever the settings of the role and the database are.
pub const REQUESTS: SessionSettings = settings! {
    "statement_timeout" = "5s",
    "lock_timeout" = "1s",
    "idle_in_transaction_session_timeout" = "10s",
    "default_transaction_isolation" = "read committed",
    "row_security" = "on",
    "standard_conforming_strings" = "on",
    "transform_null_equals" = "off",
};

/// The same, with lookups planned once, since planning one anew takes ten times what it does; and
/// by indexes, whatever the size of the tables at that time.
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

/// For whoever only looks: nothing changes, and nothing is waited for.
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

/// Whether the settings hold, asked in a message of its own: behind a pooler in transaction mode
/// that may be another session.
pub async fn is_configured(
    db: &mut PgConnection,
    settings: SessionSettings,
) -> Result<bool, sqlx::Error> {
    sqlx::raw_sql(settings.check).fetch_one(db).await?.try_get(0)
}

/// The startup parameter by which a pooler is recognized: Postgres takes it, and a pooler refuses
/// or drops it.
pub const POOLER_PROBE: (&str, &str) = ("tenantry.pooler_probe", "on");

/// Whether [`POOLER_PROBE`] arrived, so that nothing stands between us and Postgres.
pub async fn is_direct(db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let arrived = "select coalesce(current_setting('tenantry.pooler_probe', true), '') = 'on'";
    sqlx::raw_sql(arrived).fetch_one(db).await?.try_get(0)
}

/// Whether a pooler lends a session to several clients in turn, seen with two connections: a
/// pooler that lends the one that was used last lends it to the other, and one that takes turns
/// changes it from one transaction to the next.
pub async fn is_transaction_pooled(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let first = session_id(one).await?;
    if session_id(one).await? != first {
        return Ok(true);
    }
    // While the transaction lasts, its session is nobody else's.
    let mut transaction = other.begin().await?;
    let others = session_id(&mut transaction).await?;
    let second = session_id(one).await?;
    transaction.rollback().await?;
    Ok(others == first || second != first)
}

async fn session_id(db: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("select pg_backend_pid()").fetch_one(db).await?.try_get(0)
}

/// What a pooler's own database says that it is, such as `PgBouncer 1.18.0`.
///
/// # Errors
/// The pooler's own.
pub async fn pooler_version(db: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::raw_sql("show version").fetch_one(db).await?.try_get(0)
}
