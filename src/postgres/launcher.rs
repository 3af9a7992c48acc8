//! Uses the running Postgres, or starts one.
//!
//! From the check whether Postgres runs until it accepts connections, the process has the start
//! lock: if several processes start at once, one starts Postgres and the others use it.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::home::{ClusterHome, PORT};
use super::initialize::NewCluster;
use super::installation::Binaries;
use super::log::PostgresLog;
use super::privileges::ProcessUsers;
use super::process::{self, POLL_INTERVAL};
use super::{Durability, Error, initialize};
use crate::entropy::{SystemEntropy, random_base62};

/// The time that Postgres may take to start. Recovery after a crash takes a few minutes at most.
const START_TIMEOUT: Duration = Duration::from_mins(5);

/// Starts the Postgres of one cluster, as often as needed.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) home: ClusterHome,
    pub(super) process_users: ProcessUsers,
    pub(super) binaries: Binaries,
    pub(super) durability: Durability,
}

impl Launcher {
    /// Creates the cluster if there is none.
    pub(super) fn ensure_initialized(&self) -> Result<(), Error> {
        let _lock = self.lock_start()?;
        initialize::remove_unfinished(self.home.path());
        if self.home.major()?.is_some() {
            return Ok(());
        }
        let cluster = NewCluster {
            home: &self.home,
            process_users: &self.process_users,
            binaries: &self.binaries,
            durability: self.durability,
        };
        initialize::initialize(&cluster, &PostgresLog::prepare(&self.home)?)
    }

    /// Waits until Postgres accepts connections, and starts it if needed. Returns the process if
    /// this call started it. Never creates a cluster: if one is removed while a server runs, an
    /// error is better than an empty database.
    pub(super) fn ensure_running(&self) -> Result<Option<Child>, Error> {
        let _lock = self.lock_start()?;
        if self.try_use_running()? {
            return Ok(None);
        }
        if self.home.major()?.is_none() {
            return Err(Error::NotACluster { data: self.home.data() });
        }
        let log = PostgresLog::prepare(&self.home)?;
        self.prepare_socket_folder()?;
        self.stop_interrupted_upgrade()?;
        process::remove_stale_files(&self.home, &self.process_users)?;
        self.launch(&log).map(Some)
    }

    /// Stops the Postgres that an interrupted upgrade left running on this data.
    fn stop_interrupted_upgrade(&self) -> Result<(), Error> {
        let old_home = self.home.upgrade_source();
        process::stop(&old_home);
        process::kill_orphans(&old_home);
        process::wait_until_unreachable(&old_home)
    }

    fn lock_start(&self) -> Result<File, Error> {
        let lock = self.home.open_start_lock()?;
        lock.lock().map_err(|e| Error::io("lock", self.home.path(), e))?;
        Ok(lock)
    }

    /// Waits until a running Postgres is ready. Returns false if none runs or it exits before that.
    fn try_use_running(&self) -> Result<bool, Error> {
        let started = Instant::now();
        while self.is_alive() {
            // The pid in the file is not compared: it may belong to another container.
            if process::is_marked_ready(&self.home) {
                self.use_running_socket_folder()?;
                tracing::debug!(home = %self.home.path().display(), "using the running Postgres");
                return Ok(true);
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(
                    PostgresLog::of_running(&self.home).failure("postgres", "not ready in time")
                );
            }
            sleep(POLL_INTERVAL);
        }
        Ok(false)
    }

    /// Returns whether Postgres runs. The socket is tried first, because it also finds a Postgres
    /// in another container on the same files, whose pid is not valid here. A socket in a folder
    /// that is not private is ignored, because any user could listen there.
    fn is_alive(&self) -> bool {
        let folder = self.home.socket_folder();
        let is_private = folder.is_some_and(|it| self.process_users.is_private(Path::new(&it)));
        is_private && process::accepts_connections(&self.home)
            || process::postmaster(&self.home).is_some()
    }

    /// Checks and records the socket folder of the running Postgres. A previous version may have
    /// started it with a folder of another name.
    fn use_running_socket_folder(&self) -> Result<(), Error> {
        let home_socket = self.home.home_socket_folder().map(ToOwned::to_owned);
        let Some(folder) = home_socket.or_else(|| process::socket_folder(&self.home)) else {
            return Ok(());
        };
        self.check_private(&folder)?;
        self.record_socket_folder(&folder)
    }

    /// Creates and checks the socket folder: in the home, or under `/tmp` with an unpredictable
    /// name. Access to the socket is the only access control of the database, so the folder must be
    /// private.
    fn prepare_socket_folder(&self) -> Result<(), Error> {
        if let Some(folder) = self.home.home_socket_folder() {
            self.process_users.make_private(Path::new(folder))?;
            return self.check_private(folder);
        }
        // The recorded folder is used again even if it was deleted, because clients know its name.
        if let Some(recorded) = self.home.socket_folder() {
            self.process_users.make_private(Path::new(&recorded))?;
            if self.process_users.is_private(Path::new(&recorded)) {
                return Ok(());
            }
        }
        let folder = format!("/tmp/tenantry-{}", random_base62(&SystemEntropy, 16));
        self.process_users.make_private(Path::new(&folder))?;
        self.check_private(&folder)?;
        self.record_socket_folder(&folder)
    }

    fn check_private(&self, folder: &str) -> Result<(), Error> {
        if self.process_users.is_private(Path::new(folder)) {
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
        let mut command = self.process_users.command(&program);
        // In its own process group it does not receive the terminal's Ctrl-C.
        command.args(self.arguments()).process_group(0);
        command.stdout(log.writer()?).stderr(log.writer()?);
        let mut child = command.spawn().map_err(|e| Error::io("run", &program, e))?;
        let started = Instant::now();
        while !process::postmaster(&self.home).is_some_and(|it| it.is_ready) {
            let ended = child.try_wait().map_err(|e| Error::io("wait for", &program, e))?;
            if let Some(status) = ended {
                return Err(log.failure("postgres", &status.to_string()));
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(log.failure("postgres", "not ready in time"));
            }
            sleep(POLL_INTERVAL);
        }
        tracing::info!(
            home = %self.home.path().display(), version = %self.binaries.version,
            milliseconds = started.elapsed().as_millis(), "started Postgres",
        );
        Ok(child)
    }

    /// Returns the arguments for `postgres`. Settings on the command line take precedence over
    /// every file. `cluster_name` comes first: `process` identifies Postgres by it.
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
        if self.durability == Durability::NonDurable {
            settings.extend(NON_DURABLE_SETTINGS.map(ToOwned::to_owned));
        }
        let options = settings.into_iter().flat_map(|it| ["-c".into(), OsString::from(it)]);
        options.chain(["-D".into(), self.home.data().into_os_string()]).collect()
    }
}

/// Settings with which the log contains only what an operator of Postgres needs. Failed statements
/// are not logged: Tenantry logs the error itself, and callers could fill the disk and leave
/// personal data in the file.
const LOG_SETTINGS: [&str; 7] = [
    "log_timezone=UTC",
    "log_destination=stderr",
    "logging_collector=off",
    "log_min_messages=log",
    "log_min_error_statement=panic",
    "log_checkpoints=off",
    "log_autovacuum_min_duration=-1",
];

const NON_DURABLE_SETTINGS: [&str; 6] = [
    "max_connections=300",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
];
