//! The server's own accept loop: HTTP/1.1 on hyper, with a deadline on everything a client can
//! delay. TLS and HTTP/2 end at the proxy in front.
//!
//! The one thing to know: time is kept by `pace`, not by hyper. hyper's `header_read_timeout`
//! runs from the moment it begins to *wait* for a head, so it would close idle connections after
//! `headers` instead of `idle`, and it makes a boxed timer for every request.

mod body_drain;
mod connection;
mod connections;
mod io;
mod timer;

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::connection::ConnectionServer;

/// How long to leave `accept` alone after it failed for want of descriptors or memory, and how
/// often to look for a connection to close while there is room for none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// How long cut connections get to run their destructors before [`serve`] returns without them,
/// and how long a connection that came as the last one may stay silent.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Serves `router` until `stop` says so, then drains.
///
/// Guarantees: every request carries [`ConnectInfo<SocketAddr>`](axum::extract::ConnectInfo); a
/// client that delays is cut as [`ConnectionLimits`] says, while the time a handler takes counts
/// against no limit; a failing `accept` neither ends the loop nor spins. At the connection cap, and
/// at that of one address, the connection that has waited longest for its client is closed and the
/// new one served; only where all of an address's requests are being worked on is its next
/// connection closed, and only where all of everybody's are do the next ones wait in the kernel's
/// backlog.
///
/// A request that is answered before its body was read has the rest of it drained, or its
/// connection closed in a way that lets the answer arrive.
///
/// Once stopped: the listener is closed, with nothing left in its backlog; a request whose first
/// byte had arrived is still answered, with `Connection: close`; whatever is open after
/// [`ConnectionLimits::drain`] is dropped. Idle connections are closed at once, unless `stop` was
/// announced before: then they are closed after their next answer, or when they have been idle for
/// [`ConnectionLimits::idle`], since whoever holds them may just be sending a request. Dropping
/// this future drops every connection.
///
/// The metrics recorder must be installed before: the gauge `http_connections` is taken from it
/// once.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: ShutdownSignal,
) -> DrainOutcome {
    let host = Arc::new(ConnectionServer::new(router, limits));
    let mut open = JoinSet::new();
    let most = limits.connections + limits.spare();
    let mut is_announced = false;
    loop {
        tokio::select! {
            biased;
            () = stop.close.cancelled() => break,
            () = stop.announce.cancelled(), if !is_announced => {
                is_announced = true;
                host.announce_close();
            }
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < most => match accepted {
                Ok((stream, peer)) => ConnectionServer::accept(&host, &mut open, stream, peer,
                limits),
                Err(error) => pause_after_accept_error(&error, &stop.close).await,
            },
            () = sleep(ACCEPT_PAUSE), if open.len() >= most => host.connections.evict_excess(),
        }
    }
    host.announce_close();
    let mut last = limits;
    if !stop.announce.is_cancelled() {
        host.connections.close_idle();
        last.first_byte = last.first_byte.min(CUT_GRACE);
    }
    for (stream, peer) in take_backlog(listener) {
        ConnectionServer::accept(&host, &mut open, stream, peer, last);
    }
    drain(&host, open, limits.drain).await
}

/// How [`serve`] is told to stop.
#[derive(Clone, Default)]
pub struct ShutdownSignal {
    /// Every answer says `Connection: close` from here on; connections are still accepted.
    pub announce: CancellationToken,
    /// No connection is accepted from here on.
    pub close: CancellationToken,
}

/// What a client may take. The time a handler takes counts against none of these.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// From accept to the first byte.
    pub first_byte: Duration,
    /// From the first byte of a request to the end of its head.
    pub headers: Duration,
    /// Request line and header fields together; more is refused with 431.
    pub header_bytes: usize,
    /// From the end of an answer to the first byte of the next request.
    pub idle: Duration,
    /// How long the client may leave an answer unread before its connection is cut.
    pub stall: Duration,
    /// Open connections. Must stay well below the descriptor limit of the process.
    pub connections: usize,
    /// Those of one client address (IPv6: of one /64).
    pub connections_per_address: usize,
    /// From stop until what is still open is dropped.
    pub drain: Duration,
}

impl ConnectionLimits {
    /// How many connections there may be beyond the cap while others are closed for them, and how
    /// many are closed together, so that a full server does not look through all for each.
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
    /// Some were not at the drain deadline, and their connections were dropped.
    Forced {
        /// How many.
        connections: usize,
    },
}

/// Lets go of `accept` for a moment when the next try would fail the same way.
async fn pause_after_accept_error(error: &Error, stop: &CancellationToken) {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    // These are about the one client, which has gone away.
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return tracing::debug!(%error, "connection lost before it was accepted");
    }
    tracing::warn!(%error, "cannot accept connections");
    stop.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
}

/// The connections that the kernel has accepted and nobody has taken yet. It would reset them when
/// the listener is closed, together with the requests that may have been sent on them.
fn take_backlog(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let mut accepted = Vec::new();
    while let Ok((stream, peer)) = listener.accept() {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        accepted.extend(stream.map(|stream| (stream, peer)));
    }
    accepted
}

async fn drain(host: &ConnectionServer, mut open: JoinSet<()>, limit: Duration) -> DrainOutcome {
    let ended = async { while open.join_next().await.is_some() {} };
    if timeout(limit, ended).await.is_ok() {
        return DrainOutcome::Clean;
    }
    let connections = host.connections.active_requests();
    if timeout(CUT_GRACE, open.shutdown()).await.is_err() {
        tracing::debug!("a handler blocks its thread and was left behind");
    }
    if connections == 0 { DrainOutcome::Clean } else { DrainOutcome::Forced { connections } }
}
