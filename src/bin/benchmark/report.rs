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

/// Which case is compared with which, and the lowest ratio of its budget.
const COMPARISONS: [(BenchmarkCase, BenchmarkCase, f64); 7] = [
    (BenchmarkCase::Authenticated(FEW_CONNECTIONS), BenchmarkCase::Bare(FEW_CONNECTIONS), 0.40),
    (BenchmarkCase::Authenticated(MANY_CONNECTIONS), BenchmarkCase::Bare(MANY_CONNECTIONS), 0.55),
    (BenchmarkCase::Authenticated(FEW_CONNECTIONS), BenchmarkCase::Select(FEW_CONNECTIONS), 0.90),
    (BenchmarkCase::Authenticated(MANY_CONNECTIONS), BenchmarkCase::Select(MANY_CONNECTIONS), 0.90),
    (BenchmarkCase::SignUp, BenchmarkCase::SignUpByPgbench, 0.70),
    (BenchmarkCase::MintKey, BenchmarkCase::MintKeyByPgbench, 0.70),
    (BenchmarkCase::SignIn, BenchmarkCase::Argon2, 0.95),
];
/// How long a start may take, in milliseconds.
const MAX_START_MS: f64 = 100.0;
/// How much memory an idle server may have, in MiB.
const MAX_MEMORY_MIB: f64 = 40.0;

/// One start of a server.
pub(crate) struct ServerStart {
    /// Until its first answer.
    pub(crate) duration: Duration,
    /// What it then had, in MiB.
    pub(crate) memory: Option<f64>,
}

/// Returns the load average of the last minute; `None` where the system does not report it.
pub(crate) fn load_average() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next().map(ToOwned::to_owned)
}

/// What was measured so far; `Display` is the table.
pub(crate) struct Report {
    date: String,
    load: Option<String>,
    postgres: String,
    /// Servers that were started.
    pub(crate) starts: Vec<ServerStart>,
    /// What a server had after all that, in MiB.
    pub(crate) memory_after: Option<f64>,
    measured: HashMap<BenchmarkCase, Vec<Measurement>>,
}

impl Report {
    /// Nothing yet, on a machine that was so busy before.
    pub(crate) fn new(load: Option<String>, postgres: &str) -> Self {
        Self {
            date: timestamp::format(SystemClock.now()),
            load,
            postgres: postgres.to_owned(),
            starts: Vec::new(),
            memory_after: None,
            measured: HashMap::new(),
        }
    }

    /// Adds what a round came to.
    pub(crate) fn add(&mut self, subject: BenchmarkCase, measured: Measurement) {
        self.measured.entry(subject).or_default().push(measured);
    }

    fn write_comparison(
        &self,
        f: &mut fmt::Formatter<'_>,
        (subject, beside, budget): (BenchmarkCase, BenchmarkCase, f64),
    ) -> fmt::Result {
        let what = format!("{}, beside {}", label(subject), label(beside));
        let (Some(ours), Some(theirs)) = (self.measured.get(&subject), self.measured.get(&beside))
        else {
            return writeln!(
                f,
                "| {what} | skipped: there is no `pgbench` beside the Postgres programs; \
                 `apt-get install postgresql` has it | | | | | |"
            );
        };
        let rates = |all: &[Measurement]| median(all.iter().map(|it| it.per_second).collect());
        let ratios = ours.iter().zip(theirs).map(|(our, their)| our.per_second / their.per_second);
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = median(ratios.clone());
        let (least, most) = (ratios.first().unwrap_or(&ratio), ratios.last().unwrap_or(&ratio));
        let (ours_whole, theirs_whole) = (merge(ours), merge(theirs));
        writeln!(
            f,
            "| {what} | {:.0} : {:.0} | **{ratio:.2}** ({least:.2}–{most:.2}) | {} | {} | \
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
        what: &str,
        value: Option<f64>,
        (unit, budget): (&str, Option<f64>),
    ) -> fmt::Result {
        let value_text =
            value.map_or("unknown here".to_owned(), |it| format!("**{it:.0}** {unit}"));
        let budget_text = budget.map(|it| format!("≤ {it:.0} {unit}")).unwrap_or_default();
        let met = value.zip(budget).map(|(value, budget)| met_label(value <= budget));
        writeln!(f, "| {what} | | {value_text} | | | {budget_text} | {} |", met.unwrap_or_default())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| gibibytes(&text));
        let memory = memory.map_or(String::new(), |it| format!(", {it:.0} GiB"));
        let load = self.load.as_deref().unwrap_or("unknown");
        writeln!(f, "{}: {} cores{memory}, Postgres {}", self.date, cores(), self.postgres)?;
        writeln!(f, "The load average before was {load}. All run on the same cores.")?;
        if cfg!(debug_assertions) {
            writeln!(
                f,
                "THIS IS A DEBUG BUILD, whose figures mean nothing: cargo build --release"
            )?;
        }
        writeln!(f, "\n| what | a second | ratio | p50 ms | p99 ms | budget | met |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for pair in COMPARISONS {
            self.write_comparison(f, pair)?;
        }
        let starts =
            self.starts.iter().map(|start| start.duration.as_secs_f64() * 1000.0).collect();
        Self::write_value(
            f,
            "start to first answer",
            Some(median(starts)),
            ("ms", Some(MAX_START_MS)),
        )?;
        let idle: Option<Vec<f64>> = self.starts.iter().map(|start| start.memory).collect();
        Self::write_value(f, "memory, idle", idle.map(median), ("MiB", Some(MAX_MEMORY_MIB)))?;
        Self::write_value(f, "memory, after all of this", self.memory_after, ("MiB", None))?;
        f.write_str(NOTES)
    }
}

const NOTES: &str = "
Ratios are medians of the rounds (least–most); a : b is ours : the other's. The server has logging,
limits, metering and metrics on and fsync, as it comes. The select is the key lookup's own, for one
key. pgbench sends the statements that the server was recorded to send, from as many clients as
there are connections, prepared, to the same database and so through the same triggers.
";

fn label(subject: BenchmarkCase) -> String {
    match subject {
        BenchmarkCase::Bare(_) => "a bare axum route".to_owned(),
        BenchmarkCase::Authenticated(count) => {
            format!("`GET /v1/organization/me` with a key, {count} connections")
        }
        BenchmarkCase::Select(_) => "one select from a bare handler".to_owned(),
        BenchmarkCase::SignUp => format!("`POST /signup`, {FEW_CONNECTIONS} connections"),
        BenchmarkCase::MintKey => {
            format!(
                "`POST /v1/organization/api-keys`, {FEW_CONNECTIONS} connections, as many \
                 organizations"
            )
        }
        BenchmarkCase::SignUpByPgbench | BenchmarkCase::MintKeyByPgbench => {
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

/// All rounds as one.
fn merge(rounds: &[Measurement]) -> Measurement {
    let micros = rounds.iter().flat_map(|round| round.micros.iter().copied()).collect();
    Measurement::new(micros, Duration::from_secs(1))
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
    fn a_ratio_is_of_neighbours_and_the_middle_one_counts() {
        let mut report = Report::new(None, "15");
        for (ours, theirs) in [(10, 20), (30, 40), (10, 100)] {
            for (subject, count) in
                [(BenchmarkCase::SignUp, ours), (BenchmarkCase::SignUpByPgbench, theirs)]
            {
                report.add(subject, Measurement::new(vec![1000; count], Duration::from_secs(1)));
            }
        }
        let table = report.to_string();
        assert!(table.contains("| 10 : 40 | **0.50** (0.10–0.75) | 1.0 : 1.0 |"), "{table}");
        assert!(table.contains("| ≥ 0.70 | **no** |"), "{table}");
        assert!(table.contains("skipped: there is no `pgbench`"), "{table}");
        assert!((median(vec![3.0, 1.0]) - 2.0).abs() < f64::EPSILON && median(vec![]).is_nan());
    }
}
