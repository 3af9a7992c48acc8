//! A TCP relay to a Postgres that adds latency.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// The target of a relay.
#[derive(Clone)]
pub enum RelayTarget {
    /// A port of this machine.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

/// Relays all connections of `listener` to `target`, and delays data by `delay` in each direction.
pub fn relay(listener: TcpListener, target: RelayTarget, delay: Duration) {
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let target = target.clone();
            tokio::spawn(async move {
                // The TCP handshake takes a round trip, too.
                sleep_until(Instant::now() + 2 * delay).await;
                let (near_in, near_out) = near.into_split();
                match target {
                    RelayTarget::Port(port) => {
                        let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                        let (far_in, far_out) = far.into_split();
                        tokio::join!(
                            copy_delayed(near_in, far_out, delay),
                            copy_delayed(far_in, near_out, delay)
                        );
                    }
                    RelayTarget::Socket(path) => {
                        let far = UnixStream::connect(path).await.unwrap();
                        let (far_in, far_out) = far.into_split();
                        tokio::join!(
                            copy_delayed(near_in, far_out, delay),
                            copy_delayed(far_in, near_out, delay)
                        );
                    }
                }
            });
        }
    });
}

/// Copies each chunk `delay` after it was read, without adding up the delays of earlier chunks.
async fn copy_delayed(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let _ = sender.send((Instant::now() + delay, buffer[..read].to_vec()));
        }
    });
    while let Some((due, part)) = receiver.recv().await {
        sleep_until(due).await;
        if to.write_all(&part).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
