//! The table of results, with the ratios and their budgets.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::time::Duration;

use crate::cases::{BenchmarkCase, FEW_CONNECTIONS, MANY_CONNECTIONS, sign_in_connections};
use crate::hashing::cores;
use crate::load::Measurement;
use tenantry::clock::{Clock, SystemClock};
use tenantry::model::timestamp;

/// The cases that are compared, and the lowest ratio within the budget.
const COMPARISONS: [(BenchmarkCase, BenchmarkCase, f64); 12] = [
    (BenchmarkCase::Authenticated(FEW_CONNECTIONS), BenchmarkCase::Bare(FEW_CONNECTIONS), 0.40),
    (BenchmarkCase::Authenticated(MANY_CONNECTIONS), BenchmarkCase::Bare(MANY_CONNECTIONS), 0.55),
    (BenchmarkCase::Authenticated(FEW_CONNECTIONS), BenchmarkCase::Select(FEW_CONNECTIONS), 0.90),
    (BenchmarkCase::Authenticated(MANY_CONNECTIONS), BenchmarkCase::Select(MANY_CONNECTIONS), 0.90),
    (BenchmarkCase::OauthToken, BenchmarkCase::Authenticated(FEW_CONNECTIONS), 0.90),
    (BenchmarkCase::Verify(FEW_CONNECTIONS), BenchmarkCase::Authenticated(FEW_CONNECTIONS), 0.90),
    (BenchmarkCase::Verify(MANY_CONNECTIONS), BenchmarkCase::Authenticated(MANY_CONNECTIONS), 0.90),
    (BenchmarkCase::VerifyBatch, BenchmarkCase::Verify(FEW_CONNECTIONS), 0.25),
    (BenchmarkCase::NginxChecked, BenchmarkCase::NginxUnchecked, 0.30),
    (BenchmarkCase::SignUp, BenchmarkCase::SignUpByPgbench, 0.70),
    (BenchmarkCase::CreateKey, BenchmarkCase::CreateKeyByPgbench, 0.70),
    (BenchmarkCase::SignIn, BenchmarkCase::Argon2, 0.95),
];
/// The budget for the start of a server, in milliseconds.
const MAX_START_MS: f64 = 100.0;
/// The budget for the memory of an idle server, in MiB.
const MAX_MEMORY_MIB: f64 = 40.0;

/// One start of a server.
pub(crate) struct ServerStart {
    /// The time until its first response.
    pub(crate) duration: Duration,
    /// Its memory after that response, in MiB.
    pub(crate) memory: Option<f64>,
}

/// Returns the load average of the last minute; `None` if the system does not report it.
pub(crate) fn load_average() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next().map(ToOwned::to_owned)
}

/// The results so far. `Display` writes the table.
pub(crate) struct Report {
    date: String,
    load: Option<String>,
    postgres: String,
    /// The starts of servers.
    pub(crate) starts: Vec<ServerStart>,
    /// The memory of a server after all cases, in MiB.
    pub(crate) memory_after: Option<f64>,
    measurements: HashMap<BenchmarkCase, Vec<Measurement>>,
}

impl Report {
    /// Creates an empty report. `load` is the load average before the benchmark.
    pub(crate) fn new(load: Option<String>, postgres: &str) -> Self {
        Self {
            date: timestamp::format(SystemClock.now()),
            load,
            postgres: postgres.to_owned(),
            starts: Vec::new(),
            memory_after: None,
            measurements: HashMap::new(),
        }
    }

    /// Adds the result of a round.
    pub(crate) fn add(&mut self, case: BenchmarkCase, measurement: Measurement) {
        self.measurements.entry(case).or_default().push(measurement);
    }

    fn write_comparison(
        &self,
        f: &mut fmt::Formatter<'_>,
        (case, reference, budget): (BenchmarkCase, BenchmarkCase, f64),
    ) -> fmt::Result {
        let title = format!("{}, compared with {}", label(case), label(reference));
        let (Some(ours), Some(theirs)) =
            (self.measurements.get(&case), self.measurements.get(&reference))
        else {
            let missing = match case {
                BenchmarkCase::NginxChecked => "`nginx`; `apt-get install nginx` installs it",
                _ => {
                    "`pgbench` beside the Postgres programs; `apt-get install postgresql` \
                     installs it"
                }
            };
            return writeln!(f, "| {title} | skipped: there is no {missing} | | | | | |");
        };
        let rates = |all: &[Measurement]| median(all.iter().map(|it| it.per_second).collect());
        let ratios = ours.iter().zip(theirs).map(|(our, their)| our.per_second / their.per_second);
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = median(ratios.clone());
        let (min, max) = (ratios.first().unwrap_or(&ratio), ratios.last().unwrap_or(&ratio));
        let (ours_whole, theirs_whole) = (merge(ours), merge(theirs));
        writeln!(
            f,
            "| {title} | {:.0} : {:.0} | **{ratio:.2}** ({min:.2}–{max:.2}) | {} | {} | \
             ≥ {budget:.2} | {} |",
            rates(ours),
            rates(theirs),
            format_both(&ours_whole, &theirs_whole, 50),
            format_both(&ours_whole, &theirs_whole, 99),
            if ratio.is_finite() { met_label(ratio >= budget) } else { "unknown" },
        )
    }

    fn write_value(
        f: &mut fmt::Formatter<'_>,
        title: &str,
        value: Option<f64>,
        (unit, budget): (&str, Option<f64>),
    ) -> fmt::Result {
        let value_text = value.map_or("unknown".to_owned(), |it| format!("**{it:.0}** {unit}"));
        let budget_text = budget.map(|it| format!("≤ {it:.0} {unit}")).unwrap_or_default();
        let met = value.zip(budget).map(|(value, budget)| met_label(value <= budget));
        writeln!(
            f,
            "| {title} | | {value_text} | | | {budget_text} | {} |",
            met.unwrap_or_default()
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| gibibytes(&text));
        let memory = memory.map_or(String::new(), |it| format!(", {it:.0} GiB"));
        let load = self.load.as_deref().unwrap_or("unknown");
        writeln!(f, "{}: {} cores{memory}, Postgres {}", self.date, cores(), self.postgres)?;
        writeln!(
            f,
            "The load average before the benchmark was {load}. All processes share the same cores."
        )?;
        if cfg!(debug_assertions) {
            writeln!(
                f,
                "THIS IS A DEBUG BUILD, whose figures are meaningless: run cargo build --release"
            )?;
        }
        writeln!(f, "\n| case | per second | ratio | p50 ms | p99 ms | budget | met |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for pair in COMPARISONS {
            self.write_comparison(f, pair)?;
        }
        let starts =
            self.starts.iter().map(|start| start.duration.as_secs_f64() * 1000.0).collect();
        Self::write_value(
            f,
            "start to first response",
            Some(median(starts)),
            ("ms", Some(MAX_START_MS)),
        )?;
        let idle: Option<Vec<f64>> = self.starts.iter().map(|start| start.memory).collect();
        Self::write_value(f, "memory, idle", idle.map(median), ("MiB", Some(MAX_MEMORY_MIB)))?;
        Self::write_value(f, "memory, after all cases", self.memory_after, ("MiB", None))?;
        f.write_str(NOTES)
    }
}

const NOTES: &str = "
Ratios are medians of the rounds (minimum–maximum). a : b is the case : the reference. The server
has logging, rate limits, metering and metrics on, and Postgres has fsync on, as by default. The
select is the statement of the key lookup, for one key. pgbench sends the recorded statements of the
server, prepared, from as many clients as there are connections, to the same database and so through
the same triggers.
";

fn label(case: BenchmarkCase) -> String {
    match case {
        BenchmarkCase::Bare(_) => "a bare axum route".to_owned(),
        BenchmarkCase::Authenticated(count) => {
            format!("`GET /v1/organization/me` with a key, {count} connections")
        }
        BenchmarkCase::OauthToken => {
            format!("`GET /v1/organization/me` with an OAuth token, {FEW_CONNECTIONS} connections")
        }
        BenchmarkCase::Verify(count) => format!("`POST /v1/verify`, {count} connections"),
        BenchmarkCase::VerifyBatch => {
            format!("`POST /v1/verify/batch` of 100, {FEW_CONNECTIONS} connections")
        }
        BenchmarkCase::NginxChecked => {
            format!("a bare route behind nginx with a check, {FEW_CONNECTIONS} connections")
        }
        BenchmarkCase::NginxUnchecked => "the same without a check".to_owned(),
        BenchmarkCase::Select(_) => "one select from a bare handler".to_owned(),
        BenchmarkCase::SignUp => format!("`POST /signup`, {FEW_CONNECTIONS} connections"),
        BenchmarkCase::CreateKey => {
            format!(
                "`POST /v1/organization/api-keys`, {FEW_CONNECTIONS} connections, as many \
                 organizations"
            )
        }
        BenchmarkCase::SignUpByPgbench | BenchmarkCase::CreateKeyByPgbench => {
            format!("the same statements by `pgbench -c {FEW_CONNECTIONS}`")
        }
        BenchmarkCase::SignIn => {
            format!("`POST /auth/login`, {} connections", sign_in_connections())
        }
        BenchmarkCase::Argon2 => format!("Argon2 alone on {} threads", cores()),
    }
}

fn format_both(ours: &Measurement, theirs: &Measurement, percent: usize) -> String {
    format!("{:.1} : {:.1}", ours.percentile(percent), theirs.percentile(percent))
}

const fn met_label(is_met: bool) -> &'static str {
    if is_met { "yes" } else { "**no**" }
}

/// Merges the durations of all rounds, for their percentiles. The result has no rate.
fn merge(rounds: &[Measurement]) -> Measurement {
    let mut micros: Vec<u32> = rounds.iter().flat_map(|round| &round.micros).copied().collect();
    micros.sort_unstable();
    Measurement { per_second: f64::NAN, micros }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let Some(last) = numbers.len().checked_sub(1) else { return f64::NAN };
    f64::midpoint(numbers[last / 2], numbers[last.div_ceil(2)])
}

fn gibibytes(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_ratios_of_the_rounds() {
        let mut report = Report::new(None, "15");
        for (ours, theirs) in [(10, 20), (30, 40), (10, 100)] {
            for (case, count) in
                [(BenchmarkCase::SignUp, ours), (BenchmarkCase::SignUpByPgbench, theirs)]
            {
                report.add(case, Measurement::new(vec![1000; count], Duration::from_secs(1)));
            }
        }
        let table = report.to_string();
        assert!(table.contains("| 10 : 40 | **0.50** (0.10–0.75) | 1.0 : 1.0 |"), "{table}");
        assert!(table.contains("| ≥ 0.70 | **no** |"), "{table}");
        assert!(table.contains("skipped: there is no `pgbench`"), "{table}");
        assert!((median(vec![3.0, 1.0]) - 2.0).abs() < f64::EPSILON && median(vec![]).is_nan());
    }
}
