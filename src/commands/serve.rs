//! `tenantry serve`: everything from the first setting to the last connection.

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::SystemClock;
use crate::commands::migrate::{Prepared, configuration, prepare};
use crate::commands::{Failure, chores, say};
use crate::config::telemetry::MetricsListener;
use crate::entropy::SystemEntropy;
use crate::http::listener::{Drained, Limits, serve};
use crate::http::{metrics, router};
use crate::telemetry::Telemetry;

/// How long a server that is told to stop by an orchestrator still takes connections, so that
/// whoever reads its readiness can turn elsewhere first.
const GRACE: Duration = Duration::from_secs(3);

/// Serves until told to stop (SIGINT, SIGTERM), then finishes what is under way.
///
/// # Errors
/// Whatever keeps the server from starting.
pub fn run() -> Result<(), Failure> {
    let config = configuration()?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    let listener = bind("LISTEN_ADDR", config.http.listen_addr)?;
    let metrics_listener = bind_metrics(config.telemetry.metrics)?;
    let prepared = prepare(&config.database)?;
    let data = match &prepared.cluster {
        Some(cluster) => {
            let (home, version) = (cluster.home().display(), cluster.version());
            let secrets = std::path::absolute(config.database.data_dir.join("secrets"))?;
            format!("{home} (Postgres {version} of our own), secrets in {}", secrets.display())
        }
        None => "the database of DATABASE_URL".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        let Prepared { options, .. } = &prepared;
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let app = App::build(config, options.clone(), clock, entropy, stop.clone())?;
        serve_app(app, stop, (listener, metrics_listener), &telemetry, &data).await
    });
    telemetry.finish();
    served
}

async fn serve_app(
    app: App,
    stop: CancellationToken,
    (listener, metrics_listener): (StdListener, Option<StdListener>),
    telemetry: &Telemetry,
    data: &str,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let listener = TcpListener::from_std(listener)?;
    let metrics_listener = metrics_listener.map(TcpListener::from_std).transpose()?;
    say(&welcome(listener.local_addr()?, local_addr(metrics_listener.as_ref()), data))?;

    if !app.config.limits.is_on {
        tracing::warn!("LIMITS_PROFILE=off: no rate is limited; for load tests only");
        if app.config.limits.is_changed {
            tracing::warn!("LIMITS is set, and changes nothing while LIMITS_PROFILE is off");
        }
    }
    let (close, end) = (CancellationToken::new(), CancellationToken::new());
    let chores = chores::start(&app, telemetry.metrics(), &end);
    let metrics_server = metrics_listener.map(|listener| {
        let router = metrics::router(app.clone(), telemetry.metrics());
        tokio::spawn(serve(listener, router, Limits::default(), end.clone()))
    });
    let server = tokio::spawn(serve(listener, router(&app), limits(), close.clone()));

    let orchestrated = signals.next().await;
    stop.cancel();
    if orchestrated {
        tracing::info!("stopping: not ready any more, still answering");
        let _ = tokio::time::timeout(GRACE, signals.next()).await;
    }
    close.cancel();
    tracing::info!("stopping: finishing what is under way");
    tokio::select! {
        drained = server => if let Ok(Drained::Forced { connections }) = drained {
            tracing::warn!(connections, "connections cut off at the deadline");
        },
        _ = signals.next() => tracing::warn!("stopping: told again, not waiting"),
    }
    end.cancel();
    for task in chores.into_iter().chain(metrics_server.map(|task| tokio::spawn(ended(task)))) {
        let _ = task.await;
    }
    for pool in app.pools() {
        pool.close();
    }
    tracing::info!("stopped");
    Ok(())
}

async fn ended(server: JoinHandle<Drained>) {
    let _ = server.await;
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

/// As many connections as there may be, with room left for the database and files: the limit of the
/// process is raised as far as it may be.
fn limits() -> Limits {
    let limits = Limits::default();
    let mut allowed = getrlimit(Resource::Nofile);
    allowed.current = allowed.maximum;
    let _ = setrlimit(Resource::Nofile, allowed);
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    Limits {
        connections: limits.connections.min(descriptors.saturating_sub(256).max(64)),
        ..limits
    }
}

/// Takes the address before anything is started for it.
fn bind(variable: &'static str, address: SocketAddr) -> Result<StdListener, Failure> {
    let listener = StdListener::bind(address);
    let listener = listener.map_err(|source| Failure::Listen { variable, address, source })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn bind_metrics(setting: MetricsListener) -> Result<Option<StdListener>, Failure> {
    match setting {
        MetricsListener::Off => Ok(None),
        MetricsListener::At(address) => bind("METRICS_ADDR", address).map(Some),
        MetricsListener::Default(address) => match bind("METRICS_ADDR", address) {
            Err(failure) => {
                tracing::warn!("no metrics: {failure}");
                Ok(None)
            }
            bound => bound.map(Some),
        },
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
