//! The server's own accept loop: HTTP/1.1 on hyper, with a deadline on everything a client can
//! delay. TLS and HTTP/2 end at the proxy in front.
//!
//! The one thing to know: deadlines are enforced by `timer`, not by hyper. hyper's
//! `header_read_timeout` starts when hyper begins to *wait* for a head, so it would close idle
//! connections after `headers` instead of `idle`, and it allocates a timer for every request.

mod body_drain;
mod connection;
mod connections;
mod io;
mod listener;
mod timer;

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::connection::ConnectionServer;
pub use self::listener::Listener;

/// How long to wait after `accept` failed for lack of descriptors or memory, and how often to look
/// for a connection to evict while all capacity is in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// How long [`serve`] waits for the destructors of dropped connections, and how long after a stop
/// that was not announced a connection from the backlog of the closed listener may stay silent.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Serves `router` until `stop` is signalled, then drains.
///
/// Guarantees: every request carries [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo). A
/// client that exceeds [`ConnectionLimits`] is cut, while the time that a handler takes counts
/// against no limit. A failing `accept` neither ends the loop nor spins. At the connection cap, and
/// at the cap of one address, the connections that have waited longest for their clients are
/// closed, up to 1/128 of the cap and one more at a time, and the new one is served. A new
/// connection is rejected only if all connections of its address have a request being handled. New
/// connections wait in the kernel's backlog only if all connections have one.
///
/// If a request is answered before its body was read, the rest of the body is drained, or the
/// connection is closed in a way that lets the response arrive.
///
/// After `stop`: the listener is closed, and the connections in its backlog are accepted. A request
/// whose first byte had arrived is still answered, with `Connection: close`. Connections that are
/// open after [`ConnectionLimits::drain`] are dropped. Idle connections are closed immediately,
/// unless `stop` was announced before: then they are closed after their next response, or after
/// [`ConnectionLimits::idle`], since their clients may be sending a request. Dropping this future
/// drops every connection.
///
/// The metrics recorder must be installed before the call, which obtains the gauge
/// `http_connections` from it.
pub async fn serve(
    listener: impl Listener,
    router: Router,
    limits: ConnectionLimits,
    stop: ShutdownSignal,
) -> DrainOutcome {
    let server = Arc::new(ConnectionServer::new(router, limits));
    let mut open = JoinSet::new();
    let max_open = limits.connections + limits.spare();
    let mut is_announced = false;
    loop {
        tokio::select! {
            biased;
            () = stop.close.cancelled() => break,
            () = stop.announce.cancelled(), if !is_announced => {
                is_announced = true;
                server.announce_close();
            }
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < max_open => match accepted {
                Ok((stream, peer)) => ConnectionServer::accept(&server, &mut open, stream, peer,
                limits),
                Err(error) => pause_after_accept_error(&error, &stop.close).await,
            },
            () = sleep(ACCEPT_PAUSE), if open.len() >= max_open => {
                server.connections.evict_excess();
            }
        }
    }
    server.announce_close();
    let mut last = limits;
    if !stop.announce.is_cancelled() {
        server.connections.close_idle();
        last.first_byte = last.first_byte.min(CUT_GRACE);
    }
    for (stream, peer) in listener.into_backlog() {
        ConnectionServer::accept(&server, &mut open, stream, peer, last);
    }
    drain(&server, open, limits.drain).await
}

/// Signals [`serve`] to stop.
#[derive(Clone, Default)]
pub struct ShutdownSignal {
    /// From now on, every response carries `Connection: close`. Connections are still accepted.
    pub announce: CancellationToken,
    /// From now on, no connection is accepted.
    pub close: CancellationToken,
}

/// The limits of clients and connections. The time that a handler takes counts against none.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// From accept to the first byte.
    pub first_byte: Duration,
    /// From the first byte of a request to the end of its head.
    pub headers: Duration,
    /// Bytes of the request line and header fields; a larger head is rejected with 431.
    pub header_bytes: usize,
    /// From the end of a response to the first byte of the next request.
    pub idle: Duration,
    /// How long the client may leave a response unread.
    pub stall: Duration,
    /// The maximum number of open connections. Must be well below the process's descriptor limit.
    pub connections: usize,
    /// The maximum number of open connections of one client address (IPv6: of one /64).
    pub connections_per_address: usize,
    /// From the stop until the connections that are still open are dropped.
    pub drain: Duration,
}

impl ConnectionLimits {
    /// Returns how many connections may be open beyond the cap while others are being evicted, and
    /// how many are evicted together, so that a full server does not search all connections for
    /// each new one.
    const fn spare(&self) -> usize {
        self.connections / 128 + 1
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(75),
            headers: Duration::from_secs(10),
            header_bytes: 16 * 1024,
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            connections: 10_000,
            connections_per_address: 1_000,
            drain: Duration::from_secs(25),
        }
    }
}

/// How [`serve`] ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Every request was answered.
    Clean,
    /// At the drain deadline some requests were not answered, and their connections were dropped.
    Forced {
        /// The number of these connections.
        connections: usize,
    },
}

/// Waits before the next `accept` if it would probably fail with the same error.
async fn pause_after_accept_error(error: &Error, stop: &CancellationToken) {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    // These errors concern a single client, which has disconnected.
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return tracing::debug!(%error, "connection lost before it was accepted");
    }
    tracing::warn!(%error, "cannot accept connections");
    stop.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
}

async fn drain(server: &ConnectionServer, mut open: JoinSet<()>, limit: Duration) -> DrainOutcome {
    let ended = async { while open.join_next().await.is_some() {} };
    if timeout(limit, ended).await.is_ok() {
        return DrainOutcome::Clean;
    }
    let connections = server.connections.active_requests();
    if timeout(CUT_GRACE, open.shutdown()).await.is_err() {
        tracing::debug!("a handler blocks its thread; exiting without it");
    }
    if connections == 0 { DrainOutcome::Clean } else { DrainOutcome::Forced { connections } }
}
