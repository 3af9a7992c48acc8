//! The database settings: an existing Postgres, named by a URL, or a private one that the server
//! runs itself.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::config::database_url::{self, TlsDefaults};
use crate::config::env::Env;
use crate::config::keys::parse_switch;
use crate::model::ValidationError;

/// The maximum number of connections to a private Postgres, which allows 100 and reserves some.
const MAX_PRIVATE_CONNECTIONS: u32 = 90;
/// The default of `DATABASE_WAIT_SECONDS`.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// The database settings.
pub struct DatabaseSettings {
    /// The connection to an existing database; `None` for a private one.
    pub url: Option<PgConnectOptions>,
    /// The maximum number of connections, besides those for lookups and for verifiers.
    pub max_connections: u32,
    /// The maximum time to wait at start for a database that is not reachable yet.
    pub wait: Duration,
    /// Whether the server reports that it is ready while its database is read-only.
    pub is_ready_when_read_only: bool,
    /// Whether the server runs on a schema from a newer version.
    pub allow_newer_schema: bool,
    /// The folder of a private database, generated secrets and mail files.
    pub data_dir: PathBuf,
    /// The folder of the Postgres programs; `None` searches the usual folders.
    pub pg_bin_dir: Option<PathBuf>,
}

impl DatabaseSettings {
    /// Reads the settings from `env`.
    pub fn read(env: &mut Env<'_>) -> Self {
        let max_connections =
            env.optional("DATABASE_MAX_CONNECTIONS", parse_connections).unwrap_or(10);
        if max_connections > MAX_PRIVATE_CONNECTIONS && !env.is_set("DATABASE_URL") {
            let problem =
                format!("must be at most {MAX_PRIVATE_CONNECTIONS} for a private Postgres");
            env.add_problem("DATABASE_MAX_CONNECTIONS", problem);
        }
        // Checked here because the driver reads a misspelt mode as `prefer`.
        let ssl_mode = env.optional("PGSSLMODE", database_url::parse_ssl_mode);
        let has_root_certificate = env.optional("PGSSLROOTCERT", |_| Ok(())).is_some();
        let defaults = TlsDefaults { ssl_mode: ssl_mode.as_deref(), has_root_certificate };
        let wait = env.optional("DATABASE_WAIT_SECONDS", parse_wait);
        Self {
            url: env.optional("DATABASE_URL", |text| database_url::parse(text, defaults)),
            max_connections,
            wait: wait.unwrap_or(DEFAULT_WAIT),
            is_ready_when_read_only: env
                .optional("READY_WHEN_READ_ONLY", parse_switch)
                .unwrap_or(true),
            allow_newer_schema: env.optional("ALLOW_NEWER_SCHEMA", parse_switch).unwrap_or(false),
            data_dir: data_dir(env),
            pg_bin_dir: env.optional("PG_BIN_DIR", |text| Ok(PathBuf::from(text))),
        }
    }
}

/// Reads `DATA_DIR`, the folder of a private database, generated secrets and mail files.
pub fn data_dir(env: &mut Env<'_>) -> PathBuf {
    let set = env.optional("DATA_DIR", |text| Ok(PathBuf::from(text)));
    set.unwrap_or_else(|| PathBuf::from(".tenantry"))
}

fn parse_connections(text: &str) -> Result<u32, ValidationError> {
    let size = text.parse().ok().filter(|size| (1..=1000).contains(size));
    size.ok_or("must be a number from 1 to 1000".into())
}

fn parse_wait(text: &str) -> Result<Duration, ValidationError> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= 3600);
    seconds.map(Duration::from_secs).ok_or("must be a number of seconds from 0 to 3600".into())
}
