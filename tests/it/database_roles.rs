//! The requirements for the role of `DATABASE_URL` on an external Postgres: it owns its database.
//! If it may not create roles, an administrator must run the statement in the error message.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tenantry::app::database::Database;
use tenantry::model::ids::OrganizationId;
use tenantry::postgres::{Cluster, ClusterSettings, Durability};
use tenantry::repo::{online_migrations, organizations};
use uuid::Uuid;

fn options(cluster: &Cluster, role: &str) -> PgConnectOptions {
    let url = cluster.url(role).replace("user=tenantry&", &format!("user={role}&"));
    PgConnectOptions::from_str(&url).unwrap()
}

/// Runs the migrations; returns the database's message if it rejects one.
async fn migrate(cluster: &Cluster, role: &str) -> Result<(), String> {
    let mut db = options(cluster, role).connect().await.unwrap();
    online_migrations::run(&mut db).await.map_err(|error| {
        let error = error.to_string();
        error.rsplit_once(" at line ").map_or(error.clone(), |(message, _)| message.to_owned())
    })
}

async fn execute_as_admin(admin: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(admin).await.unwrap();
}

/// Asserts that an organization is visible under its own tenant and not under another.
async fn assert_isolated(cluster: &Cluster, role: &str) {
    let db = Database::open(options(cluster, role), 1, "test").unwrap();
    let (own, other) = (OrganizationId::SYSTEM, OrganizationId(Uuid::from_u128(7)));
    for (tenant, is_visible) in [(own, true), (other, false)] {
        let found =
            db.tenant_transaction(tenant, async |tx| organizations::find(tx, own).await).await;
        assert_eq!(found.unwrap().is_some(), is_visible, "{role}");
    }
    db.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_with_createrole_migrates_alone_and_another_gets_the_statement_to_run() {
    let open = Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new().permissions(open).tempdir().unwrap();
    let settings = ClusterSettings {
        home: folder.path().join("postgres"),
        bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
        durability: Durability::NonDurable,
        janitor_program: PathBuf::from(env!("CARGO_BIN_EXE_tenantry")),
    };
    let cluster = Cluster::start(&settings).unwrap();
    let admin = PgConnectOptions::from_str(&cluster.url("tenantry")).unwrap();
    let mut admin = admin.connect().await.unwrap();
    for (role, can) in [("plain", ""), ("maker", "createrole"), ("late", "")] {
        execute_as_admin(&mut admin, &format!("create role {role} login {can}")).await;
        execute_as_admin(&mut admin, &format!("create database {role} owner {role}")).await;
    }

    let message = migrate(&cluster, "plain").await.unwrap_err();
    let (_, advice) = message.split_once("have an administrator run ").unwrap();
    assert_eq!(advice, "create role tenantry_tenant nologin; grant tenantry_tenant to plain");

    // A database that was created by Postgres 14 has this grant.
    let maker = PgConnectOptions::from_str(&cluster.url("maker")).unwrap();
    let mut maker = maker.connect().await.unwrap();
    execute_as_admin(&mut maker, "grant create on schema public to public").await;
    migrate(&cluster, "maker").await.unwrap();
    let may_create = "select has_schema_privilege('public', 'public', 'create')";
    let may_create: bool = sqlx::query_scalar(may_create).fetch_one(&mut maker).await.unwrap();
    assert!(!may_create, "other roles may create objects in the schema");
    assert_isolated(&cluster, "maker").await;

    // The tenant role exists by now, but is not granted to these roles.
    for role in ["plain", "late"] {
        let message = migrate(&cluster, role).await.unwrap_err();
        let (_, advice) = message.split_once("have an administrator run: ").unwrap();
        assert_eq!(advice, format!("grant tenantry_tenant to {role}"));
        execute_as_admin(&mut admin, advice).await;
        migrate(&cluster, role).await.unwrap();
        assert_isolated(&cluster, role).await;
    }
}
