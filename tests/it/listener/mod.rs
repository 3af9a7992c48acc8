//! The listener's guarantees to clients and its limits, over real sockets.
//!
//! Each test shortens only the limits that it checks. The others are so long that they cannot have
//! ended the connection. In a pause, a client expects to read nothing, or does not read.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod body_drain;
mod connections;
mod stop;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::routing::{get, post};
use hyper::body::Frame;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tenantry::server::{ConnectionLimits, DrainOutcome, ShutdownSignal, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::waiting::pause_of_a_slow_client;

/// Longer than any test takes: an event that has not happened by then will not happen.
const OVERALL_TIMEOUT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);
/// Several times `SHORT`: after it a limit of `SHORT` has been exceeded.
const PAUSE: Duration = Duration::from_millis(400);

/// More than the kernel buffers for a client that does not read.
const FLOOD: usize = 32 << 20;
const HELLO: &str = "GET /hello HTTP/1.1\r\nhost: t\r\n\r\n";

#[tokio::test]
async fn a_request_carries_the_address_of_its_client() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    let response = client.request("GET /address HTTP/1.1\r\nhost: t\r\n\r\n").await;
    assert_eq!(response.body, client.0.local_addr().unwrap().to_string());
}

#[tokio::test]
async fn pipelined_requests_get_their_responses_in_order() {
    let server = Server::start(|_| {}).await;
    let mut client = server.connect().await;
    client.send(&HELLO.replace("hello", "address").repeat(2)).await;
    client.send(HELLO).await;
    let address = client.0.local_addr().unwrap().to_string();
    assert_eq!(client.read_response().await.body, address);
    assert_eq!(client.read_response().await.body, address);
    assert_eq!(client.read_response().await.body, "hello");
}

#[tokio::test]
async fn a_connection_that_never_sends_a_byte_is_closed() {
    let server = Server::start(|limits| limits.first_byte = SHORT).await;
    assert_eq!(server.connect().await.read_to_end().await, "");
}

#[tokio::test]
async fn a_connection_that_sends_its_head_a_byte_at_a_time_is_closed() {
    let server = Server::start(|limits| limits.headers = PAUSE).await;
    server.connect().await.trickle().await;
}

#[tokio::test]
async fn a_connection_that_sends_a_later_head_a_byte_at_a_time_is_closed() {
    let server = Server::start(|limits| limits.headers = PAUSE).await;
    let mut client = server.connect().await;
    assert_eq!(client.request(HELLO).await.status, 200);
    client.trickle().await;
}

#[tokio::test]
async fn a_head_over_the_size_limit_is_rejected_before_it_ends() {
    let server = Server::start(|limits| limits.header_bytes = 1024).await;
    let mut client = server.connect().await;
    client.send(&format!("GET /hello HTTP/1.1\r\nhost: t\r\nfiller: {}", "x".repeat(1024))).await;
    assert_eq!(client.read_response().await.status, 431);
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn a_complete_head_over_the_size_limit_is_rejected() {
    let server = Server::start(|limits| limits.header_bytes = 1024).await;
    let mut client = server.connect().await;
    let filler = "x".repeat(1024);
    let response =
        client.request(&format!("GET /hello HTTP/1.1\r\nfiller: {filler}\r\n\r\n")).await;
    assert_eq!(response.status, 431);
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start(|limits| limits.idle = SHORT).await;
    let mut client = server.connect().await;
    assert_eq!(client.request(HELLO).await.status, 200);
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test]
async fn an_idle_connection_outlives_the_deadlines_for_a_head() {
    let server = Server::start(|limits| {
        limits.first_byte = SHORT;
        limits.headers = SHORT;
    })
    .await;
    let mut client = server.connect().await;
    assert_eq!(client.request(HELLO).await.status, 200);
    client.stays_silent().await;
    assert_eq!(client.request(HELLO).await.status, 200);
}

#[tokio::test]
async fn a_slow_handler_is_waited_for() {
    let server = Server::start(short_timeouts).await;
    let mut client = server.connect().await;
    client.send("GET /slow HTTP/1.1\r\nhost: t\r\n\r\n").await;
    client.stays_silent().await;
    server.release.notify_one();
    assert_eq!(client.read_response().await.body, "slow");
}

#[tokio::test]
async fn a_slow_request_body_is_not_limited_by_the_listener() {
    let server = Server::start(short_timeouts).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\nbo").await;
    client.stays_silent().await;
    assert_eq!(client.request("dy").await.body, "body");
}

#[tokio::test]
async fn a_response_that_pauses_between_its_parts_arrives_whole() {
    let mut server = Server::start(short_timeouts).await;
    let mut client = server.connect().await;
    client.send("GET /parts HTTP/1.0\r\n\r\n").await;
    let parts = with_timeout(server.parts.recv()).await.unwrap();
    parts.send(Bytes::from("first ")).unwrap();
    client.read_until("first ").await;
    client.stays_silent().await;
    parts.send(Bytes::from("second")).unwrap();
    drop(parts);
    assert_eq!(client.read_to_end().await, "second");
}

#[tokio::test]
async fn the_connection_of_a_client_that_stops_reading_is_closed() {
    let server = Server::start(|limits| limits.stall = SHORT).await;
    let mut deaf = server.connect().await;
    deaf.send("GET /flood HTTP/1.1\r\nhost: t\r\n\r\n").await;
    pause_of_a_slow_client(PAUSE).await;
    assert!(deaf.read_to_end().await.len() < FLOOD);
}

#[tokio::test]
async fn a_client_is_not_idle_while_it_still_has_to_read() {
    let server = Server::start(|limits| limits.idle = SHORT).await;
    let mut slow = server.connect().await;
    slow.send("GET /flood HTTP/1.1\r\nhost: t\r\n\r\n").await;
    pause_of_a_slow_client(PAUSE).await;
    assert_eq!(slow.read_response().await.body.len(), FLOOD);
    assert_eq!(slow.read_to_end().await, "");
}

#[tokio::test]
async fn the_gauge_counts_open_connections() {
    let gauge = OneGauge::default();
    let _recording = metrics::set_default_local_recorder(&gauge);
    let mut server = Server::start(|limits| limits.drain = SHORT).await;
    let mut first = server.connect().await;
    assert_eq!(first.request(HELLO).await.status, 200);
    assert!(gauge.reads(1.0));
    let mut second = server.connect().await;
    second.send("GET /slow HTTP/1.1\r\nhost: t\r\n\r\n").await;
    with_timeout(server.entered.notified()).await;
    assert!(gauge.reads(2.0));

    server.stop.close.cancel();
    assert_eq!(server.drained().await, DrainOutcome::Forced { connections: 1 });
    assert!(gauge.reads(0.0));
}

/// Shortens the limits that would be exceeded in a pause if the server waited for the client.
fn short_timeouts(limits: &mut ConnectionLimits) {
    limits.first_byte = SHORT;
    limits.headers = SHORT;
    limits.idle = SHORT;
    limits.stall = SHORT;
}

async fn with_timeout<T>(event: impl Future<Output = T>) -> T {
    timeout(OVERALL_TIMEOUT, event).await.unwrap()
}

/// A listener under test, and the controls of its handlers.
struct Server {
    address: SocketAddr,
    stop: ShutdownSignal,
    serving: JoinHandle<DrainOutcome>,
    /// `/slow` has begun.
    entered: Arc<Notify>,
    /// Lets `/slow` respond.
    release: Arc<Notify>,
    /// Receives the sender of each response of `/parts`.
    parts: mpsc::UnboundedReceiver<mpsc::UnboundedSender<Bytes>>,
}

impl Server {
    /// Starts a server with limits that no test reaches, except those that it shortens.
    async fn start(shorten: impl FnOnce(&mut ConnectionLimits)) -> Self {
        let far = Duration::from_hours(1);
        let mut limits = ConnectionLimits {
            first_byte: far,
            headers: far,
            idle: far,
            stall: far,
            drain: far,
            ..ConnectionLimits::default()
        };
        shorten(&mut limits);
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (hand_out, parts) = mpsc::unbounded_channel();
        let router = router(Arc::clone(&entered), Arc::clone(&release), hand_out);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = ShutdownSignal::default();
        let serving = tokio::spawn(serve(listener, router, limits, stop.clone()));
        Self { address, stop, serving, entered, release, parts }
    }

    /// Connects from this address.
    async fn connect_from(&self, address: [u8; 4]) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((address, 0))).unwrap();
        Client(with_timeout(socket.connect(self.address)).await.unwrap())
    }

    async fn connect(&self) -> Client {
        Client(with_timeout(TcpStream::connect(self.address)).await.unwrap())
    }

    /// Waits until everything sent before has been read. Sockets are served in the order of events.
    async fn wait_until_processed(&self) {
        let mut bystander = self.connect().await;
        for _ in 0..2 {
            assert_eq!(bystander.request(HELLO).await.status, 200);
        }
    }

    async fn drained(&mut self) -> DrainOutcome {
        with_timeout(&mut self.serving).await.unwrap()
    }
}

fn router(
    entered: Arc<Notify>,
    release: Arc<Notify>,
    hand_out: mpsc::UnboundedSender<mpsc::UnboundedSender<Bytes>>,
) -> Router {
    let slow = || async move {
        entered.notify_one();
        release.notified().await;
        "slow"
    };
    let parts = || async move {
        let (sender, receiver) = mpsc::unbounded_channel();
        hand_out.send(sender).unwrap();
        Body::new(ChannelBody(receiver))
    };
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/echo", post(|body: String| async { body }))
        .route("/refuse", post(|| async { (StatusCode::UNAUTHORIZED, "no") }))
        .route("/flood", get(|| async { "x".repeat(FLOOD) }))
        .route("/slow", get(slow))
        .route("/parts", get(parts))
        .route("/address", get(|ConnectInfo(peer): Peer| async move { peer.to_string() }))
}

type Peer = ConnectInfo<SocketAddr>;

/// A response body whose parts the test sends.
struct ChannelBody(mpsc::UnboundedReceiver<Bytes>);

impl hyper::body::Body for ChannelBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|part| part.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A client that sends exactly the bytes that the test chooses.
struct Client(TcpStream);

struct RawResponse {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    async fn send(&mut self, text: &str) {
        with_timeout(self.0.write_all(text.as_bytes())).await.unwrap();
    }

    async fn request(&mut self, request: &str) -> RawResponse {
        self.send(request).await;
        self.read_response().await
    }

    /// Reads one response of known length and nothing after it.
    async fn read_response(&mut self) -> RawResponse {
        let head = self.read_until("\r\n\r\n").await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        with_timeout(self.0.read_exact(&mut body)).await.unwrap();
        RawResponse { status, head, body: String::from_utf8(body).unwrap() }
    }

    async fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            text.push(char::from(with_timeout(self.0.read_u8()).await.unwrap()));
        }
        text
    }

    /// Reads to the end of the connection, whether closed cleanly or reset.
    async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        let _end = with_timeout(self.0.read_to_end(&mut bytes)).await;
        String::from_utf8(bytes).unwrap()
    }

    /// Checks that the server neither sends nor closes during a pause.
    async fn stays_silent(&mut self) {
        let read = timeout(PAUSE, self.0.read_u8()).await;
        assert!(read.is_err(), "expected silence, got {read:?}");
    }

    /// Sends an endless head slowly until the server closes the connection.
    async fn trickle(&mut self) {
        self.send("GET /hello HTTP/1.1\r\nfiller: ").await;
        with_timeout(async {
            while timeout(PAUSE / 20, self.0.read_u8()).await.is_err() {
                // A failed write is the end, too; the read detects it.
                let _gone = self.0.write_all(b"x").await;
            }
        })
        .await;
    }
}

/// A recorder of the one gauge.
#[derive(Clone, Default)]
struct OneGauge(Arc<AtomicU64>);

impl OneGauge {
    fn reads(&self, value: f64) -> bool {
        self.0.load(Ordering::SeqCst) == value.to_bits()
    }
}

impl Recorder for OneGauge {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        assert_eq!(key.name(), "http_connections");
        Gauge::from_arc(Arc::clone(&self.0))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
