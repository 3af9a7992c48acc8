//! The server of a test behind a real socket, and requests that say exactly what a test wants.

use std::net::SocketAddr;
use std::time::Duration;

use tenantry::server::{ConnectionLimits, ShutdownSignal, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::TestApp;

/// How long an answer may take before a test gives up on it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that takes connections until it is dropped.
pub struct SocketServer {
    /// Where it listens.
    pub address: SocketAddr,
    stop: ShutdownSignal,
}

impl SocketServer {
    /// Has the server of a test take connections.
    pub fn start(app: &TestApp) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Less than a body: whoever sends one is still sending when the answer comes.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(128).unwrap();
        let address = listener.local_addr().unwrap();
        let (router, stop) = (tenantry::http::router(&app.app), ShutdownSignal::default());
        tokio::spawn(serve(listener, router, ConnectionLimits::default(), stop.clone()));
        Self { address, stop }
    }

    /// Sends a request as it stands; the whole answer.
    pub async fn send_raw(&self, request: &str) -> String {
        send_raw(TcpStream::connect(self.address).await.unwrap(), request.as_bytes()).await
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        self.stop.close.cancel();
    }
}

/// Sends all of a request before it reads; everything up to the end of the connection.
pub async fn send_raw(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    let mut response = Vec::new();
    let asking = async {
        // Who is refused may be cut off while sending; what they read tells.
        let _cut_off = stream.write_all(request).await;
        let _reset = stream.read_to_end(&mut response).await;
    };
    timeout(RESPONSE_TIMEOUT, asking).await.unwrap();
    String::from_utf8(response).unwrap()
}

/// The status of an answer; 0 where there is none.
pub fn parse_status(response: &str) -> u16 {
    response.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
}
