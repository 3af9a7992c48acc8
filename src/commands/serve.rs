//! `tenantry serve`: everything from the first setting to the last connection.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::SystemClock;
use crate::commands::migrate::{Prepared, configuration, prepare};
use crate::commands::{Failure, say};
use crate::config::telemetry::MetricsListener;
use crate::entropy::SystemEntropy;
use crate::http::listener::{Drained, Limits, serve};
use crate::http::{metrics, router};
use crate::repo::key_sessions;
use crate::telemetry::Telemetry;

/// How long a server that is told to stop by an orchestrator still takes connections, so that
/// whoever reads its readiness can turn elsewhere first.
const GRACE: Duration = Duration::from_secs(3);
/// How often rows that nobody can use any more are removed.
const SWEEP: Duration = Duration::from_hours(1);
/// How often samples are folded into their histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Serves until told to stop (SIGINT, SIGTERM), then finishes what is under way.
///
/// # Errors
/// Whatever keeps the server from starting.
pub fn run() -> Result<(), Failure> {
    let config = configuration()?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    let prepared = prepare(&config.database)?;
    let data = match &prepared.cluster {
        Some(cluster) => {
            let (home, version) = (cluster.home().display(), cluster.version());
            let secrets = config.database.data_dir.join("secrets");
            format!("{home} (Postgres {version} of our own), secrets in {}", secrets.display())
        }
        None => "the database of DATABASE_URL".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        let Prepared { options, .. } = &prepared;
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let app = App::build(config, options.clone(), clock, entropy, stop.clone());
        serve_app(app, stop, &telemetry, &data).await
    });
    telemetry.finish();
    served
}

async fn serve_app(
    app: App,
    stop: CancellationToken,
    telemetry: &Telemetry,
    data: &str,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let address = app.config.http.listen_addr;
    let listener = TcpListener::bind(address).await.map_err(|source| Failure::Listen {
        variable: "LISTEN_ADDR",
        address,
        source,
    })?;
    let metrics_listener = bind_metrics(app.config.telemetry.metrics).await?;
    say(&welcome(listener.local_addr()?, local_addr(metrics_listener.as_ref()), data))?;

    let (close, end) = (CancellationToken::new(), CancellationToken::new());
    let chores = start_chores(&app, telemetry.metrics(), &end);
    let metrics_server = metrics_listener.map(|listener| {
        let router = metrics::router(app.clone(), telemetry.metrics());
        tokio::spawn(serve(listener, router, Limits::default(), end.clone()))
    });
    let server = tokio::spawn(serve(listener, router(&app), Limits::default(), close.clone()));

    let orchestrated = signals.next().await;
    stop.cancel();
    if orchestrated {
        tracing::info!("stopping: not ready any more, still answering");
        let _ = tokio::time::timeout(GRACE, signals.next()).await;
    }
    close.cancel();
    tracing::info!("stopping: finishing what is under way");
    if let Ok(Drained::Forced { connections }) = server.await {
        tracing::warn!(connections, "connections cut off at the deadline");
    }
    end.cancel();
    for task in chores.into_iter().chain(metrics_server.map(|task| tokio::spawn(ended(task)))) {
        let _ = task.await;
    }
    for pool in app.pools() {
        pool.close().await;
    }
    tracing::info!("stopped");
    Ok(())
}

async fn ended(server: JoinHandle<Drained>) {
    let _ = server.await;
}

/// What goes on beside the requests: usage is written down, leftovers are removed, metrics kept.
fn start_chores(
    app: &App,
    metrics: PrometheusHandle,
    end: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let (metered, meter_end) = (app.clone(), end.clone());
    let sweeping = end.clone().run_until_cancelled_owned(sweep(app.clone()));
    let tidying = end.clone().run_until_cancelled_owned(tidy(metrics));
    vec![
        tokio::spawn(async move { metered.meter.run(meter_end).await }),
        tokio::spawn(async { sweeping.await.unwrap_or_default() }),
        tokio::spawn(async { tidying.await.unwrap_or_default() }),
    ]
}

/// Folds samples into their histograms: those that nobody reads would pile up otherwise.
async fn tidy(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

async fn sweep(app: App) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        match app.db.transaction(async |tx| key_sessions::sweep(tx).await).await {
            Ok(sessions) => tracing::debug!(sessions, "swept"),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "sweeping failed, tried again in an hour");
            }
        }
    }
}

/// SIGINT (a person at a terminal) and SIGTERM (an orchestrator).
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the next one; whether it came from an orchestrator.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => false,
            _ = self.terminate.recv() => true,
        }
    }
}

async fn bind_metrics(setting: MetricsListener) -> Result<Option<TcpListener>, Failure> {
    let (MetricsListener::Default(address) | MetricsListener::At(address)) = setting else {
        return Ok(None);
    };
    match (TcpListener::bind(address).await, setting) {
        (Ok(listener), _) => Ok(Some(listener)),
        (Err(error), MetricsListener::Default(_)) => {
            tracing::warn!(%error, %address, "no metrics: set METRICS_ADDR to a free address");
            Ok(None)
        }
        (Err(source), _) => Err(Failure::Listen { variable: "METRICS_ADDR", address, source }),
    }
}

fn local_addr(listener: Option<&TcpListener>) -> Option<SocketAddr> {
    listener.and_then(|listener| listener.local_addr().ok())
}

/// What a new user reads first: where everything is, and what to paste.
fn welcome(api: SocketAddr, metrics: Option<SocketAddr>, data: &str) -> String {
    let mut text = format!(
        "Tenantry {}\n  API      http://{api}  (docs at http://{api}/docs)\n",
        env!("CARGO_PKG_VERSION")
    );
    if let Some(metrics) = metrics {
        let _ = writeln!(text, "  Metrics  http://{metrics}/metrics");
    }
    let _ = write!(
        text,
        "  Data     {data}\n\nTry it:\n  curl -X POST http://{api}/signup \
         -H 'content-type: application/json' -d '{{\"name\":\"acme corp\"}}'\n\n"
    );
    text
}
