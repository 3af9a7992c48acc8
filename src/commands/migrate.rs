//! `tenantry migrate`, and what `serve` shares with it: the configuration and a database whose
//! schema is up to date.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::peppers::audit_signer;
use crate::clock::{Clock, SystemClock};
use crate::commands::{Failure, connect};
use crate::config::database::{DatabaseSettings, data_dir};
use crate::config::env::Env;
use crate::config::{Config, secrets_file};
use crate::domain::audit;
use crate::entropy::SystemEntropy;
use crate::model::audit_seal::AuditSigner;
use crate::postgres::{Cluster, ClusterSettings, Durability};
use crate::repo::{connection_settings, migrations, online_migrations, tenant_access};
use crate::telemetry::Telemetry;

/// Where in the data directory the private cluster lies.
pub(super) const CLUSTER_DIR: &str = "postgres";

/// A database to connect to, and the private cluster's handle where it is private.
pub struct PreparedDatabase {
    /// How to connect.
    pub options: PgConnectOptions,
    /// The private cluster, kept running for as long as this lives.
    pub cluster: Option<Cluster>,
}

/// Brings the schema up to date and ends.
///
/// # Errors
/// A wrong configuration, a database that does not answer, a migration that fails.
pub fn run() -> Result<(), Failure> {
    let config = load_config()?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    let _prepared = prepare_database(&config)?;
    tracing::info!("the schema is up to date");
    telemetry.finish();
    Ok(())
}

/// Reads the configuration. Without a `DATABASE_URL`, secrets that are not set are made up once
/// and kept.
///
/// # Errors
/// Every problem of the configuration at once.
pub fn load_config() -> Result<Config, Failure> {
    let mut env = Env::from_process();
    if !env.is_set("DATABASE_URL") {
        let dir = data_dir(&mut env);
        let has_data = dir.join(CLUSTER_DIR).exists();
        let secrets = secrets_file::load_or_create(&dir, has_data, &SystemEntropy);
        let secrets = secrets.map_err(Failure::Secrets)?;
        env = env.with_defaults(secrets);
    }
    Ok(Config::read(&mut env)?)
}

/// Starts the private cluster where no other database is configured, runs the migrations, and logs
/// since when audit events are signed.
///
/// # Errors
/// A database that does not start or answer, a migration that fails.
pub fn prepare_database(config: &Config) -> Result<PreparedDatabase, Failure> {
    let prepared = match &config.database.url {
        Some(url) => PreparedDatabase { options: url.clone(), cluster: None },
        None => start_cluster(&config.database)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signer = audit_signer(&config.keys.peppers, &SystemEntropy);
    runtime.block_on(connect_and_migrate(&prepared.options, &config.database, &signer))?;
    Ok(prepared)
}

/// Runs `work` with the database, and stops.
///
/// # Errors
/// A database that does not start or answer; the errors of `work`.
pub fn with_app<T>(
    config: Config,
    work: impl AsyncFnOnce(&App) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let prepared = prepare_database(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let options = prepared.options.clone();
        let app = App::build(config, options, clock, entropy, CancellationToken::new())?;
        let result = work(&app).await;
        for pool in app.pools() {
            pool.close();
        }
        result
    })
}

/// Starts the private cluster, or adopts the one that runs.
///
/// # Errors
/// What keeps it from running.
pub(super) fn start_cluster(settings: &DatabaseSettings) -> Result<PreparedDatabase, Failure> {
    let cluster = Cluster::start(&cluster_settings(settings)?)?;
    let options = PgConnectOptions::from_str(&cluster.url("tenantry"))?;
    Ok(PreparedDatabase { options, cluster: Some(cluster) })
}

/// How the private cluster is to be run.
///
/// # Errors
/// Where this program can not be found.
pub(super) fn cluster_settings(settings: &DatabaseSettings) -> Result<ClusterSettings, Failure> {
    Ok(ClusterSettings {
        home: settings.data_dir.join(CLUSTER_DIR),
        bin_dir: settings.pg_bin_dir.clone(),
        durability: Durability::Durable,
        janitor_program: current_executable()?,
    })
}

fn current_executable() -> Result<PathBuf, Failure> {
    Ok(std::env::current_exe()?)
}

/// On a connection without budgets: a migration may take its time. Connecting may not.
async fn connect_and_migrate(
    options: &PgConnectOptions,
    settings: &DatabaseSettings,
    signer: &AuditSigner,
) -> Result<(), Failure> {
    let mut connected = connect::connect(options, settings.wait).await?;
    if let Some(problem) = connected.pooler.as_ref().and_then(connect::Pooler::problem) {
        return Err(Failure::UnsuitableDatabase(vec![problem]));
    }
    let problems = connect::find_problems(&mut connected.db).await?;
    if !problems.is_empty() {
        return Err(Failure::UnsuitableDatabase(problems));
    }
    let privacy = connect::connection_security(&mut connected, options).await?;
    let pooler =
        connected.pooler.as_ref().map_or_else(|| "none".to_owned(), connect::Pooler::description);
    tracing::info!(connection = %privacy, pooler, "connected to the database");
    if matches!(privacy, connect::ConnectionSecurity::Unencrypted) {
        tracing::warn!(
            "the connection to the database is not encrypted; set sslmode in DATABASE_URL"
        );
    }
    let mut db = connected.db;
    connection_settings::configure(&mut db, connection_settings::MIGRATIONS).await?;
    migrate(&mut db, settings.allow_newer_schema, signer).await?;
    db.close().await?;
    Ok(())
}

/// Runs the migrations, and creates the row-level security that a restore left out. A read-only
/// database is accepted where there is nothing to change.
async fn migrate(
    db: &mut PgConnection,
    allow_newer: bool,
    signer: &AuditSigner,
) -> Result<(), Failure> {
    let progress = migrations::progress(db).await?;
    let is_current = progress.pending.is_empty() && progress.changed.is_empty();
    if migrations::is_read_only(db).await? {
        tracing::warn!("the database is read-only");
        if is_current && (progress.unknown == 0 || allow_newer) {
            return Ok(());
        }
        let pending = progress.pending.join(", ");
        let text = format!("the database is read-only, and migrations are pending: {pending}");
        return Err(Failure::UnsuitableDatabase(vec![text]));
    }
    let is_empty = progress.pending.len() == progress.known;
    if !is_empty && tenant_access::concerns_role(&tenant_access::list_missing(db).await?) {
        tenant_access::create_role(db).await.map_err(database_failure)?;
    }
    if allow_newer {
        online_migrations::run_ignoring_newer(db).await?;
        if progress.unknown > 0 {
            tracing::warn!(migrations = progress.unknown, "the schema is a newer version's");
            return Ok(());
        }
    } else {
        online_migrations::run(db).await?;
    }
    let missing = tenant_access::list_missing(db).await?;
    if !missing.is_empty() {
        let mut transaction = db.begin().await?;
        tenant_access::create(&mut transaction).await.map_err(database_failure)?;
        transaction.commit().await?;
        let missing = missing.join("; ");
        tracing::warn!(missing, "what keeps tenants apart was missing, and is made again");
    }
    audit::begin_signing(db, signer, SystemClock.now()).await?;
    Ok(())
}

/// An error of the database without advice: it says itself what to do.
fn database_failure(error: sqlx::Error) -> Failure {
    match error.as_database_error() {
        Some(refusal) => Failure::UnsuitableDatabase(vec![refusal.message().to_owned()]),
        None => error.into(),
    }
}
