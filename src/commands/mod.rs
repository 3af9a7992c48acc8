//! What the binary can be told to do.

pub mod key;
pub mod migrate;
pub mod openapi;
pub mod serve;

use std::io::{self, Write};
use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::postgres;

/// Why a command ended without success, in words for whoever typed it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Variables are wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The made-up secrets can not be kept.
    #[error("the secrets can not be read or made: {0}; set DATA_DIR to a folder of your own")]
    Secrets(#[source] io::Error),
    /// The private Postgres does not run.
    #[error("{0}")]
    Postgres(#[from] postgres::Error),
    /// The database does not answer.
    #[error("the database does not answer: {0}; check DATABASE_URL")]
    Database(#[from] sqlx::Error),
    /// The schema can not be brought up to date.
    #[error("the database's schema can not be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// An address can not be listened on.
    #[error("{variable}: can not listen on {address}: {source}")]
    Listen {
        /// The variable that names the address.
        variable: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Logs, metrics or traces can not be set up.
    #[error("telemetry can not be set up: {0}")]
    Telemetry(#[from] crate::telemetry::SetupError),
    /// A text is not what it was asked to be.
    #[error("{0}")]
    Refused(String),
    /// Reading from or writing to the terminal, or starting threads, failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes to standard output. That nobody reads it any more is no failure.
fn say(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
