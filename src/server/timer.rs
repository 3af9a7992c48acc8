//! The clock of one connection: whose move it is, until when, and the ways of noticing.
//!
//! The one thing to know: hyper shows neither its state nor its IO while it runs, so the state is
//! seen from the edges: a [`TimedStream`](super::io::TimedStream) notices bytes read and writes
//! that stall, an [`ActiveRequest`](super::io::ActiveRequest) a request that begins and ends, and
//! `body_drain` a body that is waited for.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ConnectionLimits;

/// How long draining the rest of a body may take.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// A due time that never comes.
const NEVER: u64 = u64::MAX;
/// How far ahead the alarm is put when nothing is due; it is brought forward when something is.
const MAX_ALARM_DELAY: Duration = Duration::from_mins(1);

/// What a connection waits for and until when.
///
/// It is changed inside the connection's own task, and looked at from others to choose one that
/// makes room; what they see may be a moment old, so `Relaxed` will do. Times are milliseconds
/// after `accepted`.
///
/// Known and bounded: the start of a head that arrived in one piece with the request before it
/// counts as idle until its next byte.
pub(super) struct ConnectionTimer {
    accepted: Instant,
    limits: ConnectionLimits,
    phase: AtomicU8,
    /// When the phase began, where it is the client's move.
    phase_started: AtomicU64,
    /// When the phase ends the connection.
    deadline: AtomicU64,
    /// When the write that is stuck ends it.
    stall_deadline: AtomicU64,
    /// Whether the client is still sending what nobody will read.
    is_unread: AtomicBool,
    is_evicted: AtomicBool,
    /// Ends the connection: at once where it is idle, else after the request that it is at.
    pub(super) shutdown: CancellationToken,
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
    /// The client's, which is sending the body of a request.
    Body,
    /// The client's, which has its answer.
    Idle,
    /// The client's, which has its last answer and may not have read it.
    Lingering,
}

impl ConnectionTimer {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        let pace = Self {
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
        pace.enter_phase(Phase::Silent, Some(limits.first_byte));
        pace
    }

    /// The timer to hand to [`ConnectionTimer::poll_deadline`].
    pub(super) fn alarm(&self) -> Sleep {
        sleep_until(
            self.to_instant(self.deadline.load(Relaxed))
                .unwrap_or_else(|| self.accepted + MAX_ALARM_DELAY),
        )
    }

    /// Whether a head has begun to arrive and has not ended.
    pub(super) fn is_reading_head(&self) -> bool {
        self.is(Phase::Head)
    }

    /// Whether a request has begun to arrive and is not answered.
    pub(super) fn has_active_request(&self) -> bool {
        self.is(Phase::Head)
            || self.is(Phase::Body)
            || self.is(Phase::Busy)
            || self.is_write_stalled()
    }

    /// Since when it is the client's move; `None` where it is ours.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let stuck = self.stall_deadline.load(Relaxed);
        if stuck != NEVER {
            return self.to_instant(stuck.saturating_sub(milliseconds(self.limits.stall)));
        }
        (!self.is(Phase::Busy)).then(|| self.to_instant(self.phase_started.load(Relaxed)))?
    }

    /// Has the connection make room for another, at once where it is the client's move.
    pub(super) fn evict(&self) {
        self.is_evicted.store(true, Relaxed);
        self.shutdown.cancel();
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Relaxed)
    }

    /// Ready, with the name of the limit, once the connection has to be cut.
    ///
    /// To be asked after every poll of the connection. The alarm is brought forward at once but put
    /// back only when it rings, so a connection in steady use never touches the timer.
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

    /// Bytes arrived.
    pub(super) fn on_read(&self) {
        if self.is(Phase::Silent) || self.is(Phase::Idle) {
            self.enter_phase(Phase::Head, Some(self.limits.headers));
        }
    }

    /// A write went through, or could not because the client does not read.
    pub(super) fn on_write(&self, through: bool) {
        let was_stuck = self.is_write_stalled();
        if through == was_stuck {
            let due = if was_stuck { NEVER } else { self.now() + milliseconds(self.limits.stall) };
            self.stall_deadline.store(due, Relaxed);
            if self.is(Phase::Idle) {
                self.start_idle();
            }
        }
    }

    /// A request begins.
    pub(super) fn start_request(&self) {
        self.phase.store(Phase::Busy as u8, Relaxed);
        self.deadline.store(NEVER, Relaxed);
    }

    /// A handler waits for the body of its request, or has got more of it.
    pub(super) fn set_waiting_for_body(&self, waits: bool) {
        if waits && self.is(Phase::Busy) {
            self.enter_phase(Phase::Body, None);
        } else if !waits && self.is(Phase::Body) {
            self.start_request();
        }
    }

    /// The client's idle time starts; not yet while it still has to read.
    pub(super) fn start_idle(&self) {
        self.enter_phase(Phase::Idle, (!self.is_write_stalled()).then_some(self.limits.idle));
    }

    /// The last answer is given before the whole request has come.
    pub(super) fn set_unread(&self) {
        self.is_unread.store(true, Relaxed);
    }

    /// Nothing more is sent. Whether the client may be sending still, so that the connection has to
    /// stay open for a while: closed at once, it would be reset, and the answer could be lost.
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

    /// It is the client's move from now on, for this long at most.
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

/// As good as for ever where it is more than there is room for.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER / 4).min(NEVER / 4)
}
