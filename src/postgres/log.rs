//! The log file that `initdb` and Postgres write to directly.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use super::Error;
use super::home::ClusterHome;

/// The size in bytes beyond which the next start renames the file to `postgres.log.1` and begins a
/// new one.
const SIZE_LIMIT: u64 = 1 << 20;

/// The number of lines at the end of the log that an error quotes.
const QUOTED_LINES: usize = 12;

/// The log file, and the offset from which errors quote it.
#[derive(Debug)]
pub(super) struct PostgresLog {
    path: PathBuf,
    start_offset: u64,
}

impl PostgresLog {
    /// Rotates the log if it is too large, and finds where the output of this start begins. No
    /// Postgres may be running, because it would continue to write to the old file.
    pub(super) fn prepare(home: &ClusterHome) -> Result<Self, Error> {
        let path = home.log();
        let mut start_offset = fs::metadata(&path).map_or(0, |it| it.len());
        if start_offset > SIZE_LIMIT {
            let old = path.with_extension("log.1");
            fs::rename(&path, old).map_err(|e| Error::io("rotate", &path, e))?;
            start_offset = 0;
        }
        Ok(Self { path, start_offset })
    }

    /// Returns the log of a Postgres that another process started.
    pub(super) fn of_running(home: &ClusterHome) -> Self {
        Self { path: home.log(), start_offset: 0 }
    }

    /// Returns the file for a program's output. It is never a pipe: Postgres keeps it open as long
    /// as it runs, and the reader of a pipe would wait that long.
    pub(super) fn writer(&self) -> Result<Stdio, Error> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(&self.path);
        file.map(Stdio::from).map_err(|e| Error::io("open", &self.path, e))
    }

    /// Returns the error for a program that failed, with the end of the log.
    pub(super) fn failure(&self, program: &str, outcome: &str) -> Error {
        let tail = match self.read() {
            Ok(text) if text.trim().is_empty() => "(empty: is the disk full?)".to_owned(),
            Ok(text) => last_lines(&text),
            Err(e) => format!("(unreadable: {e})"),
        };
        Error::Failed {
            program: program.to_owned(),
            outcome: outcome.to_owned(),
            log: self.path.clone(),
            tail,
        }
    }

    fn read(&self) -> std::io::Result<String> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.start_offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::{QUOTED_LINES, last_lines};

    #[test]
    fn an_error_quotes_the_last_lines_of_the_log() {
        let lines: Vec<String> = (0..100).map(|n| format!("line {n}\n\n")).collect();
        let quoted = last_lines(&lines.concat());
        assert_eq!(quoted.lines().count(), QUOTED_LINES);
        assert!(quoted.ends_with("line 99"));
        assert_eq!(last_lines("only\n"), "only");
    }
}
