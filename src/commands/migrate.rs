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
use crate::postgres::{Cluster, Durability, Settings};
use crate::repo::{migrations, session, tenant_access};
use crate::telemetry::Telemetry;

/// Where in the data directory the private cluster lies.
pub(super) const CLUSTER: &str = "postgres";

/// A database to connect to, and what keeps it running if it is ours.
pub struct Prepared {
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
    let config = configuration()?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    let _prepared = prepare(&config)?;
    tracing::info!("the schema is up to date");
    telemetry.finish();
    Ok(())
}

/// Reads the configuration. Without a `DATABASE_URL`, secrets that are not set are made up once
/// and kept.
///
/// # Errors
/// Every problem of the configuration at once.
pub fn configuration() -> Result<Config, Failure> {
    let mut env = Env::of_process();
    if !env.is_set("DATABASE_URL") {
        let dir = data_dir(&mut env);
        let has_data = dir.join(CLUSTER).exists();
        let kept = secrets_file::load_or_create(&dir, has_data, &SystemEntropy);
        let kept = kept.map_err(Failure::Secrets)?;
        env = env.with_defaults(kept);
    }
    Ok(Config::read(&mut env)?)
}

/// Starts the private cluster where no other database is named, brings the schema up to date, and
/// says since when audit events are signed.
///
/// # Errors
/// A database that does not start or answer, a migration that fails.
pub fn prepare(config: &Config) -> Result<Prepared, Failure> {
    let prepared = match &config.database.url {
        Some(url) => Prepared { options: url.clone(), cluster: None },
        None => start_cluster(&config.database)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signer = audit_signer(&config.keys.peppers, &SystemEntropy);
    runtime.block_on(bring_up_to_date(&prepared.options, &config.database, &signer))?;
    Ok(prepared)
}

/// Does something with the database, and ends.
///
/// # Errors
/// A database that does not start or answer, or what `work` says.
pub fn with_app<T>(
    config: Config,
    work: impl AsyncFnOnce(&App) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let prepared = prepare(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let options = prepared.options.clone();
        let app = App::build(config, options, clock, entropy, CancellationToken::new())?;
        let done = work(&app).await;
        for pool in app.pools() {
            pool.close();
        }
        done
    })
}

/// Starts the private cluster, or adopts the one that runs.
///
/// # Errors
/// What keeps it from running.
pub(super) fn start_cluster(settings: &DatabaseSettings) -> Result<Prepared, Failure> {
    let cluster = Cluster::start(&cluster_settings(settings)?)?;
    let options = PgConnectOptions::from_str(&cluster.url("tenantry"))?;
    Ok(Prepared { options, cluster: Some(cluster) })
}

/// How the private cluster is to be run.
///
/// # Errors
/// Where this program can not be found.
pub(super) fn cluster_settings(settings: &DatabaseSettings) -> Result<Settings, Failure> {
    Ok(Settings {
        home: settings.data_dir.join(CLUSTER),
        bin_dir: settings.pg_bin_dir.clone(),
        durability: Durability::Durable,
        janitor: own_program()?,
    })
}

fn own_program() -> Result<PathBuf, Failure> {
    Ok(std::env::current_exe()?)
}

/// On a connection without budgets: a migration may take its time. Connecting may not.
async fn bring_up_to_date(
    options: &PgConnectOptions,
    settings: &DatabaseSettings,
    signer: &AuditSigner,
) -> Result<(), Failure> {
    let mut connected = connect::connect(options, settings.wait).await?;
    if let Some(problem) = connected.pooler.as_ref().and_then(connect::Pooler::problem) {
        return Err(Failure::Unfit(vec![problem]));
    }
    let problems = connect::problems(&mut connected.db).await?;
    if !problems.is_empty() {
        return Err(Failure::Unfit(problems));
    }
    let privacy = connect::privacy(&mut connected, options).await?;
    let pooler =
        connected.pooler.as_ref().map_or_else(|| "none".to_owned(), connect::Pooler::words);
    tracing::info!(connection = %privacy, pooler, "connected to the database");
    if matches!(privacy, connect::Privacy::Plain) {
        tracing::warn!(
            "the connection to the database is not encrypted; set sslmode in DATABASE_URL"
        );
    }
    let mut db = connected.db;
    session::configure(&mut db, session::MIGRATIONS).await?;
    migrate(&mut db, settings.takes_newer_schema, signer).await?;
    db.close().await?;
    Ok(())
}

/// Brings the schema up to date, and makes what keeps tenants apart where a restore left it out. A
/// database that takes no changes will do where there is nothing to change.
async fn migrate(
    db: &mut PgConnection,
    takes_newer: bool,
    signer: &AuditSigner,
) -> Result<(), Failure> {
    let progress = migrations::progress(db).await?;
    let is_current = progress.pending.is_empty() && progress.changed.is_empty();
    if migrations::is_read_only(db).await? {
        tracing::warn!("the database takes no changes (read_only)");
        if is_current && (progress.unknown == 0 || takes_newer) {
            return Ok(());
        }
        let pending = progress.pending.join(", ");
        let text = format!("the database takes no changes, and migrations are to come: {pending}");
        return Err(Failure::Unfit(vec![text]));
    }
    let is_empty = progress.pending.len() == progress.known;
    if !is_empty && tenant_access::concerns_role(&tenant_access::missing(db).await?) {
        tenant_access::make_role(db).await.map_err(in_its_words)?;
    }
    if takes_newer {
        migrations::run_beside_newer(db).await?;
        if progress.unknown > 0 {
            tracing::warn!(migrations = progress.unknown, "the schema is a newer version's");
            return Ok(());
        }
    } else {
        migrations::run(db).await?;
    }
    let missing = tenant_access::missing(db).await?;
    if !missing.is_empty() {
        let mut transaction = db.begin().await?;
        tenant_access::make(&mut transaction).await.map_err(in_its_words)?;
        transaction.commit().await?;
        let missing = missing.join("; ");
        tracing::warn!(missing, "what keeps tenants apart was missing, and is made again");
    }
    audit::begin_signing(db, signer, SystemClock.now()).await?;
    Ok(())
}

/// What the database refuses, without advice of ours: it says itself what to do.
fn in_its_words(error: sqlx::Error) -> Failure {
    match error.as_database_error() {
        Some(refusal) => Failure::Unfit(vec![refusal.message().to_owned()]),
        None => error.into(),
    }
}
