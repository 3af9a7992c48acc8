//! `tenantry migrate`, and what `serve` shares with it: the configuration and a database whose
//! schema is up to date.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::peppers::audit_signer;
use crate::clock::{Clock, SystemClock};
use crate::commands::Failure;
use crate::config::database::{DatabaseSettings, data_dir};
use crate::config::env::Env;
use crate::config::{Config, secrets_file};
use crate::domain::audit;
use crate::entropy::SystemEntropy;
use crate::model::audit_seal::AuditSigner;
use crate::postgres::{Cluster, Durability, Settings};
use crate::repo::migrations;
use crate::telemetry::Telemetry;

/// Where in the data directory the private cluster lies.
pub(super) const CLUSTER: &str = "postgres";
/// How long the database may take to say its first word.
const CONNECT: Duration = Duration::from_secs(10);

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
    runtime.block_on(bring_up_to_date(&prepared.options, &signer))?;
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
    let cluster = Cluster::start(&Settings {
        home: settings.data_dir.join(CLUSTER),
        bin_dir: settings.pg_bin_dir.clone(),
        durability: Durability::Durable,
        janitor: own_program()?,
    })?;
    let options = PgConnectOptions::from_str(&cluster.url("tenantry"))?;
    Ok(Prepared { options, cluster: Some(cluster) })
}

fn own_program() -> Result<PathBuf, Failure> {
    Ok(std::env::current_exe()?)
}

/// On a connection without budgets: a migration may take its time. Connecting may not.
async fn bring_up_to_date(options: &PgConnectOptions, signer: &AuditSigner) -> Result<(), Failure> {
    let connecting = tokio::time::timeout(CONNECT, options.connect()).await;
    let mut db: PgConnection = connecting.map_err(|_| Failure::Silent(CONNECT.as_secs()))??;
    migrations::run(&mut db).await?;
    audit::begin_signing(&mut db, signer, SystemClock.now()).await?;
    db.close().await?;
    Ok(())
}
