//! The signals that end a server, and those that are ignored.

use std::io::{self, IsTerminal};

use rustix::process::Signal as Known;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::commands::Failure;

/// Signals that would end a process at once and mean nothing to a server: for log rotation or
/// reloading, timers, a file that became too large.
const IGNORED: [Known; 8] = [
    Known::USR1,
    Known::USR2,
    Known::ALARM,
    Known::VTALARM,
    Known::PROF,
    Known::IO,
    Known::XCPU,
    Known::XFSZ,
];

/// The signals that end a server: SIGINT (from a terminal), SIGTERM and SIGQUIT (from an
/// orchestrator), and SIGHUP where it means that the terminal was closed. The server ignores the
/// others.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
    has_terminal: bool,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system's own.
    pub(super) fn listen() -> Result<Self, Failure> {
        ignore(&IGNORED)?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            has_terminal: io::stderr().is_terminal(),
        })
    }

    /// Waits for the next one that ends the server; whether it came from an orchestrator.
    pub(super) async fn next(&mut self) -> bool {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return false,
                _ = self.terminate.recv() => return true,
                _ = self.quit.recv() => return true,
                _ = self.hangup.recv() => {
                    if self.has_terminal {
                        return false;
                    }
                    tracing::info!("SIGHUP ignored: settings are read at start only");
                }
            }
        }
    }
}

/// Makes this process, which ends by itself, ignore every signal that can be ignored.
///
/// # Errors
/// Those of the system.
pub(super) fn ignore_all() -> Result<(), Failure> {
    // Signal handlers stay installed for the life of the process, but can be installed only within
    // a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _guard = runtime.enter();
    ignore(&IGNORED)?;
    ignore(&[Known::HUP, Known::INT, Known::QUIT, Known::TERM])
}

fn ignore(signals: &[Known]) -> Result<(), Failure> {
    for ignored in signals {
        drop(signal(SignalKind::from_raw(ignored.as_raw()))?);
    }
    Ok(())
}
