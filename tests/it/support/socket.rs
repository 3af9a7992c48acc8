//! A test server on a real socket, and requests that are sent byte for byte.

use std::net::SocketAddr;
use std::time::Duration;

use tenantry::server::{ConnectionLimits, ShutdownSignal, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::TestApp;

/// How long a test waits for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that accepts connections until it is dropped.
pub struct SocketServer {
    /// The address on which it listens.
    pub address: SocketAddr,
    stop: ShutdownSignal,
}

impl SocketServer {
    /// Starts accepting connections for the server of a test.
    pub fn start(app: &TestApp) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Smaller than a body, so that a client is still sending it when the response arrives.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(128).unwrap();
        let address = listener.local_addr().unwrap();
        let (router, stop) = (tenantry::http::router(&app.app), ShutdownSignal::default());
        tokio::spawn(serve(listener, router, ConnectionLimits::default(), stop.clone()));
        Self { address, stop }
    }

    /// Sends a request byte for byte; returns the whole response.
    pub async fn send_raw(&self, request: &str) -> String {
        send_raw(TcpStream::connect(self.address).await.unwrap(), request.as_bytes()).await
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        self.stop.close.cancel();
    }
}

/// Sends all of a request before it reads; returns everything up to the end of the connection.
pub async fn send_raw(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    let mut response = Vec::new();
    let exchange = async {
        // The server may close the connection while the request is sent, which is no failure.
        let _closed = stream.write_all(request).await;
        let _reset = stream.read_to_end(&mut response).await;
    };
    timeout(RESPONSE_TIMEOUT, exchange).await.unwrap();
    String::from_utf8(response).unwrap()
}

/// The status of a response; 0 if there is none.
pub fn parse_status(response: &str) -> u16 {
    response.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
}
