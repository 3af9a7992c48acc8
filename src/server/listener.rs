//! What connections are accepted from: a TCP address or a unix socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A bound socket that accepts connections.
pub trait Listener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Accepts the next connection. Returns it with its peer's address.
    ///
    /// # Errors
    /// Those of `accept(2)`.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Closes the socket and returns the connections in the kernel's backlog. The kernel would
    /// otherwise reset them, and lose the requests that may have been sent on them.
    fn into_backlog(self) -> Vec<(Self::Stream, SocketAddr)>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        Ok((without_delay(stream, peer), peer))
    }

    fn into_backlog(self) -> Vec<(TcpStream, SocketAddr)> {
        let Ok(listener) = self.into_std() else { return Vec::new() };
        let mut accepted = Vec::new();
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            accepted.extend(stream.map(|stream| (without_delay(stream, peer), peer)));
        }
        accepted
    }
}

fn without_delay(stream: TcpStream, peer: SocketAddr) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "could not set TCP_NODELAY");
    }
    stream
}

/// The address for peers of a unix socket, which have none: processes of this host.
const LOCAL_PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        Self::accept(self).await.map(|(stream, _)| (stream, LOCAL_PEER))
    }

    fn into_backlog(self) -> Vec<(UnixStream, SocketAddr)> {
        let Ok(listener) = self.into_std() else { return Vec::new() };
        let mut accepted = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
            accepted.extend(stream.map(|stream| (stream, LOCAL_PEER)));
        }
        accepted
    }
}
