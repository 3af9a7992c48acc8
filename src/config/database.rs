//! Where the database is: somebody's, named by a URL, or a private one of ours.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::config::database_url::{self, Surroundings};
use crate::config::env::Env;
use crate::config::keys::parse_switch;
use crate::model::ValidationError;

/// The most connections that a private Postgres is asked for: it takes 100, some for itself.
const MAX_PRIVATE_CONNECTIONS: u32 = 90;
/// How long a database that is not there yet is waited for.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// Where the database is.
pub struct DatabaseSettings {
    /// Somebody's database; `None` is a private one.
    pub url: Option<PgConnectOptions>,
    /// How many connections to it, those for lookups not counted.
    pub max_connections: u32,
    /// How long a database that is not there yet is waited for at start.
    pub wait: Duration,
    /// Whether a server is ready while its database takes no changes.
    pub is_ready_when_read_only: bool,
    /// Whether a schema of a newer version is worked with.
    pub allow_newer_schema: bool,
    /// Where a private database and our own secrets lie.
    pub data_dir: PathBuf,
    /// Which Postgres to run; `None` looks in the usual places.
    pub pg_bin_dir: Option<PathBuf>,
}

impl DatabaseSettings {
    /// Reads them from `env`.
    pub fn read(env: &mut Env<'_>) -> Self {
        let max_connections =
            env.optional("DATABASE_MAX_CONNECTIONS", parse_connections).unwrap_or(10);
        if max_connections > MAX_PRIVATE_CONNECTIONS && !env.is_set("DATABASE_URL") {
            let problem =
                format!("must be at most {MAX_PRIVATE_CONNECTIONS} for a private Postgres");
            env.add_problem("DATABASE_MAX_CONNECTIONS", problem);
        }
        // The driver takes it for `prefer` where it is misspelt.
        let ssl_mode = env.optional("PGSSLMODE", database_url::parse_ssl_mode);
        let has_root_certificate = env.optional("PGSSLROOTCERT", |_| Ok(())).is_some();
        let around = Surroundings { ssl_mode: ssl_mode.as_deref(), has_root_certificate };
        let wait = env.optional("DATABASE_WAIT_SECONDS", parse_wait);
        Self {
            url: env.optional("DATABASE_URL", |text| database_url::parse(text, around)),
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

/// Where the data of a server without a `DATABASE_URL` lies.
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
