//! `tenantry migrate`, and what `serve` shares with it: the configuration and a database whose
//! schema is up to date.

use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use crate::commands::Failure;
use crate::config::database::{DatabaseSettings, data_dir};
use crate::config::env::Env;
use crate::config::{Config, secrets_file};
use crate::entropy::SystemEntropy;
use crate::postgres::{Cluster, Durability, Settings};
use crate::repo::migrations;
use crate::telemetry::Telemetry;

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
    let _prepared = prepare(&config.database)?;
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
        let kept = secrets_file::load_or_create(&dir, &SystemEntropy).map_err(Failure::Secrets)?;
        env = env.with_defaults(kept);
    }
    Ok(Config::read(&mut env)?)
}

/// Starts the private cluster where no other database is named, and brings the schema up to date.
///
/// # Errors
/// A database that does not start or answer, a migration that fails.
pub fn prepare(settings: &DatabaseSettings) -> Result<Prepared, Failure> {
    let prepared = match &settings.url {
        Some(url) => Prepared { options: url.clone(), cluster: None },
        None => start_cluster(settings)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(bring_up_to_date(&prepared.options))?;
    Ok(prepared)
}

fn start_cluster(settings: &DatabaseSettings) -> Result<Prepared, Failure> {
    let cluster = Cluster::start(&Settings {
        home: settings.data_dir.join("postgres"),
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

/// On a connection without budgets: a migration may take its time.
async fn bring_up_to_date(options: &PgConnectOptions) -> Result<(), Failure> {
    let mut db: PgConnection = options.connect().await?;
    migrations::run(&mut db).await?;
    db.close().await?;
    Ok(())
}
