//! The first connection to the database: waited for, and looked at before anything relies on it.

use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection};
use tokio::time::{sleep, timeout};

use crate::commands::Failure;
use crate::error::Result;
use crate::repo::{catalog, connection_settings};

/// How long the database may take to answer for the first time.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before connecting to a database that is not up yet is retried.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How long a session may be waited for behind a pooler. One that has none to spare while another
/// connection does nothing lends each to one client.
const POOLER_TIMEOUT: Duration = Duration::from_secs(5);
/// The oldest version that has all that the migrations use.
pub(super) const MIN_SERVER_VERSION: i32 = 140_000;

/// A connection, and what it passes through.
pub(super) struct DatabaseConnection {
    pub(super) db: PgConnection,
    /// The pooler before the database, where there is one.
    pub(super) pooler: Option<Pooler>,
}

/// A pooler before the database.
pub(super) struct Pooler {
    /// What it calls itself, such as `PgBouncer 1.18.0`.
    pub(super) name: String,
    /// Whether a pooler shares a session between clients.
    pub(super) is_shared: bool,
}

/// Connects, waiting as long as `wait` for a database that is not there yet.
///
/// # Errors
/// A database that does not answer, or refuses us.
pub(super) async fn connect(
    options: &PgConnectOptions,
    wait: Duration,
) -> Result<DatabaseConnection, Failure> {
    let started = Instant::now();
    let mut last_failure = String::new();
    loop {
        let failure = match connect_and_look(options).await {
            Ok(connected) => return Ok(connected),
            Err(failure) => failure,
        };
        if !is_retryable(&failure) || started.elapsed() + RETRY_INTERVAL > wait {
            return Err(failure);
        }
        if last_failure != failure.to_string() {
            last_failure = failure.to_string();
            tracing::warn!(
                cause = last_failure,
                wait_seconds = wait.as_secs(),
                "waiting for the database"
            );
        }
        sleep(RETRY_INTERVAL).await;
    }
}

async fn connect_and_look(options: &PgConnectOptions) -> Result<DatabaseConnection, Failure> {
    let (mut db, is_direct) = try_connect(options).await?;
    let pooler = if is_direct { None } else { Some(detect_pooler(options, &mut db).await?) };
    Ok(DatabaseConnection { db, pooler })
}

/// A connection, and whether nothing stands between us and the database.
async fn try_connect(options: &PgConnectOptions) -> Result<(PgConnection, bool), Failure> {
    let probing = options.clone().options([connection_settings::POOLER_PROBE]);
    let connected = async {
        match probing.connect().await {
            Ok(mut db) => {
                let is_direct = connection_settings::is_direct(&mut db).await?;
                Ok((db, is_direct))
            }
            Err(error) if is_startup_parameter_error(&error) => {
                Ok((options.connect().await?, false))
            }
            Err(error) => Err(error),
        }
    };
    let connected = timeout(CONNECT_TIMEOUT, connected).await;
    Ok(connected.map_err(|_| Failure::DatabaseTimeout(CONNECT_TIMEOUT.as_secs()))??)
}

/// Whether a pooler rejected a parameter of the startup packet.
fn is_startup_parameter_error(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|it| it.message().contains("startup parameter"))
}

/// Whether a pooler refuses a transaction of several statements.
fn is_of_pool_mode(refusal: &dyn DatabaseError) -> bool {
    refusal.message().contains("statement pooling mode")
}

/// Whether the database may well be there in a moment.
fn is_retryable(failure: &Failure) -> bool {
    match failure {
        Failure::DatabaseTimeout(_) => true,
        Failure::Database(sqlx::Error::Io(error)) => error.kind() != ErrorKind::PermissionDenied,
        Failure::Database(sqlx::Error::Database(refusal)) => {
            // A pooler whose server is down, too many connections, no such database, shutting down.
            let absent = ["08", "53", "3D", "57P"];
            let code = refusal.code().unwrap_or_default();
            absent.iter().any(|class| code.starts_with(class))
        }
        _ => false,
    }
}

/// Finds out who stands before the database, and whether it lends sessions to several clients.
async fn detect_pooler(
    options: &PgConnectOptions,
    db: &mut PgConnection,
) -> Result<Pooler, Failure> {
    let name = async {
        let mut console = options.clone().database("pgbouncer").connect().await?;
        connection_settings::pooler_version(&mut console).await
    };
    let name = match timeout(POOLER_TIMEOUT, name).await {
        Ok(Ok(version)) => version,
        // PgBouncer has such a database, for its administrators alone.
        Ok(Err(sqlx::Error::Database(refusal))) if refusal.message() == "not allowed" => {
            "PgBouncer".to_owned()
        }
        _ => "a connection pooler".to_owned(),
    };
    let mut is_shared = false;
    for _ in 0..4 {
        let probe = async {
            let mut other = options.connect().await?;
            connection_settings::is_transaction_pooled(db, &mut other).await
        };
        is_shared = match timeout(POOLER_TIMEOUT, probe).await {
            Ok(Ok(is_shared)) => is_shared,
            // In statement mode.
            Ok(Err(sqlx::Error::Database(refusal))) if is_of_pool_mode(&*refusal) => true,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => false,
        };
        if is_shared {
            break;
        }
    }
    Ok(Pooler { name, is_shared })
}

impl Pooler {
    /// What it is and does, for the log and the doctor.
    pub(super) fn description(&self) -> String {
        let mode = if self.is_shared { "transaction or statement" } else { "session" };
        format!("{} in {mode} mode", self.name)
    }

    /// Why we can not work behind it, if so.
    pub(super) fn problem(&self) -> Option<String> {
        let words = self.description();
        self.is_shared.then(|| {
            format!(
                "DATABASE_URL leads to {words}, behind which settings and prepared statements \
                 reach other clients' sessions: set pool_mode = session there, or connect to \
                 Postgres itself"
            )
        })
    }
}

/// Returns what is unsuitable about the database and can not be corrected by a connection, each as
/// a sentence that says what to do.
pub(super) async fn find_problems(db: &mut PgConnection) -> Result<Vec<String>> {
    let found = catalog::server_properties(db).await?;
    let mut problems = Vec::new();
    if found.version_number < MIN_SERVER_VERSION {
        let major = found.version_number / 10_000;
        problems.push(format!("Postgres {major} is too old: 14 is the oldest that will do"));
    }
    if found.encoding != "UTF8" {
        problems.push(format!(
            "the database's encoding is {}, which does not hold every text: create it anew with \
             encoding 'UTF8' template template0",
            found.encoding
        ));
    }
    if !found.folds_ascii {
        let text = "the database's collation does not fold the case of ASCII letters, so names \
                    that differ in case alone would not be equal: create it anew with locale 'C' \
                    template template0";
        problems.push(text.to_owned());
    }
    if !found.has_schema {
        let text = "there is no schema in the search_path to make tables in: create schema public, \
                    or alter role … set search_path";
        problems.push(text.to_owned());
    }
    if found.replication_role != "origin" {
        problems.push(format!(
            "session_replication_role is {}, so no trigger seals the audit log: alter role … reset \
             session_replication_role",
            found.replication_role
        ));
    }
    Ok(problems)
}

/// Whether traffic to the database could be read in between.
pub(super) enum ConnectionSecurity {
    /// It stays on this machine.
    Local,
    /// It is encrypted; `is_verified` is whether the server's certificate was verified.
    Encrypted { protocol: String, is_verified: bool },
    /// It can be read.
    Unencrypted,
}

/// How private the way to the database is; the first part of it, behind a pooler.
pub(super) async fn connection_security(
    connected: &mut DatabaseConnection,
    options: &PgConnectOptions,
) -> Result<ConnectionSecurity> {
    let is_verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    let encrypted = |protocol| ConnectionSecurity::Encrypted { protocol, is_verified };
    if options.get_socket().is_some() || options.get_host().starts_with('/') {
        return Ok(ConnectionSecurity::Local);
    }
    let transport = catalog::connection_transport(&mut connected.db).await?;
    if connected.pooler.is_none() {
        return Ok(match (transport.is_encrypted, transport.is_local) {
            (true, _) => encrypted(transport.protocol.unwrap_or_else(|| "TLS".to_owned())),
            (false, true) => ConnectionSecurity::Local,
            (false, false) => ConnectionSecurity::Unencrypted,
        });
    }
    // The database sees the pooler's connection and not this one.
    let is_loopback = ["localhost", "::1"].contains(&options.get_host());
    let is_encrypted = match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow => false,
        PgSslMode::Prefer => {
            let required = options.clone().ssl_mode(PgSslMode::Require);
            let attempt = timeout(POOLER_TIMEOUT, required.connect()).await;
            match attempt {
                Ok(Ok(db)) => db.close().await.is_ok(),
                _ => false,
            }
        }
        _ => true,
    };
    Ok(match is_encrypted {
        true => encrypted("TLS".to_owned()),
        false if is_loopback || options.get_host().starts_with("127.") => ConnectionSecurity::Local,
        false => ConnectionSecurity::Unencrypted,
    })
}

impl fmt::Display for ConnectionSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("stays on this machine"),
            Self::Encrypted { protocol, is_verified: true } => {
                write!(f, "encrypted with {protocol}, certificate verified")
            }
            Self::Encrypted { protocol, is_verified: false } => {
                write!(f, "encrypted with {protocol}, certificate not verified")
            }
            Self::Unencrypted => f.write_str("not encrypted"),
        }
    }
}
