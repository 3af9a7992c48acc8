//! The commands of the binary.

pub mod audit;
mod connect;
pub mod doctor;
pub mod janitor;
pub mod key;
pub mod key_import;
pub mod mail;
mod maintenance;
pub mod migrate;
pub mod openapi;
pub mod org;
pub mod private_postgres;
pub mod serve;
mod signals;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use sqlx::migrate::MigrateError;

use crate::config::ConfigError;
use crate::postgres;

/// Why a command failed, as a message for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Variables are wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The made-up secrets can not be kept.
    #[error("the secrets can not be read or made: {0}; DATA_DIR names their folder")]
    Secrets(#[source] io::Error),
    /// The private Postgres does not run.
    #[error("{0}")]
    Postgres(#[from] postgres::Error),
    /// The database does not answer, or refuses us.
    #[error("{}; check DATABASE_URL", database_message(.0))]
    Database(#[from] sqlx::Error),
    /// The database accepts the connection and does not answer.
    #[error("the database did not answer within {0} seconds; check DATABASE_URL")]
    DatabaseTimeout(u64),
    /// The database is not as the code needs it.
    #[error("{}", .0.join("\n  "))]
    UnsuitableDatabase(Vec<String>),
    /// The schema can not be brought up to date.
    #[error("{}", migration_message(.0))]
    Migrate(#[from] MigrateError),
    /// An address can not be listened on.
    #[error("{variable}: can not listen on {address}: {source}; set it to another address")]
    Listen {
        /// The variable that names the address.
        variable: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Mail goes to files, and can not be written there.
    #[error(
        "mail can not be written to {}: {cause}; make DATA_DIR a folder that can be written, or \
         set SMTP_URL", folder.display()
    )]
    MailFolder {
        /// Where it would go.
        folder: PathBuf,
        /// Why it can not.
        cause: io::Error,
    },
    /// Logs, metrics or traces can not be set up.
    #[error("telemetry can not be set up: {0}")]
    Telemetry(#[from] crate::telemetry::SetupError),
    /// An operation failed.
    #[error("{}", with_source(.0))]
    Operation(#[from] crate::error::Error),
    /// Any other error, as a message.
    #[error("{0}")]
    Message(String),
    /// Reading from or writing to the terminal, or starting threads, failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The database's error message, or why it did not answer.
fn database_message(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(refusal) => format!("the database refuses: {}", refusal.message()),
        None => format!("the database does not answer: {error}"),
    }
}

/// Why the schema can not be brought up to date, and what to do about it.
fn migration_message(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(_) => {
            "the schema of this database is a newer Tenantry's: run that one; to go back to this \
             version for a while, set ALLOW_NEWER_SCHEMA=on (it works one version back)"
                .to_owned()
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => format!(
            "the schema can not be brought up to date: {}; the role of DATABASE_URL has to own \
             the database",
            database_message(error)
        ),
        error => format!("the schema can not be brought up to date: {error}"),
    }
}

/// An error with its source: commands are run by the operator.
fn with_source(error: &crate::error::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

/// Writes to standard output. A closed pipe is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
