//! Wraps the socket and the response bodies that hyper handles, to report the progress of a
//! connection to its [`ConnectionTimer`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body_drain::MAX_DRAIN_BYTES;
use super::timer::ConnectionTimer;

/// The connection's socket. It reports reads and writes to its [`ConnectionTimer`].
pub(super) struct TimedStream<S> {
    stream: S,
    timer: Arc<ConnectionTimer>,
    /// How many bytes were discarded after the last response.
    discarded: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TimedStream<S> {
    pub(super) fn new(stream: S, timer: &Arc<ConnectionTimer>) -> Self {
        Self { stream, timer: Arc::clone(timer), discarded: 0 }
    }

    fn record_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.timer.on_write(written.is_ready());
        written
    }

    /// Reads and discards bytes, up to [`MAX_DRAIN_BYTES`], until the client closes the connection.
    /// If it does not, the timer cuts the connection.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = [0; 4096];
        while self.discarded < MAX_DRAIN_BYTES {
            let mut read = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.discarded += read.filled().len() as u64;
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.timer.on_read();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.record_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.record_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if self.timer.should_linger() { self.poll_linger(cx) } else { Poll::Ready(Ok(())) }
    }
}

/// A request being served. When it is dropped, the connection becomes idle.
pub(super) struct ActiveRequest(Arc<ConnectionTimer>);

impl ActiveRequest {
    pub(super) fn start(timer: &Arc<ConnectionTimer>) -> Self {
        timer.start_request();
        Self(Arc::clone(timer))
    }

    pub(super) fn attach_to(self, body: Body) -> ResponseBody {
        ResponseBody { body, _request: self }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.start_idle();
    }
}

/// The body of a response. It keeps its request active until hyper has read all of it and drops it.
pub(super) struct ResponseBody {
    body: Body,
    _request: ActiveRequest,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
