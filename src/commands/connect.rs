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
use crate::repo::{catalog, session};

/// How long the database may take to say its first word.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// How long to wait before one that is not there yet is asked again.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a session may be waited for behind a pooler. One that has none to spare while another
/// connection does nothing lends each to one client.
const POOLER: Duration = Duration::from_secs(5);
/// The oldest version that has all that the migrations use.
pub(super) const OLDEST: i32 = 140_000;

/// A connection, and what it goes through.
pub(super) struct Connected {
    pub(super) db: PgConnection,
    /// The pooler before the database, where there is one.
    pub(super) pooler: Option<Pooler>,
}

/// A pooler before the database.
pub(super) struct Pooler {
    /// What it calls itself, such as `PgBouncer 1.18.0`.
    pub(super) name: String,
    /// Whether it lends a session to several clients in turn.
    pub(super) is_shared: bool,
}

/// Connects, waiting as long as `wait` for a database that is not there yet.
///
/// # Errors
/// A database that does not answer, or refuses us.
pub(super) async fn connect(
    options: &PgConnectOptions,
    wait: Duration,
) -> Result<Connected, Failure> {
    let started = Instant::now();
    let mut told = String::new();
    loop {
        let failure = match connect_and_look(options).await {
            Ok(connected) => return Ok(connected),
            Err(failure) => failure,
        };
        if !is_absent(&failure) || started.elapsed() + AGAIN > wait {
            return Err(failure);
        }
        if told != failure.to_string() {
            told = failure.to_string();
            tracing::warn!(cause = told, wait_seconds = wait.as_secs(), "waiting for the database");
        }
        sleep(AGAIN).await;
    }
}

async fn connect_and_look(options: &PgConnectOptions) -> Result<Connected, Failure> {
    let (mut db, is_direct) = attempt(options).await?;
    let pooler = if is_direct { None } else { Some(look_at_pooler(options, &mut db).await?) };
    Ok(Connected { db, pooler })
}

/// A connection, and whether nothing stands between us and the database.
async fn attempt(options: &PgConnectOptions) -> Result<(PgConnection, bool), Failure> {
    let probing = options.clone().options([session::POOLER_PROBE]);
    let connected = async {
        match probing.connect().await {
            Ok(mut db) => {
                let is_direct = session::is_direct(&mut db).await?;
                Ok((db, is_direct))
            }
            Err(error) if is_of_startup(&error) => Ok((options.connect().await?, false)),
            Err(error) => Err(error),
        }
    };
    let connected = timeout(CONNECT, connected).await;
    Ok(connected.map_err(|_| Failure::Silent(CONNECT.as_secs()))??)
}

/// Whether a pooler does not know what the startup packet asks for.
fn is_of_startup(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|it| it.message().contains("startup parameter"))
}

/// Whether a pooler refuses a transaction of several statements.
fn is_of_pool_mode(refusal: &dyn DatabaseError) -> bool {
    refusal.message().contains("statement pooling mode")
}

/// Whether the database may well be there in a moment.
fn is_absent(failure: &Failure) -> bool {
    match failure {
        Failure::Silent(_) => true,
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
async fn look_at_pooler(
    options: &PgConnectOptions,
    db: &mut PgConnection,
) -> Result<Pooler, Failure> {
    let name = async {
        let mut console = options.clone().database("pgbouncer").connect().await?;
        session::pooler_version(&mut console).await
    };
    let name = match timeout(POOLER, name).await {
        Ok(Ok(version)) => version,
        // PgBouncer has such a database, for its administrators alone.
        Ok(Err(sqlx::Error::Database(refusal))) if refusal.message() == "not allowed" => {
            "PgBouncer".to_owned()
        }
        _ => "a connection pooler".to_owned(),
    };
    let mut is_shared = false;
    for _ in 0..4 {
        let look = async {
            let mut other = options.connect().await?;
            session::is_shared(db, &mut other).await
        };
        is_shared = match timeout(POOLER, look).await {
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
    pub(super) fn words(&self) -> String {
        let mode = if self.is_shared { "transaction or statement" } else { "session" };
        format!("{} in {mode} mode", self.name)
    }

    /// Why we can not work behind it, if so.
    pub(super) fn problem(&self) -> Option<String> {
        let words = self.words();
        self.is_shared.then(|| {
            format!(
                "DATABASE_URL leads to {words}, behind which settings and prepared statements \
                 reach other clients' sessions: set pool_mode = session there, or connect to \
                 Postgres itself"
            )
        })
    }
}

/// What is wrong with the database that no connection can set right for itself; each in a sentence
/// that says what to do.
///
/// # Errors
/// The database's own.
pub(super) async fn problems(db: &mut PgConnection) -> Result<Vec<String>> {
    let found = catalog::foundations(db).await?;
    let mut problems = Vec::new();
    if found.version_number < OLDEST {
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

/// Whether what is sent to the database and back can be read on its way.
pub(super) enum Privacy {
    /// It stays on this machine.
    Local,
    /// It is encrypted; `is_verified` is whether the other side had to show who it is.
    Encrypted { protocol: String, is_verified: bool },
    /// It can be read.
    Plain,
}

/// How private the way to the database is; the first part of it, behind a pooler.
///
/// # Errors
/// The database's own.
pub(super) async fn privacy(
    connected: &mut Connected,
    options: &PgConnectOptions,
) -> Result<Privacy> {
    let is_verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    let encrypted = |protocol| Privacy::Encrypted { protocol, is_verified };
    if options.get_socket().is_some() || options.get_host().starts_with('/') {
        return Ok(Privacy::Local);
    }
    let transport = catalog::transport(&mut connected.db).await?;
    if connected.pooler.is_none() {
        return Ok(match (transport.is_encrypted, transport.is_local) {
            (true, _) => encrypted(transport.protocol.unwrap_or_else(|| "TLS".to_owned())),
            (false, true) => Privacy::Local,
            (false, false) => Privacy::Plain,
        });
    }
    // What the database sees is the pooler's connection, not ours.
    let loops = ["localhost", "::1"].contains(&options.get_host());
    let is_encrypted = match options.get_ssl_mode() {
        PgSslMode::Disable | PgSslMode::Allow => false,
        PgSslMode::Prefer => {
            let only = options.clone().ssl_mode(PgSslMode::Require);
            let tried = timeout(POOLER, only.connect()).await;
            match tried {
                Ok(Ok(db)) => db.close().await.is_ok(),
                _ => false,
            }
        }
        _ => true,
    };
    Ok(match is_encrypted {
        true => encrypted("TLS".to_owned()),
        false if loops || options.get_host().starts_with("127.") => Privacy::Local,
        false => Privacy::Plain,
    })
}

impl fmt::Display for Privacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("stays on this machine"),
            Self::Encrypted { protocol, is_verified: true } => {
                write!(f, "encrypted with {protocol}, certificate verified")
            }
            Self::Encrypted { protocol, is_verified: false } => {
                write!(f, "encrypted with {protocol}, certificate not verified")
            }
            Self::Plain => f.write_str("not encrypted"),
        }
    }
}
