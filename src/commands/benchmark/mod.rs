//! `tenantry benchmark`: what the product costs beside what it is made of, measured side by side
//! in one run on one machine, since only ratios mean anything elsewhere.
//!
//! | file | what it does |
//! |---|---|
//! | `place` | a throw-away Postgres, and the processes that use it |
//! | `server`, `bare` | the product as a user runs it; bare handlers in a process of their own |
//! | `client`, `load` | many connections that ask as fast as they are answered |
//! | `recorder`, `script`, `pgbench` | pgbench, saying what the server was recorded to say |
//! | `hashing` | what the cores can hash |
//! | `subjects` | what is measured, and set up for it |
//! | `report` | the table |
//!
//! The one thing to know: what is compared is measured in turn, several times over, and a ratio is
//! of two neighbours. What else the machine does meanwhile falls on both.

pub mod bare;
mod cases;
mod client;
mod environment;
mod hashing;
mod load;
mod pgbench;
mod recorder;
mod report;
mod script;
mod server;

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::cases::{BenchmarkCase, Setup};
use self::client::{Client, Request};
use self::environment::BenchmarkEnvironment;
use self::load::MeasurementWindow;
use self::report::{Report, ServerStart};
use self::server::Server;
use crate::commands::{Failure, print};

/// How often a server is started to see how long that takes.
const SERVER_STARTS: usize = 5;

/// How long to measure.
pub struct BenchmarkOptions {
    /// How many seconds each measurement takes, after a third of that to warm up.
    pub seconds: f64,
    /// How often each is done.
    pub rounds: usize,
}

/// Measures, and prints a table. What it shows is no failure, whatever it is.
///
/// # Errors
/// What keeps it from measuring: no Postgres, an answer that is not what it has to be, a signal.
pub fn run(options: &BenchmarkOptions) -> Result<(), Failure> {
    let window = Duration::try_from_secs_f64(options.seconds).unwrap_or_default();
    if window.is_zero() || options.rounds == 0 {
        return Err(Failure::Message("there is nothing to measure in no time".to_owned()));
    }
    let span = MeasurementWindow { warm_up: window / 3, duration: window };
    let load = report::load_average();
    let place = BenchmarkEnvironment::create()?;
    let mut report = Report::new(load, place.cluster.version());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(async {
        // Listened for before anything is started that would be left behind.
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            measured = measure(&place, span, options.rounds, &mut report) => measured,
            stopped = wait_for_signal(interrupt, terminate) => stopped,
        }
    });
    // Whatever is still under way uses the place.
    drop(runtime);
    let removed = place.remove();
    measured?;
    removed
}

async fn measure(
    place: &BenchmarkEnvironment,
    span: MeasurementWindow,
    rounds: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut starts = Vec::new();
    for _ in 1..SERVER_STARTS {
        let (server, start) = start_server(place).await?;
        starts.push(start);
        server.stop()?;
    }
    let (server, last) = start_server(place).await?;
    starts.push(last);
    report.starts = starts;
    let setup = Setup::create(place, server).await?;
    print(&estimate(span, rounds))?;
    for round in 0..rounds {
        for subject in BenchmarkCase::ALL {
            if let Some(measured) = setup.measure(subject, round, span).await? {
                report.add(subject, measured);
            }
        }
    }
    report.memory_after = setup.server.memory();
    setup.server.stop()?;
    print(&report.to_string())
}

/// Starts a server on the migrated database, and asks until it is ready.
async fn start_server(place: &BenchmarkEnvironment) -> Result<(Server, ServerStart), Failure> {
    let began = Instant::now();
    let server = place.start_server()?;
    let mut client = Client::connect(server.address).await?;
    client.execute(&Request::bare("/health/ready")).await?;
    let start = ServerStart { duration: began.elapsed(), memory: server.memory() };
    Ok((server, start))
}

fn estimate(span: MeasurementWindow, rounds: usize) -> String {
    let each = (span.warm_up + span.duration).as_secs_f64();
    let times = f64::from(u32::try_from(rounds * BenchmarkCase::ALL.len()).unwrap_or(u32::MAX));
    format!("measuring for about {:.0} seconds\n\n", each * times)
}

/// Ctrl-C and SIGTERM, so that nothing is left behind.
async fn wait_for_signal(mut interrupt: Signal, mut terminate: Signal) -> Result<(), Failure> {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Err(Failure::Message("stopped".to_owned()))
}
