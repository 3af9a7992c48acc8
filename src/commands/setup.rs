//! What commands do before their work: they load the configuration, and prepare a database with an
//! up-to-date schema.

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

/// The folder of the private cluster in the data directory.
pub(super) const CLUSTER_DIR: &str = "postgres";

/// A database to connect to, and the private cluster that it is in, if any.
pub struct PreparedDatabase {
    /// The connection options.
    pub options: PgConnectOptions,
    /// The private cluster, which runs as long as this value exists.
    pub cluster: Option<Cluster>,
}

/// Reads the configuration. Without a `DATABASE_URL`, secrets that are not set are generated once
/// and stored.
///
/// # Errors
/// The configuration is invalid. The error lists all problems.
pub fn load_config() -> Result<Config, Failure> {
    let mut env = Env::from_process();
    if !env.is_set("DATABASE_URL") {
        let dir = data_dir(&mut env);
        let has_data = dir.join(CLUSTER_DIR).exists();
        let mut secrets = secrets_file::load_or_create(&dir, has_data, &SystemEntropy);
        let missing = secrets_file::missing_feature_secrets(&mut env);
        if secrets.is_ok() && !missing.is_empty() {
            secrets = secrets_file::load_or_add(&dir, &missing, &SystemEntropy);
        }
        let secrets = secrets.map_err(Failure::Secrets)?;
        env = env.with_defaults(secrets);
    }
    Ok(Config::read(&mut env)?)
}

/// Starts the private cluster if there is no `DATABASE_URL`, applies pending migrations, and
/// records when the signing of audit events began.
///
/// # Errors
/// The database does not start or respond, or a migration fails.
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

/// Prepares the database, and runs `work` with an [`App`] on it.
///
/// # Errors
/// The database does not start or respond, or `work` fails.
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

/// Starts the private cluster, or uses the running one.
pub(super) fn start_cluster(settings: &DatabaseSettings) -> Result<PreparedDatabase, Failure> {
    let cluster = Cluster::start(&cluster_settings(settings)?)?;
    let options = PgConnectOptions::from_str(&cluster.url("tenantry"))?;
    Ok(PreparedDatabase { options, cluster: Some(cluster) })
}

/// Returns the settings of the private cluster.
///
/// # Errors
/// The path of this program cannot be determined.
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

/// Connects, checks the database, and applies pending migrations. Connecting has a timeout;
/// migrations have none.
async fn connect_and_migrate(
    options: &PgConnectOptions,
    settings: &DatabaseSettings,
    signer: &AuditSigner,
) -> Result<(), Failure> {
    let mut connection = connect::connect(options, settings.wait).await?;
    if let Some(problem) = connection.pooler.as_ref().and_then(connect::Pooler::problem) {
        return Err(Failure::UnsuitableDatabase(vec![problem]));
    }
    let problems = connect::find_problems(&mut connection.db).await?;
    if !problems.is_empty() {
        return Err(Failure::UnsuitableDatabase(problems));
    }
    let security = connect::connection_security(&mut connection, options).await?;
    let pooler =
        connection.pooler.as_ref().map_or_else(|| "none".to_owned(), connect::Pooler::description);
    tracing::info!(connection = %security, pooler, "connected to the database");
    if matches!(security, connect::ConnectionSecurity::Unencrypted) {
        tracing::warn!(
            "the connection to the database is not encrypted; set sslmode in DATABASE_URL"
        );
    }
    let mut db = connection.db;
    connection_settings::configure(&mut db, connection_settings::MIGRATIONS).await?;
    migrate(&mut db, settings.allow_newer_schema, signer).await?;
    db.close().await?;
    Ok(())
}

/// Applies pending migrations, and creates the role, policies and privileges of row-level security
/// again if a restore lacked them. A read-only database is accepted if nothing has to change.
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
        let text = match &*pending {
            "" => "the database is read-only, and its schema is of another version".to_owned(),
            _ => format!("the database is read-only, and migrations are pending: {pending}"),
        };
        return Err(Failure::UnsuitableDatabase(vec![text]));
    }
    let is_empty = progress.pending.len() == progress.known;
    if !is_empty && tenant_access::concerns_role(&tenant_access::list_missing(db).await?) {
        tenant_access::create_role(db).await.map_err(database_failure)?;
    }
    if allow_newer {
        online_migrations::run_ignoring_newer(db).await?;
        if progress.unknown > 0 {
            tracing::warn!(migrations = progress.unknown, "the schema is from a newer version");
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
        tracing::warn!(missing, "row-level security was incomplete and has been restored");
    }
    audit::begin_signing(db, signer, SystemClock.now()).await?;
    Ok(())
}

/// Returns the message of the database's error without further advice, because these messages state
/// what to do.
fn database_failure(error: sqlx::Error) -> Failure {
    match error.as_database_error() {
        Some(error) => Failure::UnsuitableDatabase(vec![error.message().to_owned()]),
        None => error.into(),
    }
}
