//! Where the database is: somebody's, named by a URL, or a private one of ours.

use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::config::env::Env;
use crate::model::Invalid;

/// The most connections that a private Postgres is asked for: it takes 100, some for itself.
const PRIVATE: u32 = 90;

/// Where the database is.
pub struct DatabaseSettings {
    /// Somebody's database; `None` is a private one.
    pub url: Option<PgConnectOptions>,
    /// How many connections to it, those for lookups not counted.
    pub max_connections: u32,
    /// Where a private database and our own secrets lie.
    pub data_dir: PathBuf,
    /// Which Postgres to run; `None` looks in the usual places.
    pub pg_bin_dir: Option<PathBuf>,
}

impl DatabaseSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let max_connections = env.optional("DATABASE_MAX_CONNECTIONS", parse_size).unwrap_or(10);
        if max_connections > PRIVATE && !env.is_set("DATABASE_URL") {
            let problem = format!("must be at most {PRIVATE} for a private Postgres");
            env.problem("DATABASE_MAX_CONNECTIONS", problem);
        }
        Self {
            url: env.optional("DATABASE_URL", parse_url),
            max_connections,
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

fn parse_url(text: &str) -> Result<PgConnectOptions, Invalid> {
    // The parser's own words could repeat the password.
    let is_postgres = ["postgres://", "postgresql://"].iter().any(|it| text.starts_with(it));
    let parsed = is_postgres.then(|| PgConnectOptions::from_str(text).ok()).flatten();
    parsed.ok_or(
        "must be a URL such as postgres://user:password@host:5432/tenantry, with what is special \
         percent-encoded"
            .into(),
    )
}

fn parse_size(text: &str) -> Result<u32, Invalid> {
    let size = text.parse().ok().filter(|size| (1..=1000).contains(size));
    size.ok_or("must be a number from 1 to 1000".into())
}
