//! The signals that stop a server, and those that it ignores.

use std::io::{self, IsTerminal};

use rustix::process::Signal as SignalNumber;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::commands::Failure;

/// Signals that would by default end a process immediately, and that have no meaning for the
/// server: requests to rotate logs or reload settings, timers, a file that became too large.
const IGNORED: [SignalNumber; 8] = [
    SignalNumber::USR1,
    SignalNumber::USR2,
    SignalNumber::ALARM,
    SignalNumber::VTALARM,
    SignalNumber::PROF,
    SignalNumber::IO,
    SignalNumber::XCPU,
    SignalNumber::XFSZ,
];

/// The signals that stop a server: SIGINT (a user at a terminal), SIGTERM and SIGQUIT (an
/// orchestrator), and SIGHUP if it means that the terminal was closed. The server ignores the
/// others.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
    has_terminal: bool,
}

impl Signals {
    /// Starts to listen to the signals.
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

    /// Waits for the next signal that stops the server. Returns whether an orchestrator sent it.
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

/// Ignores `IGNORED` and the signals that would stop a server, in a process that ends by itself.
pub(super) fn ignore_all() -> Result<(), Failure> {
    // A listener must be created within a runtime. Its effect lasts as long as the process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _guard = runtime.enter();
    ignore(&IGNORED)?;
    ignore(&[SignalNumber::HUP, SignalNumber::INT, SignalNumber::QUIT, SignalNumber::TERM])
}

fn ignore(signals: &[SignalNumber]) -> Result<(), Failure> {
    for number in signals {
        drop(signal(SignalKind::from_raw(number.as_raw()))?);
    }
    Ok(())
}
