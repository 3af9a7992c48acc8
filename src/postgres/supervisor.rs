//! A thread in every process that uses Postgres, which keeps Postgres and the janitor running.
//!
//! The one thing to know: it looks twice a second, because neither is its child (another process
//! may have started them) and the death of a stranger is no event one could wait for.

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

/// Keeps Postgres running, and counts as one of its users, until it is dropped.
#[derive(Debug)]
pub(super) struct Supervisor {
    _end: Sender<Infallible>,
}

impl Supervisor {
    /// Starts the janitor and Postgres, and restarts them when they end. The janitor comes first:
    /// from then on no crash of this process can leave a Postgres that is never stopped.
    pub(super) fn start(engine: Launcher, janitor: &Path, users: File) -> Result<Self, Error> {
        let janitor = std::path::absolute(janitor).map_err(|e| Error::io("run", janitor, e))?;
        let mut watch = SupervisorLoop { engine, janitor, children: Vec::new(), _users: users };
        watch.ensure_janitor()?;
        watch.engine.ensure_initialised()?;
        // Also where it runs: what answers has to be looked at once.
        watch.children.extend(watch.engine.ensure_running()?);
        let (end, ended) = channel();
        let home = watch.engine.home.path().to_owned();
        let thread = thread::Builder::new().name("postgres-keeper".to_owned());
        let spawned = thread.spawn(move || watch.run(&ended));
        spawned.map_err(|e| Error::io("start a thread for", &home, e))?;
        Ok(Self { _end: end })
    }
}

struct SupervisorLoop {
    engine: Launcher,
    janitor: PathBuf,
    children: Vec<Child>,
    /// Locked shared, here and not in the cluster: a process that may start Postgres also uses it.
    _users: File,
}

impl SupervisorLoop {
    fn run(mut self, ended: &Receiver<Infallible>) {
        let mut pause = CHECK_INTERVAL;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(pause) {
            pause = match self.check() {
                Ok(()) => CHECK_INTERVAL,
                Err(error) => {
                    tracing::error!(%error, "cannot keep Postgres running");
                    MAX_RETRY_INTERVAL.min(pause * 2)
                }
            };
        }
    }

    fn check(&mut self) -> Result<(), Error> {
        // Checking also reaps: a dead child stays a zombie until its parent has waited for it.
        self.children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        self.ensure_janitor()?;
        self.ensure_postgres()
    }

    fn ensure_janitor(&mut self) -> Result<(), Error> {
        if !janitor::is_running(&self.engine.home)? {
            self.children.push(janitor::spawn(&self.janitor, &self.engine.home)?);
        }
        Ok(())
    }

    fn ensure_postgres(&mut self) -> Result<(), Error> {
        let postmaster = process::postmaster(&self.engine.home);
        if !postmaster.is_some_and(|it| it.is_ready) {
            self.children.extend(self.engine.ensure_running()?);
        }
        Ok(())
    }
}
