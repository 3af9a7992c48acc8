//! `tenantry serve`: starts the server, and shuts it down gracefully.

use std::fmt::Write;
use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::SystemClock;
use crate::commands::setup::{PreparedDatabase, load_config, prepare_database};
use crate::commands::signals::Signals;
use crate::commands::{Failure, maintenance, print};
use crate::config::Config;
use crate::config::telemetry::MetricsListener;
use crate::config::verification::VerifyListener;
use crate::entropy::SystemEntropy;
use crate::http::{local_verifier_router, metrics, router};
use crate::server::{ConnectionLimits, DrainOutcome, ShutdownSignal, serve};
use crate::telemetry::Telemetry;

/// The number of file descriptors for other purposes than connections of clients and to the
/// database.
const RESERVED_DESCRIPTORS: usize = 256;

/// Serves until a signal to stop (SIGINT, SIGTERM, SIGQUIT), then finishes running requests. If an
/// orchestrator sent the signal, the server still accepts connections for a while, so that load
/// balancers that check its readiness can use other servers first, and an idle connection may
/// serve one more request.
///
/// # Errors
/// The server could not start.
pub fn run() -> Result<(), Failure> {
    let config = load_config()?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    let listener = bind("LISTEN_ADDR", config.http.listen_addr)?;
    let metrics_listener = bind_metrics(config.telemetry.metrics)?;
    let verify_listener = config.verification.listener.as_ref().map(bind_verify).transpose()?;
    let prepared = prepare_database(&config)?;
    let data = match &prepared.cluster {
        Some(cluster) => {
            let (home, version) = (cluster.home().display(), cluster.version());
            let secrets = std::path::absolute(config.database.data_dir.join("secrets"))?;
            format!("{home} (private Postgres {version}), secrets in {}", secrets.display())
        }
        None => "the database in DATABASE_URL".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        let PreparedDatabase { options, .. } = &prepared;
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let app = App::build(config, options.clone(), clock, entropy, stop.clone())?;
        let listeners =
            Listeners { api: listener, metrics: metrics_listener, verify: verify_listener };
        serve_app(app, stop, listeners, &telemetry, &data).await
    });
    telemetry.finish();
    served
}

async fn serve_app(
    app: App,
    stop: CancellationToken,
    listeners: Listeners,
    telemetry: &Telemetry,
    data: &str,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let writable = app.mailer.check_writable().await;
    writable.map_err(|(folder, cause)| Failure::MailFolder { folder, cause })?;
    let listener = TcpListener::from_std(listeners.api)?;
    let metrics_listener = listeners.metrics.map(TcpListener::from_std).transpose()?;
    print(&welcome(listener.local_addr()?, local_addr(metrics_listener.as_ref()), data))?;

    if !app.config.rate_limits.is_on {
        tracing::warn!("LIMITS_PROFILE=off: rate limits are off; use it for load tests only");
        if app.config.rate_limits.has_overrides {
            tracing::warn!("LIMITS is set but has no effect while LIMITS_PROFILE is off");
        }
    }
    let (server_stop, end) = (ShutdownSignal::default(), CancellationToken::new());
    let maintenance = maintenance::start(&app, telemetry.metrics(), &end);
    let metrics_server = metrics_listener.map(|listener| {
        let router = metrics::router(app.clone(), telemetry.metrics());
        let metrics_limits = ConnectionLimits { connections: 256, ..ConnectionLimits::default() };
        let stop = ShutdownSignal { close: end.clone(), ..ShutdownSignal::default() };
        tokio::spawn(serve(listener, router, metrics_limits, stop))
    });
    let limits = connection_limits(&app.config);
    let verify_server = listeners
        .verify
        .map(|listener| serve_verify(listener, &app, limits, server_stop.clone()))
        .transpose()?;
    let server = tokio::spawn(serve(listener, router(&app), limits, server_stop.clone()));

    let is_graceful = signals.next().await;
    stop.cancel();
    if is_graceful {
        tracing::info!("stopping: reporting not ready, still accepting requests");
        server_stop.announce.cancel();
        let grace = app.config.http.connections.shutdown_grace;
        let _ = tokio::time::timeout(grace, signals.next()).await;
    }
    server_stop.close.cancel();
    tracing::info!("stopping: finishing running requests");
    tokio::select! {
        drained = server => if let Ok(DrainOutcome::Forced { connections }) = drained {
            tracing::warn!(connections, "connections closed at the shutdown deadline");
        },
        _ = signals.next() => tracing::warn!("second signal: exiting without draining"),
    }
    if let Some(verify_server) = verify_server {
        wait_for_server(verify_server).await;
    }
    end.cancel();
    for task in maintenance
        .into_iter()
        .chain(metrics_server.map(|task| tokio::spawn(wait_for_server(task))))
    {
        let _ = task.await;
    }
    for pool in app.pools() {
        pool.close();
    }
    tracing::info!("stopped");
    Ok(())
}

/// The bound sockets of a server.
struct Listeners {
    api: StdListener,
    metrics: Option<StdListener>,
    verify: Option<VerifySocket>,
}

/// The bound socket for verifiers without a secret.
enum VerifySocket {
    Tcp(StdListener),
    Unix(StdUnixListener),
}

/// Serves the routes for verifiers, and nothing else.
fn serve_verify(
    socket: VerifySocket,
    app: &App,
    limits: ConnectionLimits,
    stop: ShutdownSignal,
) -> Result<JoinHandle<DrainOutcome>, Failure> {
    let router = local_verifier_router(app);
    // All connections come from the few addresses of the operator's proxies and services.
    let limits = ConnectionLimits { connections_per_address: usize::MAX, ..limits };
    Ok(match socket {
        VerifySocket::Tcp(listener) => {
            tokio::spawn(serve(TcpListener::from_std(listener)?, router, limits, stop))
        }
        VerifySocket::Unix(listener) => {
            tokio::spawn(serve(UnixListener::from_std(listener)?, router, limits, stop))
        }
    })
}

async fn wait_for_server(server: JoinHandle<DrainOutcome>) {
    let _ = server.await;
}

/// Returns the configured limits of connections, with fewer connections if the process may not open
/// that many file descriptors. Its soft limit is raised to the hard limit first.
fn connection_limits(config: &Config) -> ConnectionLimits {
    let settings = &config.http.connections;
    let mut open_files = getrlimit(Resource::Nofile);
    open_files.current = open_files.maximum;
    let _ = setrlimit(Resource::Nofile, open_files);
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let reserved = RESERVED_DESCRIPTORS + config.database.max_connections as usize;
    let connections = settings.max_connections.min(descriptors.saturating_sub(reserved).max(64));
    if connections < settings.max_connections {
        tracing::warn!(connections, "the limit of open files allows fewer than MAX_CONNECTIONS");
    }
    // Behind a proxy, all connections have the proxy's address.
    let is_direct = config.http.trusted_proxy_hops == 0;
    let per_address = settings.max_per_address.min((connections / 2).max(1));
    ConnectionLimits {
        first_byte: settings.keep_alive,
        headers: settings.header_timeout,
        idle: settings.keep_alive,
        stall: settings.send_timeout,
        connections,
        connections_per_address: if is_direct { per_address } else { usize::MAX },
        drain: settings.shutdown_drain,
        ..ConnectionLimits::default()
    }
}

/// Binds the address, so that an address in use is reported before the database is started.
fn bind(variable: &'static str, address: SocketAddr) -> Result<StdListener, Failure> {
    let listener = StdListener::bind(address);
    let listener = listener.map_err(|source| Failure::Listen { variable, address, source })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Binds the socket for verifiers. A unix socket that an earlier server left behind is replaced,
/// one that a server listens on is not. It is readable and writable for its owner and group.
fn bind_verify(setting: &VerifyListener) -> Result<VerifySocket, Failure> {
    let path = match setting {
        VerifyListener::Tcp(address) => {
            return bind("VERIFY_ADDR", *address).map(VerifySocket::Tcp);
        }
        VerifyListener::Unix(path) => path,
    };
    let is_stale = is_abandoned_socket(path);
    let removed = if is_stale { std::fs::remove_file(path) } else { Ok(()) };
    let listener = removed
        .and_then(|()| StdUnixListener::bind(path))
        .and_then(|listener| {
            std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
            listener.set_nonblocking(true).map(|()| listener)
        })
        .map_err(|source| Failure::ListenOnSocket { path: path.clone(), source })?;
    Ok(VerifySocket::Unix(listener))
}

/// Returns whether a path is a unix socket on which no process listens. If connecting fails
/// with another error than `ECONNREFUSED`, a process may listen.
fn is_abandoned_socket(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    let connect = || {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
    };
    is_socket && connect() == Err(Errno::CONNREFUSED)
}

fn bind_metrics(setting: MetricsListener) -> Result<Option<StdListener>, Failure> {
    match setting {
        MetricsListener::Off => Ok(None),
        MetricsListener::Address(address) => bind("METRICS_ADDR", address).map(Some),
        MetricsListener::Default(address) => match bind("METRICS_ADDR", address) {
            Err(failure) => {
                tracing::warn!("metrics are not served: {failure}");
                Ok(None)
            }
            bound => bound.map(Some),
        },
    }
}

fn local_addr(listener: Option<&TcpListener>) -> Option<SocketAddr> {
    listener.and_then(|listener| listener.local_addr().ok())
}

/// Returns the text that is printed at start: the addresses, the data, and a first command to try.
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
