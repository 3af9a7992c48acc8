//! The private Postgres: a cluster that Tenantry runs itself, with the Postgres programs that are
//! installed on the machine.
//!
//! No process owns the running Postgres. Every process that uses it has a shared lock on
//! `users.lock` as long as it runs, and the kernel releases the lock however the process ends. The
//! first process starts Postgres, the others use the running one, and a small detached janitor
//! process stops it once the lock has been free for a few seconds.
//!
//! | module | responsibility |
//! |---|---|
//! | `installation` | finds the installed Postgres programs |
//! | `privileges` | the user that Postgres runs as, which must not be root |
//! | `home` | the folder of the cluster and the names of its files |
//! | `initialize` | creates a new cluster atomically |
//! | `launcher` | uses the running Postgres, or starts one |
//! | `process` | finds, stops and cleans up after Postgres processes |
//! | `log` | the log file of Postgres |
//! | `upgrade` | upgrades a cluster to another major version |
//! | `supervisor` | keeps Postgres and the janitor running |
//! | `janitor` | stops Postgres when no process uses it |

mod error;
mod home;
mod initialize;
mod installation;
mod janitor;
mod launcher;
mod log;
mod privileges;
mod process;
mod supervisor;
mod upgrade;

use std::path::{Path, PathBuf};
use std::process::Command;

pub use error::Error;
pub use installation::PostgresNotFound;
pub use janitor::janitor;
pub use upgrade::{UpgradeOutcome, upgrade};

use home::ClusterHome;
use installation::Binaries;
use launcher::Launcher;
use privileges::ProcessUsers;
use supervisor::Supervisor;

/// The name of the role (a superuser) and of the database that every cluster has.
const ROLE_AND_DATABASE: &str = "tenantry";

/// The settings of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The folder of the cluster, for example `.tenantry/postgres`. It is created if absent.
    pub home: PathBuf,
    /// The folder of the Postgres programs (`PG_BIN_DIR`); `None` searches the usual folders.
    pub bin_dir: Option<PathBuf>,
    /// The durability of commits. It has no effect on a Postgres that is already running.
    pub durability: Durability,
    /// The program whose hidden sub-command `postgres-janitor <home>` calls [`janitor()`].
    pub janitor_program: PathBuf,
}

/// The durability of commits if the machine crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// No committed data is lost.
    Durable,
    /// All data may be lost. For tests, which need speed and many connections.
    NonDurable,
}

/// A running Postgres. It keeps running as long as this value exists.
#[derive(Debug)]
pub struct Cluster {
    home: ClusterHome,
    binaries: Binaries,
    version: String,
    supervisor: Supervisor,
}

impl Cluster {
    /// Uses the Postgres that runs in `settings.home`, or starts one there, and creates or repairs
    /// the cluster as needed. When this returns, Postgres accepts connections. Blocks.
    ///
    /// # Errors
    ///
    /// No usable Postgres is installed, the cluster belongs to another user or version, or Postgres
    /// does not start. Every message states what to do next.
    pub fn start(settings: &ClusterSettings) -> Result<Self, Error> {
        let process_users = ProcessUsers::current()?;
        let home = ClusterHome::prepare(&settings.home, &process_users)?;
        home.create_locks()?;
        let users = home.open_users_lock()?;
        if users.try_lock_shared().is_err() {
            tracing::info!("waiting for the shutdown or upgrade of Postgres to finish");
            users.lock_shared().map_err(|e| Error::io("lock", home.path(), e))?;
        }
        // After the lock, because an upgrade changes the version of the data, and maybe its owner.
        let process_users = process_users.for_existing_data(&home.data());
        let binaries = Binaries::find(settings.bin_dir.as_deref(), home.major()?, &process_users)?;
        let version = binaries.version.to_string();
        let durability = settings.durability;
        let launcher =
            Launcher { home: home.clone(), process_users, binaries: binaries.clone(), durability };
        let supervisor = Supervisor::start(launcher, &settings.janitor_program, users)?;
        Ok(Self { home, binaries, version, supervisor })
    }

    /// Returns the connection URL of a database in the cluster. `tenantry` always exists.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        // Port and sslmode are explicit so that a client does not use PGPORT and PGSSLMODE.
        format!(
            "postgres:///{}?host={}&port={}&user={ROLE_AND_DATABASE}&sslmode=disable",
            percent_encode(database),
            percent_encode(&self.home.socket_folder().unwrap_or_default()),
            home::PORT,
        )
    }

    /// Returns the real folder of the cluster. It differs from [`ClusterSettings::home`] if
    /// Postgres's user could not reach that folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns the version of the Postgres programs in use, such as `15.18`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the path of a program of the Postgres in use, such as `pgbench`. It may not exist.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.program(name)
    }

    /// Returns a command that runs a client program, connected to this cluster. The program is the
    /// one of the Postgres that `programs` uses; if that lacks it, the one on `PATH`.
    #[must_use]
    pub fn client(&self, name: &str, programs: &Self) -> Command {
        let own = Some(programs.program(name)).filter(|program| program.is_file());
        let mut command = Command::new(own.unwrap_or_else(|| PathBuf::from(name)));
        let folder = self.home.socket_folder().unwrap_or_default();
        command.env("PGHOST", folder).env("PGPORT", home::PORT.to_string());
        command
            .env("PGUSER", ROLE_AND_DATABASE)
            .env("PGDATABASE", ROLE_AND_DATABASE)
            .env("PGSSLMODE", "disable");
        command.env_remove("PGHOSTADDR").env_remove("PGPASSWORD").env_remove("PGOPTIONS");
        command.env_remove("PGSERVICE");
        command
    }

    /// Returns the path of Postgres's log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.home.log()
    }

    /// Stops Postgres and removes the cluster with all of its data. Blocks until no other process
    /// uses the cluster.
    ///
    /// # Errors
    /// The cluster cannot be locked or removed.
    pub fn remove(self) -> Result<(), Error> {
        let Self { home, supervisor, .. } = self;
        let users = home.open_users_lock()?;
        // Its thread then releases the shared lock.
        drop(supervisor);
        users.lock().map_err(|e| Error::io("lock", home.path(), e))?;
        process::stop(&home);
        process::kill_orphans(&home);
        process::remove(&home)
    }
}

/// Returns whether the folder contains a cluster, or the remains of an interrupted upgrade.
#[must_use]
pub fn has_cluster(home: &Path) -> bool {
    !matches!(ClusterHome::at(home.to_owned()).major(), Ok(None))
}

/// Percent-encodes every character that may have a meaning in a URL.
fn percent_encode(text: &str) -> String {
    let quoted = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    quoted.collect()
}

#[cfg(test)]
mod tests {
    use super::percent_encode;

    #[test]
    fn every_character_with_a_meaning_in_a_url_is_encoded() {
        assert_eq!(percent_encode("tenantry_1-2.x~"), "tenantry_1-2.x~");
        assert_eq!(percent_encode("/a b?c&d=%é"), "%2Fa%20b%3Fc%26d%3D%25%C3%A9");
    }
}
