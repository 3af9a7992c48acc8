//! The private Postgres: a cluster of a real Postgres that is installed on the machine, started and
//! stopped by this program.
//!
//! No process owns the running Postgres. Every process that needs it has a shared lock on
//! `users.lock` as long as it runs, and the kernel frees that lock however the process ends. The
//! first process starts Postgres, the others use it, and a small detached janitor stops it when the
//! lock has been free for a few seconds.
//!
//! | file | what it does |
//! |---|---|
//! | `installation` | selects an installed Postgres |
//! | `privileges` | selects the user that Postgres runs as, which must not be root |
//! | `home` | knows where the cluster is, and the names of its files |
//! | `initialise` | creates a cluster, completely or not at all |
//! | `launcher` | uses the running Postgres, or starts one |
//! | `process` | knows which processes are alive, and removes what dead ones left |
//! | `upgrade` | moves a cluster to another major version |
//! | `janitor`, `supervisor` | stops an unused Postgres; restarts both |

mod error;
mod home;
mod initialise;
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

/// The role (a superuser) and the database that every cluster has.
const ROLE_AND_DATABASE: &str = "tenantry";

/// How the cluster is to be run.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// Where the cluster lives, for example `.tenantry/postgres`. Made if absent.
    pub home: PathBuf,
    /// The folder of the Postgres programs (`PG_BIN_DIR`); absent, the usual places are searched.
    pub bin_dir: Option<PathBuf>,
    /// What a crash of the machine may lose. Applies to the process that starts Postgres.
    pub durability: Durability,
    /// The program whose hidden sub-command `postgres-janitor <home>` calls [`janitor()`].
    pub janitor_program: PathBuf,
}

/// What a crash of the machine may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed.
    Durable,
    /// Everything: for tests, which want speed and many connections.
    Throwaway,
}

/// A running Postgres, kept running for as long as this value lives.
#[derive(Debug)]
pub struct Cluster {
    home: ClusterHome,
    binaries: Binaries,
    version: String,
    supervisor: Supervisor,
}

impl Cluster {
    /// Uses the Postgres that runs in `settings.home`, or starts one there, creating or repairing
    /// the cluster as needed. When this returns, Postgres accepts connections. Blocks.
    ///
    /// # Errors
    ///
    /// No usable Postgres on this machine, a cluster of another user or version, or a Postgres that
    /// does not start. Every message says what to do next.
    pub fn start(settings: &ClusterSettings) -> Result<Self, Error> {
        let identity = ProcessUsers::current()?;
        let home = ClusterHome::prepare(&settings.home, &identity)?;
        home.create_locks()?;
        let users = home.open_users_lock()?;
        if users.try_lock_shared().is_err() {
            tracing::info!("waiting for Postgres to end its shutdown, or for its upgrade");
            users.lock_shared().map_err(|e| Error::io("lock", home.path(), e))?;
        }
        // Only now: an upgrade gives the data another version, and maybe another owner.
        let identity = identity.for_existing_data(&home.data());
        let binaries = Binaries::find(settings.bin_dir.as_deref(), home.major()?, &identity)?;
        let version = binaries.version.to_string();
        let durability = settings.durability;
        let engine =
            Launcher { home: home.clone(), identity, binaries: binaries.clone(), durability };
        let keeper = Supervisor::start(engine, &settings.janitor_program, users)?;
        Ok(Self { home, binaries, version, supervisor: keeper })
    }

    /// The address of one of its databases. `tenantry` always exists.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        // Port and sslmode are spelt out because a client would take them from PGPORT, PGSSLMODE.
        format!(
            "postgres:///{}?host={}&port={}&user={ROLE_AND_DATABASE}&sslmode=disable",
            percent_encode(database),
            percent_encode(&self.home.socket_folder().unwrap_or_default()),
            home::PORT,
        )
    }

    /// Where the data really lies. Not `Settings::home` when that was out of Postgres's reach.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The version of the Postgres programs in use, such as `15.18`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where a program of the Postgres in use would be, such as `pgbench`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.program(name)
    }

    /// A program of the Postgres of `programs` (or on `PATH`, where that lacks it), to be connected
    /// to this one.
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

    /// Postgres's own log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.home.log()
    }

    /// Stops Postgres and removes the cluster with its data, when no other process uses it. Blocks.
    ///
    /// # Errors
    /// What can not be locked or removed.
    pub fn remove(self) -> Result<(), Error> {
        let Self { home, supervisor: keeper, .. } = self;
        let users = home.open_users_lock()?;
        // Its thread releases the lock.
        drop(keeper);
        users.lock().map_err(|e| Error::io("lock", home.path(), e))?;
        process::stop(&home);
        process::kill_orphans(&home);
        process::remove(&home)
    }
}

/// Whether there is a cluster in this home, or what an interrupted upgrade left of one.
#[must_use]
pub fn has_cluster(home: &Path) -> bool {
    !matches!(ClusterHome::at(home.to_owned()).major(), Ok(None))
}

/// Percent-encodes everything that could mean something in a URL.
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
    fn a_url_part_keeps_nothing_with_a_meaning() {
        assert_eq!(percent_encode("tenantry_1-2.x~"), "tenantry_1-2.x~");
        assert_eq!(percent_encode("/a b?c&d=%é"), "%2Fa%20b%3Fc%26d%3D%25%C3%A9");
    }
}
