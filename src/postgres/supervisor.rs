//! A thread in every process that uses Postgres, which keeps Postgres and the janitor running.
//!
//! It polls twice a second, because another process may have started them, and the end of a process
//! that is not a child cannot be waited for.

use std::convert::Infallible;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::launcher::Launcher;
use super::{Error, janitor, process};

const CHECK_INTERVAL: Duration = Duration::from_millis(500);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Keeps Postgres running, and has the shared lock of its users, until it is dropped.
#[derive(Debug)]
pub(super) struct Supervisor {
    _end: Sender<Infallible>,
}

impl Supervisor {
    /// Starts the janitor and Postgres, and keeps them running. The janitor is started first, so
    /// that Postgres is stopped even if this process is killed.
    pub(super) fn start(launcher: Launcher, janitor: &Path, users: File) -> Result<Self, Error> {
        let janitor = std::path::absolute(janitor).map_err(|e| Error::io("run", janitor, e))?;
        let mut supervisor =
            SupervisorLoop { launcher, janitor, children: Vec::new(), _users: users };
        supervisor.ensure_janitor()?;
        supervisor.launcher.ensure_initialized()?;
        // Also for a running Postgres, whose socket folder must be checked once.
        supervisor.children.extend(supervisor.launcher.ensure_running()?);
        let (end, ended) = channel();
        let home = supervisor.launcher.home.path().to_owned();
        let thread = thread::Builder::new().name("postgres-supervisor".to_owned());
        let spawned = thread.spawn(move || supervisor.run(&ended));
        spawned.map_err(|e| Error::io("start a thread for", &home, e))?;
        Ok(Self { _end: end })
    }
}

struct SupervisorLoop {
    launcher: Launcher,
    janitor: PathBuf,
    children: Vec<Child>,
    /// The shared lock of Postgres's users. It is stored here so that it is locked as long as this
    /// thread may start Postgres.
    _users: File,
}

impl SupervisorLoop {
    fn run(mut self, ended: &Receiver<Infallible>) {
        let mut interval = CHECK_INTERVAL;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(interval) {
            interval = match self.check() {
                Ok(()) => CHECK_INTERVAL,
                Err(error) => {
                    tracing::error!(%error, "could not keep Postgres running; will retry");
                    MAX_RETRY_INTERVAL.min(interval * 2)
                }
            };
        }
    }

    fn check(&mut self) -> Result<(), Error> {
        // An ended child is a zombie until its parent has waited for it.
        self.children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        self.ensure_janitor()?;
        self.ensure_postgres()
    }

    fn ensure_janitor(&mut self) -> Result<(), Error> {
        if !janitor::is_running(&self.launcher.home)? {
            self.children.push(janitor::spawn(&self.janitor, &self.launcher.home)?);
        }
        Ok(())
    }

    fn ensure_postgres(&mut self) -> Result<(), Error> {
        let postmaster = process::postmaster(&self.launcher.home);
        if !postmaster.is_some_and(|it| it.is_ready) {
            self.children.extend(self.launcher.ensure_running()?);
        }
        Ok(())
    }
}
