//! A server to measure: a separate process, as a user runs it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use tenantry::commands::Failure;

/// A running server whose address is known. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// The address that it listens on.
    pub(crate) address: SocketAddr,
    /// Kept open, so that the server can write its output, and its input ends when this process
    /// ends.
    _pipes: (Option<ChildStdin>, BufReader<ChildStdout>),
}

impl Server {
    /// Starts the server with its log in a file, and waits for its address.
    ///
    /// # Errors
    /// The server does not start. The error contains its log.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self, Failure> {
        let file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let Some(stdout) = child.stdout.take() else {
            return Err(Failure::Message("the server has no standard output".to_owned()));
        };
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                let _ = child.kill();
                let _ = child.wait();
                let log_text = fs::read_to_string(log).unwrap_or_default();
                return Err(Failure::Message(format!("the server did not start: {log_text}")));
            }
            if let Some(address) = parse_address(&line) {
                return Ok(Self { child, address, _pipes: (stdin, lines) });
            }
        }
    }

    /// Returns the memory of the server, in MiB; `None` if the system does not report it.
    pub(crate) fn memory(&self) -> Option<f64> {
        let status = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let status = fs::read_to_string(status).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes / 1024.0)
    }

    /// Stops the server with SIGINT, as Ctrl-C does.
    ///
    /// # Errors
    /// The server cannot be signalled.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        let signalled = kill_process(Pid::from_child(&self.child), Signal::INT);
        signalled.map_err(std::io::Error::from)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse_address(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("http://")?;
    after.split_whitespace().next()?.parse().ok()
}
