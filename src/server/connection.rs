//! One connection from its first byte to its last.

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
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tower::Service;

use super::ConnectionLimits;
use super::body_drain::track_body;
use super::connections::{ConnectionLimiter, ConnectionPermit};
use super::io::{ActiveRequest, ResponseBody, TimedStream};
use super::timer::ConnectionTimer;

/// hyper refuses a smaller buffer than this, and panics while doing so.
const SMALLEST_BUFFER: usize = 8192;

/// What all connections share.
pub(super) struct ConnectionServer {
    http: http1::Builder,
    router: Router,
    pub(super) connections: Arc<ConnectionLimiter>,
    /// Whether every answer is its connection's last.
    announces_close: AtomicBool,
}

impl ConnectionServer {
    pub(super) fn new(router: Router, limits: ConnectionLimits) -> Self {
        let mut http = http1::Builder::new();
        http.header_read_timeout(None)
            .max_header_size(limits.header_bytes)
            .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER));
        // Without `with_state`, axum would build the routes' services anew for each request.
        let router = router.with_state(());
        let room = Arc::new(ConnectionLimiter::new(limits));
        Self { http, router, connections: room, announces_close: AtomicBool::new(false) }
    }

    /// Has every answer from here on say `Connection: close`.
    pub(super) fn announce_close(&self) {
        self.announces_close.store(true, Relaxed);
    }

    /// Serves a connection, where there is room for it.
    pub(super) fn accept(
        host: &Arc<Self>,
        open: &mut JoinSet<()>,
        stream: TcpStream,
        peer: SocketAddr,
        limits: ConnectionLimits,
    ) {
        let pace = Arc::new(ConnectionTimer::new(limits));
        let Some(seat) = host.connections.acquire(peer.ip(), &pace) else {
            return tracing::debug!(%peer, "connection closed: its address has too many");
        };
        open.spawn(Arc::clone(host).serve_connection(stream, peer, pace, seat));
    }

    /// Serves one connection until it ends by itself or a deadline cuts it.
    async fn serve_connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        pace: Arc<ConnectionTimer>,
        _seat: ConnectionPermit,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY refused");
        }
        let service =
            service_fn(|request| self.handle(request, peer, ActiveRequest::start(&pace), &pace));
        let io = TokioIo::new(TimedStream::new(stream, &pace));
        let mut connection = pin!(self.http.serve_connection(io, service));
        let mut end = pin!(pace.shutdown.cancelled());
        let mut alarm = pin!(pace.alarm());
        let mut is_ending = false;
        let ended = poll_fn(|cx| {
            while connection.as_mut().poll(cx)?.is_pending() {
                if !is_ending && end.as_mut().poll(cx).is_ready() {
                    if pace.is_evicted() && pace.waiting_since().is_some() {
                        return Poll::Ready(Ok(Some("room for another")));
                    }
                    // hyper would drop a half-read head at once. It ends at its own deadline, or
                    // becomes a request, whose connection then ends with the answer.
                    if !pace.is_reading_head() {
                        connection.as_mut().graceful_shutdown();
                        is_ending = true;
                        continue;
                    }
                }
                return pace.poll_deadline(alarm.as_mut(), cx).map(|limit| Ok(Some(limit)));
            }
            Poll::Ready(Ok::<_, hyper::Error>(None))
        });
        match ended.await {
            Ok(None) => {}
            Ok(Some(limit)) => tracing::debug!(%peer, limit, "connection cut"),
            Err(error) => tracing::debug!(%peer, %error, "connection failed"),
        }
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        turn: ActiveRequest,
        pace: &Arc<ConnectionTimer>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let expects_continue = request.headers().contains_key(EXPECT);
        let (parts, body) = request.into_parts();
        let (body, lender) = track_body(body, pace);
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut response = self.router.clone().call(request).await?;
        let has_all = lender.drain_rest(expects_continue).await;
        if !has_all {
            pace.set_unread();
        }
        if !has_all || self.announces_close.load(Relaxed) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Ok(response.map(|body| turn.attach_to(body)))
    }
}
