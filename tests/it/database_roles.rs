//! What the role of `DATABASE_URL` has to be on a Postgres of one's own: the owner of its database,
//! and either allowed to make roles or helped by an administrator, who is told how.

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

/// What the database says where it refuses.
async fn migrate(cluster: &Cluster, role: &str) -> Result<(), String> {
    let mut db = options(cluster, role).connect().await.unwrap();
    online_migrations::run(&mut db).await.map_err(|refused| {
        let told = refused.to_string();
        told.rsplit_once(" at line ").map_or(told.clone(), |(told, _)| told.to_owned())
    })
}

async fn execute_as_admin(admin: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(admin).await.unwrap();
}

/// Whether an organization is there behind its own walls, and not behind another's.
async fn assert_isolated(cluster: &Cluster, role: &str) {
    let db = Database::open(options(cluster, role), 1, "test").unwrap();
    let (own, other) = (OrganizationId::SYSTEM, OrganizationId(Uuid::from_u128(7)));
    for (walls, is_there) in [(own, true), (other, false)] {
        let found =
            db.tenant_transaction(walls, async |tx| organizations::find(tx, own).await).await;
        assert_eq!(found.unwrap().is_some(), is_there, "{role}");
    }
    db.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_may_make_roles_needs_nobody_and_another_is_told_what_to_ask_for() {
    let open = Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new().permissions(open).tempdir().unwrap();
    let settings = ClusterSettings {
        home: folder.path().join("postgres"),
        bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
        durability: Durability::Throwaway,
        janitor_program: PathBuf::from(env!("CARGO_BIN_EXE_tenantry")),
    };
    let cluster = Cluster::start(&settings).unwrap();
    let admin = PgConnectOptions::from_str(&cluster.url("tenantry")).unwrap();
    let mut admin = admin.connect().await.unwrap();
    for (role, can) in [("plain", ""), ("maker", "createrole"), ("late", "")] {
        execute_as_admin(&mut admin, &format!("create role {role} login {can}")).await;
        execute_as_admin(&mut admin, &format!("create database {role} owner {role}")).await;
    }

    let told = migrate(&cluster, "plain").await.unwrap_err();
    let (_, advice) = told.split_once("have an administrator run ").unwrap();
    assert_eq!(advice, "create role tenantry_tenant nologin; grant tenantry_tenant to plain");

    // As a database that comes from Postgres 14 has it.
    let maker = PgConnectOptions::from_str(&cluster.url("maker")).unwrap();
    let mut maker = maker.connect().await.unwrap();
    execute_as_admin(&mut maker, "grant create on schema public to public").await;
    migrate(&cluster, "maker").await.unwrap();
    let may_create = "select has_schema_privilege('public', 'public', 'create')";
    let may_create: bool = sqlx::query_scalar(may_create).fetch_one(&mut maker).await.unwrap();
    assert!(!may_create, "others may create beside our functions");
    assert_isolated(&cluster, "maker").await;

    // The role is there by now, but it is not this one's.
    for role in ["plain", "late"] {
        let told = migrate(&cluster, role).await.unwrap_err();
        let (_, advice) = told.split_once("have an administrator run: ").unwrap();
        assert_eq!(advice, format!("grant tenantry_tenant to {role}"));
        execute_as_admin(&mut admin, advice).await;
        migrate(&cluster, role).await.unwrap();
        assert_isolated(&cluster, role).await;
    }
}
