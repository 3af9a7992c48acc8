//! The timer of one connection: which phase it is in, and when that phase must end.
//!
//! The one thing to know: hyper exposes neither its state nor its IO while it runs, so the phase is
//! derived from the outside: a [`TimedStream`](super::io::TimedStream) reports reads and stalled
//! writes, an [`ActiveRequest`](super::io::ActiveRequest) the start and the end of a request, and
//! `body_drain` the wait for a body.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ConnectionLimits;

/// How long draining the rest of a body may take.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// The value of a deadline that is not set.
const NEVER: u64 = u64::MAX;
/// How far ahead the alarm is set while no deadline is set. A deadline sets it earlier.
const MAX_ALARM_DELAY: Duration = Duration::from_mins(1);

/// What a connection waits for, and until when.
///
/// Only the connection's own task changes it. Other tasks read it to choose a connection to evict;
/// they may see a slightly outdated state, so `Relaxed` suffices. Times are milliseconds after
/// `accepted`.
///
/// Known inaccuracy: if the start of a head arrives in the same read as the previous request, the
/// connection counts as idle until the next byte.
pub(super) struct ConnectionTimer {
    accepted: Instant,
    limits: ConnectionLimits,
    phase: AtomicU8,
    /// When the phase began, if it waits for the client.
    phase_started: AtomicU64,
    /// When the connection is cut because the phase has not ended.
    deadline: AtomicU64,
    /// When the connection is cut because a write is stalled.
    stall_deadline: AtomicU64,
    /// Whether the client may still be sending a body that will not be read.
    is_unread: AtomicBool,
    is_evicted: AtomicBool,
    /// Ends the connection: immediately if it is idle, otherwise after the current request.
    pub(super) shutdown: CancellationToken,
}

/// The phase of a connection.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Phase {
    /// Waits for the first byte from the client.
    Silent,
    /// Waits for the client to send the rest of a request head.
    Head,
    /// Handles a request: from the end of its head until the whole response is passed to hyper.
    Busy,
    /// Waits for the client to send the body of a request.
    Body,
    /// Waits for the next request after a response.
    Idle,
    /// Waits for the client to read the last response and close the connection.
    Lingering,
}

impl ConnectionTimer {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        let timer = Self {
            accepted: Instant::now(),
            limits,
            phase: AtomicU8::new(Phase::Silent as u8),
            phase_started: AtomicU64::new(0),
            deadline: AtomicU64::new(NEVER),
            stall_deadline: AtomicU64::new(NEVER),
            is_unread: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            shutdown: CancellationToken::new(),
        };
        timer.enter_phase(Phase::Silent, Some(limits.first_byte));
        timer
    }

    /// Returns the alarm to pass to [`ConnectionTimer::poll_deadline`].
    pub(super) fn alarm(&self) -> Sleep {
        sleep_until(
            self.to_instant(self.deadline.load(Relaxed))
                .unwrap_or_else(|| self.accepted + MAX_ALARM_DELAY),
        )
    }

    /// Returns whether a head has arrived in part.
    pub(super) fn is_reading_head(&self) -> bool {
        self.is(Phase::Head)
    }

    /// Returns whether a request has arrived at least in part, and its response is not sent.
    pub(super) fn has_active_request(&self) -> bool {
        self.is(Phase::Head)
            || self.is(Phase::Body)
            || self.is(Phase::Busy)
            || self.is_write_stalled()
    }

    /// Returns since when the connection waits for the client; `None` while the server handles a
    /// request.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let stalled = self.stall_deadline.load(Relaxed);
        if stalled != NEVER {
            return self.to_instant(stalled.saturating_sub(milliseconds(self.limits.stall)));
        }
        (!self.is(Phase::Busy)).then(|| self.to_instant(self.phase_started.load(Relaxed)))?
    }

    /// Ends the connection to free capacity: immediately if it waits for the client, otherwise
    /// after the current request.
    pub(super) fn evict(&self) {
        self.is_evicted.store(true, Relaxed);
        self.shutdown.cancel();
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Relaxed)
    }

    /// Returns `Ready` with the name of the exceeded limit once the connection must be cut.
    ///
    /// Must be called after every poll of the connection. The alarm is set earlier immediately,
    /// but later only when it fires, so a connection in steady use never touches the timer of the
    /// runtime.
    pub(super) fn poll_deadline(
        &self,
        mut alarm: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<&'static str> {
        let next =
            self.to_instant(self.deadline.load(Relaxed).min(self.stall_deadline.load(Relaxed)));
        if let Some(at) = next.filter(|at| *at < alarm.deadline()) {
            alarm.as_mut().reset(at);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            let now = Instant::now();
            match next {
                Some(at) if at <= now => return Poll::Ready(self.exceeded_limit()),
                Some(at) => alarm.as_mut().reset(at),
                None => alarm.as_mut().reset(now + MAX_ALARM_DELAY),
            }
        }
    }

    fn exceeded_limit(&self) -> &'static str {
        if self.stall_deadline.load(Relaxed) < self.deadline.load(Relaxed) {
            "stall"
        } else if self.is(Phase::Silent) {
            "first_byte"
        } else if self.is(Phase::Head) {
            "headers"
        } else if self.is(Phase::Lingering) {
            "linger"
        } else {
            "idle"
        }
    }

    /// Records that bytes arrived.
    pub(super) fn on_read(&self) {
        if self.is(Phase::Silent) || self.is(Phase::Idle) {
            self.enter_phase(Phase::Head, Some(self.limits.headers));
        }
    }

    /// Records whether a write went through, or is stalled because the client does not read.
    pub(super) fn on_write(&self, through: bool) {
        let was_stalled = self.is_write_stalled();
        if through == was_stalled {
            let limit = milliseconds(self.limits.stall);
            let deadline = if was_stalled { NEVER } else { self.now() + limit };
            self.stall_deadline.store(deadline, Relaxed);
            if self.is(Phase::Idle) {
                self.start_idle();
            }
        }
    }

    /// Records that a request starts.
    pub(super) fn start_request(&self) {
        self.phase.store(Phase::Busy as u8, Relaxed);
        self.deadline.store(NEVER, Relaxed);
    }

    /// Records whether a handler waits for the body of its request.
    pub(super) fn set_waiting_for_body(&self, waits: bool) {
        if waits && self.is(Phase::Busy) {
            self.enter_phase(Phase::Body, None);
        } else if !waits && self.is(Phase::Body) {
            self.start_request();
        }
    }

    /// Records that the connection is idle. Its idle time starts when no write is stalled.
    pub(super) fn start_idle(&self) {
        self.enter_phase(Phase::Idle, (!self.is_write_stalled()).then_some(self.limits.idle));
    }

    /// Records that the last response is sent before the whole request was received.
    pub(super) fn set_unread(&self) {
        self.is_unread.store(true, Relaxed);
    }

    /// Returns whether the connection must stay open for a while after the last response, because
    /// the client may still be sending: closing it immediately would reset it, and the response
    /// could be lost.
    pub(super) fn should_linger(&self) -> bool {
        if self.is(Phase::Lingering) {
            return true;
        }
        let lingers = self.is_unread.load(Relaxed) || self.is_reading_head();
        if lingers {
            self.enter_phase(Phase::Lingering, Some(DRAIN_TIMEOUT));
        }
        lingers
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Relaxed) == phase as u8
    }

    fn is_write_stalled(&self) -> bool {
        self.stall_deadline.load(Relaxed) != NEVER
    }

    /// Enters a phase that waits for the client, at most for `limit`.
    fn enter_phase(&self, phase: Phase, limit: Option<Duration>) {
        let now = self.now();
        self.phase.store(phase as u8, Relaxed);
        self.phase_started.store(now, Relaxed);
        self.deadline.store(limit.map_or(NEVER, |limit| now + milliseconds(limit)), Relaxed);
    }

    fn now(&self) -> u64 {
        milliseconds(self.accepted.elapsed())
    }

    fn to_instant(&self, due: u64) -> Option<Instant> {
        (due != NEVER).then(|| self.accepted + Duration::from_millis(due))
    }
}

/// Converts a duration to milliseconds, capped far below [`NEVER`].
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER / 4).min(NEVER / 4)
}
