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
pub mod setup;
mod signals;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use sqlx::migrate::MigrateError;

use crate::config::ConfigError;
use crate::postgres;

/// Why a command failed, with a message for the operator.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Environment variables are invalid.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The generated secrets cannot be read or stored.
    #[error("the secrets cannot be read or created: {0}; DATA_DIR is their folder")]
    Secrets(#[source] io::Error),
    /// The private Postgres does not run.
    #[error("{0}")]
    Postgres(#[from] postgres::Error),
    /// The database does not respond, or rejects the connection or a statement.
    #[error("{}; check DATABASE_URL", database_message(.0))]
    Database(#[from] sqlx::Error),
    /// The database does not respond in time.
    #[error("the database did not respond within {0} seconds; check DATABASE_URL")]
    DatabaseTimeout(u64),
    /// The database lacks properties that the code needs.
    #[error("{}", .0.join("\n  "))]
    UnsuitableDatabase(Vec<String>),
    /// The migrations cannot be applied.
    #[error("{}", migration_message(.0))]
    Migrate(#[from] MigrateError),
    /// The server cannot listen on an address.
    #[error("{variable}: cannot listen on {address}: {source}; set it to another address")]
    Listen {
        /// The variable with the address.
        variable: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The server cannot listen on a unix socket.
    #[error("VERIFY_ADDR: cannot listen on {}: {source}", path.display())]
    ListenOnSocket {
        /// The path of the socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Mail is written to files, and the folder is not writable.
    #[error(
        "mail cannot be written to {}: {cause}; set DATA_DIR to a writable folder, or set \
         SMTP_URL", folder.display()
    )]
    MailFolder {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// Logs, metrics or traces cannot be set up.
    #[error("telemetry cannot be set up: {0}")]
    Telemetry(#[from] crate::telemetry::SetupError),
    /// An operation failed.
    #[error("{}", with_source(.0))]
    Operation(#[from] crate::error::Error),
    /// Another failure, such as an invalid argument.
    #[error("{0}")]
    Message(String),
    /// Reading from or writing to the terminal, or starting threads, failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Returns the message of the database's error, or of the failure to reach it.
fn database_message(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => format!("the database reports an error: {}", error.message()),
        None => format!("the database cannot be reached: {error}"),
    }
}

/// Returns why the migrations cannot be applied, and what to do.
fn migration_message(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(_) => {
            "the schema of this database is from a newer version of Tenantry: run that version; to \
             return to this version temporarily, set ALLOW_NEWER_SCHEMA=on (it works for one \
             version back)"
                .to_owned()
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => format!(
            "the migrations cannot be applied: {}; the role in DATABASE_URL must own the database",
            database_message(error)
        ),
        error => format!("the migrations cannot be applied: {error}"),
    }
}

/// Returns the message of an error and its source, which the operator may see.
fn with_source(error: &crate::error::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

/// Writes to standard output. A closed pipe is not a failure.
pub fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
