//! The benchmark: compares the server with its parts (a bare axum route, pgbench, Argon2) in one
//! run on one machine, because only ratios are meaningful on other machines.
//!
//! | file | what it does |
//! |---|---|
//! | `environment` | a temporary Postgres, and the processes that use it |
//! | `server`, `bare` | the server as a user runs it; bare handlers in a separate process |
//! | `nginx` | nginx in front of a bare handler, with and without checks |
//! | `client`, `load` | connections that send the next request after each response |
//! | `recorder`, `script`, `pgbench` | pgbench with recorded statements |
//! | `oauth` | OAuth access tokens |
//! | `hashing` | the rate at which the cores hash passwords |
//! | `cases` | the cases that are measured, and their setup |
//! | `report` | the table |
//!
//! Cases that are compared are measured one after the other, in several rounds. A ratio compares
//! two measurements of one round, because other load on the machine affects both.

mod bare;
mod cases;
mod client;
mod environment;
mod hashing;
mod load;
mod nginx;
mod oauth;
mod pgbench;
mod recorder;
mod report;
mod script;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use tenantry::commands::janitor;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::cases::{BenchmarkCase, Setup};
use self::client::{Client, Request};
use self::environment::BenchmarkEnvironment;
use self::load::MeasurementWindow;
use self::report::{Report, ServerStart};
use self::server::Server;
use tenantry::commands::{Failure, print};

/// The number of server starts that are measured.
const SERVER_STARTS: usize = 5;

/// Compares Tenantry on this machine with its parts: a bare axum route, pgbench, Argon2. Takes some
/// minutes, and runs its own Postgres in a temporary folder.
#[derive(Parser)]
struct Arguments {
    /// The duration of each measurement in seconds, after a third of that to warm up.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The number of times that each case is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the bare handlers that are measured.
    #[command(hide = true)]
    ServeBare {
        /// The database.
        database: String,
    },
    /// Stop the temporary Postgres once no process uses it.
    #[command(hide = true)]
    PostgresJanitor {
        /// The cluster's folder.
        home: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        None => run(&arguments),
        Some(Command::ServeBare { database }) => bare::run(database),
        Some(Command::PostgresJanitor { home }) => janitor::run(home),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("benchmark: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Measures all cases, and prints the table. A result that misses its budget is not an error.
///
/// # Errors
/// The cases cannot be measured: Postgres does not start, a response is unexpected, or a signal
/// arrives.
fn run(options: &Arguments) -> Result<(), Failure> {
    let duration = Duration::try_from_secs_f64(options.seconds).unwrap_or_default();
    if duration.is_zero() || options.rounds == 0 {
        return Err(Failure::Message("--seconds and --rounds must be above zero".to_owned()));
    }
    let window = MeasurementWindow { warm_up: duration / 3, duration };
    let load = report::load_average();
    let environment = BenchmarkEnvironment::create()?;
    let mut report = Report::new(load, environment.cluster.version());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        // Installed before a server is started, which a signal would otherwise leave behind.
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = measure(&environment, window, options.rounds, &mut report) => result,
            stopped = wait_for_signal(interrupt, terminate) => stopped,
        }
    });
    // Cancels the requests in progress, which still use the environment.
    drop(runtime);
    let removed = environment.remove();
    result?;
    removed
}

async fn measure(
    environment: &BenchmarkEnvironment,
    window: MeasurementWindow,
    rounds: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut starts = Vec::new();
    for _ in 1..SERVER_STARTS {
        let (server, start) = start_server(environment).await?;
        starts.push(start);
        server.stop()?;
    }
    let (server, last) = start_server(environment).await?;
    starts.push(last);
    report.starts = starts;
    let setup = Setup::create(environment, server).await?;
    print(&estimate(window, rounds))?;
    for round in 0..rounds {
        for case in BenchmarkCase::ALL {
            if let Some(result) = setup.measure(case, round, window).await? {
                report.add(case, result);
            }
        }
    }
    report.memory_after = setup.server.memory();
    setup.server.stop()?;
    print(&report.to_string())
}

/// Starts a server on the migrated database, and waits until it is ready.
async fn start_server(
    environment: &BenchmarkEnvironment,
) -> Result<(Server, ServerStart), Failure> {
    let started = Instant::now();
    let server = environment.start_server()?;
    let mut client = Client::connect(server.address).await?;
    client.execute(&Request::bare("/health/ready")).await?;
    let start = ServerStart { duration: started.elapsed(), memory: server.memory() };
    Ok((server, start))
}

fn estimate(window: MeasurementWindow, rounds: usize) -> String {
    let each = (window.warm_up + window.duration).as_secs_f64();
    let times = f64::from(u32::try_from(rounds * BenchmarkCase::ALL.len()).unwrap_or(u32::MAX));
    format!("measuring for about {:.0} seconds\n\n", each * times)
}

/// Fails on SIGINT and SIGTERM, so that the environment is removed.
async fn wait_for_signal(mut interrupt: Signal, mut terminate: Signal) -> Result<(), Failure> {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Err(Failure::Message("stopped by a signal".to_owned()))
}
