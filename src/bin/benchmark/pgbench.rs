//! Runs `pgbench`, which comes with Postgres, with the recorded statements.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::environment::BenchmarkEnvironment;
use crate::hashing::cores;
use crate::load::{Measurement, MeasurementWindow};
use crate::script::Recording;
use tenantry::commands::Failure;

/// How many numbers one run may use, for each client.
const NUMBERS_PER_RUN: usize = 1_000_000;

/// A script, ready to run.
#[derive(Clone)]
pub(crate) struct Pgbench {
    program: PathBuf,
    url: String,
    script: PathBuf,
    /// Where its log goes.
    folder: PathBuf,
    clients: usize,
}

impl Pgbench {
    /// Whether it is installed.
    pub(crate) fn is_installed(place: &BenchmarkEnvironment) -> bool {
        place.cluster.program("pgbench").is_file()
    }

    /// Writes the script of a recording down.
    ///
    /// # Errors
    /// Recordings that do not go together; the file system's own.
    pub(crate) fn prepare(
        place: &BenchmarkEnvironment,
        name: &str,
        recording: &Recording,
        clients: usize,
    ) -> Result<Self, Failure> {
        let script = place.path().join(format!("{name}.sql"));
        fs::write(&script, recording.script()?)?;
        let folder = place.path().join(name);
        let program = place.cluster.program("pgbench");
        Ok(Self { program, url: place.cluster.url("tenantry"), script, folder, clients })
    }

    /// Runs it for a time; `run` numbers the runs. Blocks.
    ///
    /// # Errors
    /// Its output where it failed.
    pub(crate) fn run(&self, run: usize, span: MeasurementWindow) -> Result<Measurement, Failure> {
        let whole = (span.warm_up + span.duration).as_secs_f64().ceil().max(1.0);
        let _ = fs::remove_dir_all(&self.folder);
        fs::create_dir(&self.folder)?;
        let log_path = self.folder.with_extension("log");
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).args(["--no-vacuum", "--protocol=prepared", "--log"]);
        command.arg(format!("--client={}", self.clients)).arg(format!("--jobs={}", cores()));
        command.arg(format!("--time={whole}")).args(["--log-prefix=run", "-Dstarted=0"]);
        command.arg(format!("-Dn={}", (run + 1) * NUMBERS_PER_RUN)).arg("-f").arg(&self.script);
        command.arg(&self.url).stdin(Stdio::null());
        let file = File::create(&log_path)?;
        let status = command.stdout(file.try_clone()?).stderr(file).status()?;
        if !status.success() {
            let log_text = fs::read_to_string(&log_path)?;
            return Err(Failure::Message(format!("pgbench failed ({status}):\n{log_text}")));
        }
        let mut done = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            done.extend(fs::read_to_string(file?.path())?.lines().filter_map(parse_line));
        }
        Ok(measure_within(&done, span))
    }
}

/// Parses a line of pgbench's log: when the transaction ended, since 1970, and how long it took.
fn parse_line(line: &str) -> Option<(Duration, u32)> {
    let mut fields = line.split(' ').skip(2);
    let took = fields.next()?.parse().ok()?;
    let seconds = fields.nth(1)?.parse().ok()?;
    let micros = fields.next()?.parse().ok()?;
    Some((Duration::from_secs(seconds) + Duration::from_micros(micros), took))
}

/// What ended within the span, which began with the first transaction.
fn measure_within(done: &[(Duration, u32)], span: MeasurementWindow) -> Measurement {
    let start = |(ended, took): &(Duration, u32)| {
        ended.saturating_sub(Duration::from_micros(u64::from(*took)))
    };
    let begin = done.iter().map(start).min().unwrap_or_default() + span.warm_up;
    let counts = |ended: Duration| ended >= begin && ended < begin + span.duration;
    let micros = done.iter().filter(|(ended, _)| counts(*ended)).map(|(_, took)| *took).collect();
    Measurement::new(micros, span.duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_within_the_window_counts() {
        let log = "0 1 500000 0 100 500000\n1 1 700000 0 100 900000\n0 2 700000 0 101 200000\n";
        let done: Vec<_> = log.lines().filter_map(parse_line).collect();
        let half = Duration::from_millis(500);
        // It began at 100.0, so the window is from 100.5 to 101.0.
        let measured = measure_within(&done, MeasurementWindow { warm_up: half, duration: half });
        assert_eq!(measured.micros, [500_000, 700_000]);
    }
}
