//! Uses the running Postgres, or starts one.
//!
//! Checking whether Postgres runs and starting it both happen under the start lock, so of several
//! processes that come at once one starts it and the others use it.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::home::{ClusterHome, PORT};
use super::initialise::NewCluster;
use super::installation::Binaries;
use super::log::PostgresLog;
use super::privileges::ProcessUsers;
use super::process::{self, POLL_INTERVAL};
use super::{Durability, Error, initialise};
use crate::entropy::{SystemEntropy, random_base62};

/// Recovery after a crash replays at most some minutes of work; beyond this something is wrong.
const START_TIMEOUT: Duration = Duration::from_mins(5);

/// What is needed to start Postgres, repeatedly if necessary.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) home: ClusterHome,
    pub(super) identity: ProcessUsers,
    pub(super) binaries: Binaries,
    pub(super) durability: Durability,
}

impl Launcher {
    /// Makes the cluster if there is none.
    pub(super) fn ensure_initialised(&self) -> Result<(), Error> {
        let _turn = self.lock_start()?;
        initialise::remove_unfinished(self.home.path());
        match self.home.major()? {
            Some(_) => Ok(()),
            None => {
                let cluster = NewCluster {
                    home: &self.home,
                    identity: &self.identity,
                    binaries: &self.binaries,
                    durability: self.durability,
                };
                initialise::initialise(&cluster, &PostgresLog::open(&self.home)?)
            }
        }
    }

    /// Returns when Postgres accepts connections, with the process if it was started now. Never
    /// creates a cluster: if one was removed under a running server, that is an error.
    pub(super) fn ensure_running(&self) -> Result<Option<Child>, Error> {
        let _turn = self.lock_start()?;
        if self.adopt()? {
            return Ok(None);
        }
        if self.home.major()?.is_none() {
            return Err(Error::NotACluster { data: self.home.data() });
        }
        let log = PostgresLog::open(&self.home)?;
        self.prepare_socket_folder()?;
        self.end_upgrade()?;
        process::remove_stale_files(&self.home, &self.identity)?;
        self.launch(&log).map(Some)
    }

    /// Ends the Postgres that an upgrade which was killed left running on this data.
    fn end_upgrade(&self) -> Result<(), Error> {
        let apart = self.home.of_upgraded();
        process::stop(&apart);
        process::kill_orphans(&apart);
        process::wait_for_silence(&apart)
    }

    fn lock_start(&self) -> Result<File, Error> {
        let lock = self.home.open_start_lock()?;
        lock.lock().map_err(|e| Error::io("lock", self.home.path(), e))?;
        Ok(lock)
    }

    /// Waits for a Postgres that lives to be ready; false if there is none, or it ends meanwhile.
    fn adopt(&self) -> Result<bool, Error> {
        let started = Instant::now();
        while self.is_alive() {
            // Whose pid is in the file does not matter: it may be one of another container.
            if process::is_marked_ready(&self.home) {
                self.adopt_socket_folder()?;
                tracing::debug!(home = %self.home.path().display(), "adopted the running Postgres");
                return Ok(true);
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(
                    PostgresLog::of_running(&self.home).failure("postgres", "still not ready")
                );
            }
            sleep(POLL_INTERVAL);
        }
        Ok(false)
    }

    /// The socket is tried first: it also answers for a Postgres in another container on the same
    /// files, whose pid means nothing here. In a folder that is not private, any process could
    /// answer.
    fn is_alive(&self) -> bool {
        let folder = self.home.socket_folder();
        let is_private = folder.is_some_and(|it| self.identity.is_private(Path::new(&it)));
        is_private && process::answers(&self.home) || process::postmaster(&self.home).is_some()
    }

    /// Where the running Postgres listens: a previous version put the socket under a name that can
    /// be guessed.
    fn adopt_socket_folder(&self) -> Result<(), Error> {
        let near = self.home.home_socket_folder().map(ToOwned::to_owned);
        let Some(folder) = near.or_else(|| process::socket_folder(&self.home)) else {
            return Ok(());
        };
        self.check_private(&folder)?;
        self.record_socket_folder(&folder)
    }

    /// Access to the socket is the only access control, so its folder must be private: in the home,
    /// or under `/tmp` with a name that could not be known before.
    fn prepare_socket_folder(&self) -> Result<(), Error> {
        if let Some(near) = self.home.home_socket_folder() {
            self.identity.make_private(Path::new(near))?;
            return self.check_private(near);
        }
        // Clients know the last one by its name, also where it was cleaned away.
        if let Some(known) = self.home.socket_folder() {
            self.identity.make_private(Path::new(&known))?;
            if self.identity.is_private(Path::new(&known)) {
                return Ok(());
            }
        }
        let folder = format!("/tmp/tenantry-{}", random_base62(&SystemEntropy, 16));
        self.identity.make_private(Path::new(&folder))?;
        self.check_private(&folder)?;
        self.record_socket_folder(&folder)
    }

    fn check_private(&self, folder: &str) -> Result<(), Error> {
        if self.identity.is_private(Path::new(folder)) {
            return Ok(());
        }
        Err(Error::SocketFolder { folder: folder.into() })
    }

    fn record_socket_folder(&self, folder: &str) -> Result<(), Error> {
        match self.home.home_socket_folder() {
            Some(_) => Ok(()),
            None => self.home.record_socket_folder(folder),
        }
    }

    fn launch(&self, log: &PostgresLog) -> Result<Child, Error> {
        let program = self.binaries.program("postgres");
        let mut command = self.identity.command(&program);
        // A process group of its own keeps the terminal's Ctrl-C away from it.
        command.args(self.arguments()).process_group(0);
        command.stdout(log.writer()?).stderr(log.writer()?);
        let mut child = command.spawn().map_err(|e| Error::io("run", &program, e))?;
        let started = Instant::now();
        while !process::postmaster(&self.home).is_some_and(|it| it.is_ready) {
            let ended = child.try_wait().map_err(|e| Error::io("watch", &program, e))?;
            if let Some(status) = ended {
                return Err(log.failure("postgres", &status.to_string()));
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(log.failure("postgres", "still not ready"));
            }
            sleep(POLL_INTERVAL);
        }
        tracing::info!(
            home = %self.home.path().display(), version = %self.binaries.version,
            milliseconds = started.elapsed().as_millis(), "started Postgres",
        );
        Ok(child)
    }

    /// Settings on the command line outrank every file. The name comes first: `process` knows
    /// Postgres by it.
    fn arguments(&self) -> Vec<OsString> {
        let folder = self.home.socket_folder().unwrap_or_default().replace('"', "\"\"");
        let mut settings = vec![
            format!("cluster_name={}", self.home.name()),
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories=\"{folder}\""),
            "unix_socket_permissions=0700".to_owned(),
            format!("port={PORT}"),
            "timezone=UTC".to_owned(),
        ];
        settings.extend(LOG_SETTINGS.map(ToOwned::to_owned));
        if self.durability == Durability::Throwaway {
            settings.extend(THROWAWAY_SETTINGS.map(ToOwned::to_owned));
        }
        let options = settings.into_iter().flat_map(|it| ["-c".into(), OsString::from(it)]);
        options.chain(["-D".into(), self.home.data().into_os_string()]).collect()
    }
}

/// Only what an operator of Postgres needs: failed statements are logged by the server itself, and
/// here would let callers fill the disk and leave their input in a file.
const LOG_SETTINGS: [&str; 7] = [
    "log_timezone=UTC",
    "log_destination=stderr",
    "logging_collector=off",
    "log_min_messages=log",
    "log_min_error_statement=panic",
    "log_checkpoints=off",
    "log_autovacuum_min_duration=-1",
];

const THROWAWAY_SETTINGS: [&str; 6] = [
    "max_connections=300",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
];
