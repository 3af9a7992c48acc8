//! The clock of one connection: whose move it is, until when, and the ways of noticing.
//!
//! The one thing to know: hyper shows neither its state nor its IO while it runs, so the state is
//! seen from the edges: [`Paced`] notices bytes read and writes that stall, [`Turn`] a request
//! that begins and, through [`Answer`], the answer that ends it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;

/// A due time that never comes.
const NEVER: u64 = u64::MAX;
/// How far ahead the alarm is put when nothing is due; it is brought forward when something is.
const LATER: Duration = Duration::from_mins(1);

/// What a connection waits for and until when.
///
/// All of it happens inside the connection's own task; the atomics are there because what shares
/// this must be `Send`, so `Relaxed` will do. Times are milliseconds after `accepted`.
///
/// Known and bounded: the start of a head that arrived in one piece with the request before it
/// counts as idle until its next byte.
pub(super) struct Pace {
    accepted: Instant,
    limits: Limits,
    phase: AtomicU8,
    /// When the phase ends the connection.
    due: AtomicU64,
    /// When the write that is stuck ends it.
    stuck: AtomicU64,
}

/// Whose move it is.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Phase {
    /// The client's, which has never sent a byte.
    Silent,
    /// The client's, which is sending the head of a request.
    Head,
    /// Ours: from the end of a head until the whole answer is handed to hyper.
    Busy,
    /// The client's, which has its answer.
    Idle,
}

impl Pace {
    pub(super) fn new(limits: Limits) -> Self {
        let pace = Self {
            accepted: Instant::now(),
            limits,
            phase: AtomicU8::new(Phase::Silent as u8),
            due: AtomicU64::new(NEVER),
            stuck: AtomicU64::new(NEVER),
        };
        pace.enter(Phase::Silent, pace.after(limits.first_byte));
        pace
    }

    /// The timer to hand to [`Pace::poll_overdue`].
    pub(super) fn alarm(&self) -> Sleep {
        sleep_until(self.at(self.due.load(Relaxed)).unwrap_or_else(|| self.accepted + LATER))
    }

    /// Whether a head has begun to arrive and has not ended.
    pub(super) fn is_mid_head(&self) -> bool {
        self.is(Phase::Head)
    }

    /// Ready, with the name of the limit, once the connection has to be cut.
    ///
    /// To be asked after every poll of the connection. The alarm is brought forward at once but put
    /// back only when it rings, so a connection in steady use never touches the timer.
    pub(super) fn poll_overdue(
        &self,
        mut alarm: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<&'static str> {
        let next = self.at(self.due.load(Relaxed).min(self.stuck.load(Relaxed)));
        if let Some(at) = next.filter(|at| *at < alarm.deadline()) {
            alarm.as_mut().reset(at);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            let now = Instant::now();
            match next {
                Some(at) if at <= now => return Poll::Ready(self.overdue()),
                Some(at) => alarm.as_mut().reset(at),
                None => alarm.as_mut().reset(now + LATER),
            }
        }
    }

    fn overdue(&self) -> &'static str {
        if self.stuck.load(Relaxed) < self.due.load(Relaxed) {
            "stall"
        } else if self.is(Phase::Silent) {
            "first_byte"
        } else if self.is(Phase::Head) {
            "headers"
        } else {
            "idle"
        }
    }

    /// Bytes arrived.
    fn heard(&self) {
        if self.is(Phase::Silent) || self.is(Phase::Idle) {
            self.enter(Phase::Head, self.after(self.limits.headers));
        }
    }

    /// A write went through, or could not because the client does not read.
    fn wrote(&self, through: bool) {
        let was_stuck = self.is_stuck();
        if through == was_stuck {
            let due = if was_stuck { NEVER } else { self.after(self.limits.stall) };
            self.stuck.store(due, Relaxed);
            if self.is(Phase::Idle) {
                self.rest();
            }
        }
    }

    /// The client's idle time starts; not yet while it still has to read.
    fn rest(&self) {
        let due = if self.is_stuck() { NEVER } else { self.after(self.limits.idle) };
        self.enter(Phase::Idle, due);
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Relaxed) == phase as u8
    }

    fn is_stuck(&self) -> bool {
        self.stuck.load(Relaxed) != NEVER
    }

    fn enter(&self, phase: Phase, due: u64) {
        self.phase.store(phase as u8, Relaxed);
        self.due.store(due, Relaxed);
    }

    fn after(&self, limit: Duration) -> u64 {
        let due = self.accepted.elapsed().saturating_add(limit);
        u64::try_from(due.as_millis()).unwrap_or(NEVER)
    }

    fn at(&self, due: u64) -> Option<Instant> {
        (due != NEVER).then(|| self.accepted + Duration::from_millis(due))
    }
}

/// The connection's socket, telling its [`Pace`] what passes.
pub(super) struct Paced {
    pub(super) stream: TcpStream,
    pub(super) pace: Arc<Pace>,
}

impl Paced {
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pace.wrote(written.is_ready());
        written
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pace.heard();
        }
        read
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// One request being served; the client is idle when it is dropped.
pub(super) struct Turn(Arc<Pace>);

impl Turn {
    pub(super) fn begin(pace: &Arc<Pace>) -> Self {
        pace.enter(Phase::Busy, NEVER);
        Self(Arc::clone(pace))
    }

    pub(super) fn last_through(self, body: Body) -> Answer {
        Answer { body, _turn: self }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// An answer's body, which holds its turn until hyper has all of it and drops it.
pub(super) struct Answer {
    body: Body,
    _turn: Turn,
}

impl HttpBody for Answer {
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
