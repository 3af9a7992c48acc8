//! One temporary Postgres for all tests, and a new copy of the migrated schema for each test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tenantry::postgres::{Cluster, ClusterSettings, Durability};
use tenantry::repo::online_migrations;
use tokio::sync::OnceCell;

use super::leaks;

/// The test Postgres, started or reused once per process. It ends a few seconds after the last
/// process.
static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    let checkout = Sha256::digest(env!("CARGO_MANIFEST_DIR"));
    let user = rustix::process::getuid().as_raw();
    let name = format!("tenantry-tests-{user}-{}", leaks::hex(&checkout[..6]));
    let settings = ClusterSettings {
        home: scratch_folder().join(name),
        bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
        durability: Durability::NonDurable,
        janitor_program: PathBuf::from(env!("CARGO_BIN_EXE_tenantry")),
    };
    Cluster::start(&settings).expect("a Postgres for the tests")
});

static TEMPLATE: OnceCell<String> = OnceCell::const_new();
static NEXT_CLONE: AtomicU32 = AtomicU32::new(0);

/// The role that owns the test databases: no superuser, so row-level security applies to it.
const OWNER: &str = "test_owner";

/// The database of one test.
pub struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// Creates a database with the current schema and no rows.
    pub async fn create() -> Self {
        let template = TEMPLATE.get_or_init(create_template).await;
        let number = NEXT_CLONE.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let sql =
            format!("create database {name} template {template} strategy file_copy owner {OWNER}");
        execute(&mut connect_as_admin().await, &sql).await;
        Self { name }
    }

    /// Its URL, for its owner.
    pub fn url(&self) -> String {
        owner_url(&self.name)
    }

    /// A new connection as a superuser.
    pub async fn connect(&self) -> PgConnection {
        connect(&self.name).await
    }

    /// A new connection as a superuser to the database with this name.
    pub async fn connect_as_superuser(name: &str) -> PgConnection {
        connect(name).await
    }

    /// Drops the database.
    pub async fn remove(self) {
        let sql = format!("drop database {} with (force)", self.name);
        execute(&mut connect_as_admin().await, &sql).await;
    }
}

/// Creates the template of this version of the schema, once for all test processes.
async fn create_template() -> String {
    let name = format!("template_of_{OWNER}_{}", schema_version());
    let mut db = connect_as_admin().await;
    execute(&mut db, "select pg_advisory_lock(1)").await;
    remove_leftovers(&mut db).await;
    let exists: bool =
        sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&name)
            .fetch_one(&mut db)
            .await
            .expect("a row");
    if !exists {
        let unfinished = format!("{name}_unfinished");
        execute(&mut db, &format!("drop database if exists {unfinished}")).await;
        create_owner(&mut db).await;
        execute(&mut db, &format!("create database {unfinished} owner {OWNER}")).await;
        let options = PgConnectOptions::from_str(&owner_url(&unfinished)).expect("a URL");
        let mut template_db = options.connect().await.expect("a connection");
        online_migrations::run(&mut template_db).await.expect("migrations");
        template_db.close().await.expect("closed");
        execute(&mut db, &format!("alter database {unfinished} rename to {name}")).await;
    }
    execute(&mut db, "select pg_advisory_unlock(1)").await;
    name
}

/// Creates the owner, which may become the tenant role. A cluster that is reused has both already.
async fn create_owner(db: &mut PgConnection) {
    for (role, can) in [(OWNER, "login"), ("tenantry_tenant", "nologin")] {
        let sql = format!(
            "do $$ begin create role {role} {can};
             exception when duplicate_object then null; end $$"
        );
        execute(db, &sql).await;
    }
    execute(db, &format!("grant tenantry_tenant to {OWNER}")).await;
}

fn owner_url(database: &str) -> String {
    CLUSTER.url(database).replace("user=tenantry&", &format!("user={OWNER}&"))
}

/// Drops the databases of test processes that have ended.
async fn remove_leftovers(db: &mut PgConnection) {
    let names: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where datname like 'test\\_%'")
            .fetch_all(&mut *db)
            .await
            .expect("names");
    for name in names {
        let pid = name.split('_').nth(1).unwrap_or_default();
        if Path::new("/proc").exists() && !Path::new("/proc").join(pid).exists() {
            execute(db, &format!("drop database if exists {name} with (force)")).await;
        }
    }
}

fn schema_version() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let entries = std::fs::read_dir(folder).expect("migrations");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(std::fs::read(file).expect("a migration"));
    }
    leaks::hex(&hash.finalize()[..6])
}

async fn connect_as_admin() -> PgConnection {
    connect("tenantry").await
}

async fn connect(database: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(&CLUSTER.url(database)).expect("a URL");
    options.connect().await.expect("a connection")
}

async fn execute(db: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(db).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// `/dev/shm` if it has more than a gigabyte free, else the temporary folder of the build.
fn scratch_folder() -> PathBuf {
    let output = Command::new("df").args(["-Pk", "/dev/shm"]).output();
    let output = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    let free = output
        .ok()
        .and_then(|it| it.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok());
    match free {
        Some(kilobytes) if kilobytes > 1024 * 1024 => PathBuf::from("/dev/shm"),
        _ => PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
    }
}
