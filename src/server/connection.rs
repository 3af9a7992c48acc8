//! Serves one connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tower::Service;

use super::ConnectionLimits;
use super::body_drain::track_body;
use super::connections::{ConnectionLimiter, ConnectionPermit};
use super::io::{ActiveRequest, ResponseBody, TimedStream};
use super::timer::ConnectionTimer;

/// The end of a connection that was closed to make room for another one.
const EVICTED: &str = "evicted";

/// The minimum size of hyper's buffer; hyper panics if it is configured with less.
const SMALLEST_BUFFER: usize = 8192;

/// The state that all connections share.
pub(super) struct ConnectionServer {
    http: http1::Builder,
    router: Router,
    pub(super) connections: Arc<ConnectionLimiter>,
    /// Whether every response carries `Connection: close`.
    announces_close: AtomicBool,
}

impl ConnectionServer {
    pub(super) fn new(router: Router, limits: ConnectionLimits) -> Self {
        let mut http = http1::Builder::new();
        http.header_read_timeout(None)
            .max_header_size(limits.header_bytes)
            .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER));
        // Without `with_state`, axum would build the routes' services for each request.
        let router = router.with_state(());
        let limiter = Arc::new(ConnectionLimiter::new(limits));
        Self { http, router, connections: limiter, announces_close: AtomicBool::new(false) }
    }

    /// Adds `Connection: close` to every response from now on.
    pub(super) fn announce_close(&self) {
        self.announces_close.store(true, Relaxed);
    }

    /// Serves a connection, unless its address has too many, and none of them can be evicted.
    pub(super) fn accept(
        server: &Arc<Self>,
        open: &mut JoinSet<()>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: SocketAddr,
        limits: ConnectionLimits,
    ) {
        let timer = Arc::new(ConnectionTimer::new(limits));
        let Some(permit) = server.connections.acquire(peer.ip(), &timer) else {
            return tracing::debug!(%peer, "connection rejected: address has too many connections");
        };
        open.spawn(Arc::clone(server).serve_connection(stream, peer, timer, permit));
    }

    /// Serves one connection until it ends, exceeds a deadline or is evicted for another one.
    async fn serve_connection(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin,
        peer: SocketAddr,
        timer: Arc<ConnectionTimer>,
        _permit: ConnectionPermit,
    ) {
        let service =
            service_fn(|request| self.handle(request, peer, ActiveRequest::start(&timer), &timer));
        let io = TokioIo::new(TimedStream::new(stream, &timer));
        let mut connection = pin!(self.http.serve_connection(io, service));
        let mut end = pin!(timer.shutdown.cancelled());
        let mut alarm = pin!(timer.alarm());
        let mut is_ending = false;
        let ended = poll_fn(|cx| {
            while connection.as_mut().poll(cx)?.is_pending() {
                if !is_ending && end.as_mut().poll(cx).is_ready() {
                    if timer.is_evicted() && timer.waiting_since().is_some() {
                        return Poll::Ready(Ok(Some(EVICTED)));
                    }
                    // hyper would drop a partial head immediately. Instead, wait: it either exceeds
                    // its deadline or becomes a request, and the connection ends after it.
                    if !timer.is_reading_head() {
                        connection.as_mut().graceful_shutdown();
                        is_ending = true;
                        continue;
                    }
                }
                return timer.poll_deadline(alarm.as_mut(), cx).map(|limit| Ok(Some(limit)));
            }
            Poll::Ready(Ok::<_, hyper::Error>(None))
        });
        match ended.await {
            Ok(None) => {}
            Ok(Some(EVICTED)) => tracing::debug!(%peer, "connection closed: evicted for another"),
            Ok(Some(limit)) => tracing::debug!(%peer, limit, "connection closed: limit exceeded"),
            Err(error) => tracing::debug!(%peer, %error, "connection failed"),
        }
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        active_request: ActiveRequest,
        timer: &Arc<ConnectionTimer>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let expects_continue = request.headers().contains_key(EXPECT);
        let (parts, body) = request.into_parts();
        let (body, tracker) = track_body(body, timer);
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut response = self.router.clone().call(request).await?;
        let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
        let body_has_ended =
            if closes { tracker.has_ended() } else { tracker.drain_rest(expects_continue).await };
        if !body_has_ended {
            timer.set_unread();
        }
        if !body_has_ended || self.announces_close.load(Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Ok(response.map(|body| active_request.attach_to(body)))
    }
}
