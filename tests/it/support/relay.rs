//! A TCP port that leads to a Postgres over a long way: what is sent arrives later.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Where a relay leads to.
#[derive(Clone)]
pub enum RelayTarget {
    /// A port of this machine.
    Port(u16),
    /// A socket.
    Socket(PathBuf),
}

/// Relays all connections of `listener` to `goal`, each part delayed by `delay` on its way.
pub fn relay(listener: TcpListener, goal: RelayTarget, delay: Duration) {
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let goal = goal.clone();
            tokio::spawn(async move {
                // The handshake of TCP takes a round trip, too.
                sleep_until(Instant::now() + 2 * delay).await;
                let (near_in, near_out) = near.into_split();
                match goal {
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

/// Copies what comes in, each part so much later; what follows a part does not wait for it.
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
