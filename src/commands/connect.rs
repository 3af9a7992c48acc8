//! The first connection to the database: waits for the database, and checks that it is suitable.

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

/// The timeout of one attempt to connect.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// The timeout of one probe of a pooler. If the pooler assigns the probe no session while
/// another connection is idle, it does not share sessions between clients.
const POOLER_TIMEOUT: Duration = Duration::from_secs(5);
/// The oldest server version that supports what the migrations use: 14.
pub(super) const MIN_SERVER_VERSION: i32 = 140_000;

/// A connection, and the pooler that it goes through.
pub(super) struct DatabaseConnection {
    pub(super) db: PgConnection,
    /// The pooler in front of the database, if there is one.
    pub(super) pooler: Option<Pooler>,
}

/// A connection pooler in front of the database.
pub(super) struct Pooler {
    /// The name that it reports, such as `PgBouncer 1.18.0`.
    pub(super) name: String,
    /// Whether several clients use one session in turn, as in transaction and statement mode.
    pub(super) shares_sessions: bool,
}

/// Connects, and waits up to `wait` for a database that is not reachable yet.
///
/// # Errors
/// The database does not respond, or rejects the connection.
pub(super) async fn connect(
    options: &PgConnectOptions,
    wait: Duration,
) -> Result<DatabaseConnection, Failure> {
    let started = Instant::now();
    let mut last_failure = String::new();
    loop {
        let failure = match connect_and_detect_pooler(options).await {
            Ok(connection) => return Ok(connection),
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

async fn connect_and_detect_pooler(
    options: &PgConnectOptions,
) -> Result<DatabaseConnection, Failure> {
    let (mut db, is_direct) = try_connect(options).await?;
    let pooler = if is_direct { None } else { Some(detect_pooler(options, &mut db).await?) };
    Ok(DatabaseConnection { db, pooler })
}

/// Returns a connection, and whether it reaches the database without a pooler.
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

/// Returns whether a pooler rejected an unknown parameter in the startup packet.
fn is_startup_parameter_error(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|it| it.message().contains("startup parameter"))
}

/// Returns whether a pooler in statement mode rejected a transaction of several statements.
fn is_statement_mode_error(error: &dyn DatabaseError) -> bool {
    error.message().contains("statement pooling mode")
}

/// Returns whether another attempt may succeed soon.
fn is_retryable(failure: &Failure) -> bool {
    match failure {
        Failure::DatabaseTimeout(_) => true,
        Failure::Database(sqlx::Error::Io(error)) => error.kind() != ErrorKind::PermissionDenied,
        Failure::Database(sqlx::Error::Database(error)) => {
            // A pooler whose server is down, too many connections, no such database, shutting down.
            let temporary = ["08", "53", "3D", "57P"];
            let code = error.code().unwrap_or_default();
            temporary.iter().any(|class| code.starts_with(class))
        }
        _ => false,
    }
}

/// Detects the pooler in front of the database, and whether its clients share sessions.
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
        // PgBouncer's database of that name, which only its administrators may use.
        Ok(Err(sqlx::Error::Database(error))) if error.message() == "not allowed" => {
            "PgBouncer".to_owned()
        }
        _ => "a connection pooler".to_owned(),
    };
    let mut shares_sessions = false;
    for _ in 0..4 {
        let probe = async {
            let mut other = options.connect().await?;
            connection_settings::is_transaction_pooled(db, &mut other).await
        };
        shares_sessions = match timeout(POOLER_TIMEOUT, probe).await {
            Ok(Ok(shares_sessions)) => shares_sessions,
            // The pooler is in statement mode.
            Ok(Err(sqlx::Error::Database(error))) if is_statement_mode_error(&*error) => true,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => false,
        };
        if shares_sessions {
            break;
        }
    }
    Ok(Pooler { name, shares_sessions })
}

impl Pooler {
    /// Returns the pooler's name and mode, for the log and `tenantry doctor`.
    pub(super) fn description(&self) -> String {
        let mode = if self.shares_sessions { "transaction or statement" } else { "session" };
        format!("{} in {mode} mode", self.name)
    }

    /// Returns why Tenantry cannot use this pooler, and what to do; `None` if it can.
    pub(super) fn problem(&self) -> Option<String> {
        let pooler = self.description();
        self.shares_sessions.then(|| {
            format!(
                "DATABASE_URL leads to {pooler}, in which clients share sessions and would receive \
                 each other's settings and prepared statements: set pool_mode = session there, or \
                 connect to Postgres directly"
            )
        })
    }
}

/// Returns the database's unsuitable properties that a session cannot change for itself. Each text
/// states what to do.
pub(super) async fn find_problems(db: &mut PgConnection) -> Result<Vec<String>> {
    let server = catalog::server_properties(db).await?;
    let mut problems = Vec::new();
    if server.version_number < MIN_SERVER_VERSION {
        let major = server.version_number / 10_000;
        problems.push(format!("Postgres {major} is too old: use version 14 or newer"));
    }
    if server.encoding != "UTF8" {
        problems.push(format!(
            "the database's encoding is {}, which cannot represent every text: create it again \
             with encoding 'UTF8' template template0",
            server.encoding
        ));
    }
    if !server.folds_ascii {
        let text = "the database's collation does not fold the case of ASCII letters, so names \
                    that differ only in case would not be equal: create it again with locale 'C' \
                    template template0";
        problems.push(text.to_owned());
    }
    if !server.has_schema {
        let text = "the search_path contains no schema to create tables in: run create schema \
                    public, or alter role … set search_path";
        problems.push(text.to_owned());
    }
    if server.replication_role != "origin" {
        problems.push(format!(
            "session_replication_role is {} and must be origin, so that triggers seal the audit \
             log: run alter role … reset session_replication_role",
            server.replication_role
        ));
    }
    Ok(problems)
}

/// How the connection to the database is protected against eavesdropping.
pub(super) enum ConnectionSecurity {
    /// The connection stays on this machine.
    Local,
    /// The connection is encrypted; `is_verified` states whether the certificate was verified.
    Encrypted { protocol: String, is_verified: bool },
    /// The connection is not encrypted.
    Unencrypted,
}

/// Returns how the connection is protected. Behind a pooler, this is the connection to the pooler.
pub(super) async fn connection_security(
    connection: &mut DatabaseConnection,
    options: &PgConnectOptions,
) -> Result<ConnectionSecurity> {
    let is_verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    let encrypted = |protocol| ConnectionSecurity::Encrypted { protocol, is_verified };
    if options.get_socket().is_some() || options.get_host().starts_with('/') {
        return Ok(ConnectionSecurity::Local);
    }
    let transport = catalog::connection_transport(&mut connection.db).await?;
    if connection.pooler.is_none() {
        return Ok(match (transport.is_encrypted, transport.is_local) {
            (true, _) => encrypted(transport.protocol.unwrap_or_else(|| "TLS".to_owned())),
            (false, true) => ConnectionSecurity::Local,
            (false, false) => ConnectionSecurity::Unencrypted,
        });
    }
    // Behind a pooler, the database reports on the pooler's connection instead.
    let is_loopback = |host: &str| ["localhost", "::1"].contains(&host) || host.starts_with("127.");
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
        false if is_loopback(options.get_host()) => ConnectionSecurity::Local,
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
