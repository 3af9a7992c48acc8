//! Migration of a schema of an older version, with rows, while servers use it.

mod online;
mod statements;

use std::str::FromStr;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::support::TestApp;
use crate::support::database::TestDatabase;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Organizations with members, keys, invitations and audit events.
const ROWS: &str = include_str!("rows.sql");

/// A database with the schema of an older version and with rows.
struct OldDatabase {
    name: String,
    options: PgConnectOptions,
}

impl OldDatabase {
    /// Creates a database with the migrations up to this version.
    async fn create(app: &TestApp, purpose: &str, version: i64) -> Self {
        let options = PgConnectOptions::from_str(app.database_settings()[0].1).unwrap();
        let name = format!("test_{}_{purpose}", std::process::id());
        execute_as_superuser(&format!("create database {name} owner test_owner")).await;
        let old = Self { options: options.database(&name), name };
        let mut db = old.connect().await;
        MIGRATIONS.run_to(version, &mut db).await.unwrap();
        sqlx::raw_sql(ROWS).execute(&mut db).await.unwrap();
        old
    }

    /// A new connection as its owner.
    async fn connect(&self) -> PgConnection {
        self.options.connect().await.unwrap()
    }

    /// A new connection as a superuser.
    async fn connect_as_superuser(&self) -> PgConnection {
        TestDatabase::connect_as_superuser(&self.name).await
    }

    async fn remove(self) {
        execute_as_superuser(&format!("drop database {} with (force)", self.name)).await;
    }
}

async fn execute_as_superuser(sql: &str) {
    let mut db = TestDatabase::connect_as_superuser("tenantry").await;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
}
