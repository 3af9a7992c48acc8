//! The server's own accept loop: HTTP/1.1 on hyper, with a deadline on everything a client can
//! delay. TLS and HTTP/2 end at the proxy in front.
//!
//! The one thing to know: time is kept by `pace`, not by hyper. hyper's `header_read_timeout`
//! runs from the moment it begins to *wait* for a head, so it would close idle connections after
//! `headers` instead of `idle`, and it makes a boxed timer for every request.

mod pace;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use metrics::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

use self::pace::{Answer, Pace, Paced, Turn};

/// How long to leave `accept` alone after it failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// How long cut connections get to run their destructors before [`serve`] returns without them.
const CUT_GRACE: Duration = Duration::from_secs(1);
/// hyper refuses a smaller buffer than this, and panics while doing so.
const SMALLEST_BUFFER: usize = 8192;

/// Serves `router` until `stop` is cancelled, then drains.
///
/// Guarantees: every request carries [`ConnectInfo<SocketAddr>`]; a client that delays is cut as
/// [`Limits`] says, while the time a handler takes counts against no limit; a failing `accept`
/// neither ends the loop nor spins. At the connection cap nothing is accepted until a connection
/// ends: clients then wait in the kernel's backlog, which costs no descriptor and usually ends in
/// an answer, whereas accept-and-close would turn a short peak into errors.
///
/// Once stopped: the listener is closed; idle and silent connections close at once; a request
/// whose first byte had arrived is still answered, with `Connection: close`; whatever is open
/// after [`Limits::drain`] is dropped. Dropping this future drops every connection.
///
/// The metrics recorder must be installed before: the gauge `http_connections` is taken from it
/// once.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> Drained {
    let host = Arc::new(Host::new(router, limits, stop.clone()));
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < limits.connections => match accepted {
                Ok((stream, peer)) => {
                    open.spawn(Arc::clone(&host).converse(stream, peer));
                }
                Err(error) => recover(&error, &stop).await,
            },
        }
    }
    drop(listener);
    drain(open, limits.drain).await
}

/// What a client may take. The time a handler takes counts against none of these.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
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
    /// From stop until what is still open is dropped.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            header_bytes: 16 * 1024,
            idle: Duration::from_mins(1),
            stall: Duration::from_secs(30),
            connections: 10_000,
            drain: Duration::from_secs(25),
        }
    }
}

/// How [`serve`] ended.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every connection ended by itself.
    Clean,
    /// Some were still open at the drain deadline and were dropped.
    Forced {
        /// How many.
        connections: usize,
    },
}

/// What all connections share.
struct Host {
    http: http1::Builder,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    open: Gauge,
}

impl Host {
    fn new(router: Router, limits: Limits, stop: CancellationToken) -> Self {
        let mut http = http1::Builder::new();
        http.header_read_timeout(None)
            .max_header_size(limits.header_bytes)
            .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER));
        // Without `with_state`, axum would build the routes' services anew for each request.
        let router = router.with_state(());
        Self { http, router, limits, stop, open: metrics::gauge!("http_connections") }
    }

    /// Serves one connection until it ends by itself or a deadline cuts it.
    async fn converse(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let _counted = Counted::new(&self.open);
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY refused");
        }
        let pace = Arc::new(Pace::new(self.limits));
        // A token of its own: the shared one would be a lock all connections take on every poll.
        let token = self.stop.child_token();
        let service = service_fn(|request| self.answer(request, peer, Turn::begin(&pace), &token));
        let io = TokioIo::new(Paced { stream, pace: Arc::clone(&pace) });
        let mut connection = pin!(self.http.serve_connection(io, service));
        let mut stop = pin!(token.cancelled());
        let mut alarm = pin!(pace.alarm());
        let mut told = false;
        let ended = poll_fn(|cx| {
            while connection.as_mut().poll(cx)?.is_pending() {
                // hyper would drop a half-read head at once. It ends at its own deadline, or
                // becomes a request, which is then told.
                if told || pace.is_mid_head() || stop.as_mut().poll(cx).is_pending() {
                    return pace.poll_overdue(alarm.as_mut(), cx).map(|limit| Ok(Some(limit)));
                }
                connection.as_mut().graceful_shutdown();
                told = true;
            }
            Poll::Ready(Ok::<_, hyper::Error>(None))
        });
        match ended.await {
            Ok(None) => {}
            Ok(Some(limit)) => tracing::debug!(%peer, limit, "connection cut"),
            Err(error) => tracing::debug!(%peer, %error, "connection failed"),
        }
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
        turn: Turn,
        stop: &CancellationToken,
    ) -> Result<Response<Answer>, Infallible> {
        request.extensions_mut().insert(ConnectInfo(peer));
        let answering = self.router.clone().call(request);
        let mut response = answering.await?;
        // hyper says this only to requests it knew of when it was told to stop.
        if stop.is_cancelled() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Ok(response.map(|body| turn.last_through(body)))
    }
}

/// Lets go of `accept` for a moment when the next try would fail the same way.
async fn recover(error: &io::Error, stop: &CancellationToken) {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    // These are about the one client, which has gone away.
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return tracing::debug!(%error, "connection lost before it was accepted");
    }
    tracing::warn!(%error, "cannot accept connections");
    stop.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
}

async fn drain(mut open: JoinSet<()>, limit: Duration) -> Drained {
    let ended = async { while open.join_next().await.is_some() {} };
    if timeout(limit, ended).await.is_ok() {
        return Drained::Clean;
    }
    while open.try_join_next().is_some() {}
    let connections = open.len();
    if timeout(CUT_GRACE, open.shutdown()).await.is_err() {
        tracing::debug!("a handler blocks its thread and was left behind");
    }
    if connections == 0 { Drained::Clean } else { Drained::Forced { connections } }
}

/// One open connection in the gauge; a guard, so that a panic or an abort counts down too.
struct Counted(Gauge);

impl Counted {
    fn new(open: &Gauge) -> Self {
        open.increment(1.0);
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
