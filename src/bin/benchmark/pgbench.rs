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

/// The number of unique numbers that one run may use, for each client.
const NUMBERS_PER_RUN: usize = 1_000_000;

/// A script, and the settings to run it with.
#[derive(Clone)]
pub(crate) struct Pgbench {
    program: PathBuf,
    url: String,
    script: PathBuf,
    /// The folder for its logs.
    folder: PathBuf,
    clients: usize,
}

impl Pgbench {
    /// Returns whether pgbench is installed.
    pub(crate) fn is_installed(environment: &BenchmarkEnvironment) -> bool {
        environment.cluster.program("pgbench").is_file()
    }

    /// Writes the script of a recording to a file.
    ///
    /// # Errors
    /// The recordings have different statements, or the file cannot be written.
    pub(crate) fn prepare(
        environment: &BenchmarkEnvironment,
        name: &str,
        recording: &Recording,
        clients: usize,
    ) -> Result<Self, Failure> {
        let script = environment.path().join(format!("{name}.sql"));
        fs::write(&script, recording.script()?)?;
        let folder = environment.path().join(name);
        let program = environment.cluster.program("pgbench");
        Ok(Self { program, url: environment.cluster.url("tenantry"), script, folder, clients })
    }

    /// Runs the script for the time of the window. `run` is the number of the run. Blocks.
    ///
    /// # Errors
    /// pgbench fails. The error contains its output.
    pub(crate) fn run(
        &self,
        run: usize,
        window: MeasurementWindow,
    ) -> Result<Measurement, Failure> {
        let seconds = (window.warm_up + window.duration).as_secs_f64().ceil().max(1.0);
        let _ = fs::remove_dir_all(&self.folder);
        fs::create_dir(&self.folder)?;
        let output_path = self.folder.with_extension("output");
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).args(["--no-vacuum", "--protocol=prepared", "--log"]);
        command.arg(format!("--client={}", self.clients)).arg(format!("--jobs={}", cores()));
        command.arg(format!("--time={seconds}")).args(["--log-prefix=run", "-Dstarted=0"]);
        command.arg(format!("-Dn={}", (run + 1) * NUMBERS_PER_RUN)).arg("-f").arg(&self.script);
        command.arg(&self.url).stdin(Stdio::null());
        let file = File::create(&output_path)?;
        let status = command.stdout(file.try_clone()?).stderr(file).status()?;
        if !status.success() {
            let output = fs::read_to_string(&output_path)?;
            return Err(Failure::Message(format!("pgbench failed ({status}):\n{output}")));
        }
        let mut transactions = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            transactions.extend(fs::read_to_string(file?.path())?.lines().filter_map(parse_line));
        }
        Ok(measure_within(&transactions, window))
    }
}

/// Parses a line of pgbench's log. Returns when the transaction ended, since 1970, and its duration
/// in microseconds.
fn parse_line(line: &str) -> Option<(Duration, u32)> {
    let mut fields = line.split(' ').skip(2);
    let took = fields.next()?.parse().ok()?;
    let seconds = fields.nth(1)?.parse().ok()?;
    let micros = fields.next()?.parse().ok()?;
    Some((Duration::from_secs(seconds) + Duration::from_micros(micros), took))
}

/// Measures the transactions that ended within the window, whose warm-up began with the first
/// transaction.
fn measure_within(transactions: &[(Duration, u32)], window: MeasurementWindow) -> Measurement {
    let start = |(ended, took): &(Duration, u32)| {
        ended.saturating_sub(Duration::from_micros(u64::from(*took)))
    };
    let begin = transactions.iter().map(start).min().unwrap_or_default() + window.warm_up;
    let counts = |ended: Duration| ended >= begin && ended < begin + window.duration;
    let micros =
        transactions.iter().filter(|(ended, _)| counts(*ended)).map(|(_, took)| *took).collect();
    Measurement::new(micros, window.duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transactions_that_end_within_the_window_are_measured() {
        let log = "0 1 500000 0 100 500000\n1 1 700000 0 100 900000\n0 2 700000 0 101 200000\n";
        let transactions: Vec<_> = log.lines().filter_map(parse_line).collect();
        let half = Duration::from_millis(500);
        // The first transaction began at 100.0, so the window is from 100.5 to 101.0.
        let measurement =
            measure_within(&transactions, MeasurementWindow { warm_up: half, duration: half });
        assert_eq!(measurement.micros, [500_000, 700_000]);
    }
}
