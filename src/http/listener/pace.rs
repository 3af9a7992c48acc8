//! The clock of one connection: whose move it is, until when, and the ways of noticing.
//!
//! The one thing to know: hyper shows neither its state nor its IO while it runs, so the state is
//! seen from the edges: [`Paced`](super::io::Paced) notices bytes read and writes that stall,
//! [`Turn`](super::io::Turn) a request that begins and ends, `unread` a body that is waited for.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::unread::PATIENCE;

/// A due time that never comes.
const NEVER: u64 = u64::MAX;
/// How far ahead the alarm is put when nothing is due; it is brought forward when something is.
const LATER: Duration = Duration::from_mins(1);

/// What a connection waits for and until when.
///
/// It is changed inside the connection's own task, and looked at from others to choose one that
/// makes room; what they see may be a moment old, so `Relaxed` will do. Times are milliseconds
/// after `accepted`.
///
/// Known and bounded: the start of a head that arrived in one piece with the request before it
/// counts as idle until its next byte.
pub(super) struct Pace {
    accepted: Instant,
    limits: Limits,
    phase: AtomicU8,
    /// When the phase began, where it is the client's move.
    since: AtomicU64,
    /// When the phase ends the connection.
    due: AtomicU64,
    /// When the write that is stuck ends it.
    stuck: AtomicU64,
    /// Whether the client is still sending what nobody will read.
    is_unread: AtomicBool,
    is_evicted: AtomicBool,
    /// Ends the connection: at once where it is idle, else after the request that it is at.
    pub(super) end: CancellationToken,
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

impl Pace {
    pub(super) fn new(limits: Limits) -> Self {
        let pace = Self {
            accepted: Instant::now(),
            limits,
            phase: AtomicU8::new(Phase::Silent as u8),
            since: AtomicU64::new(0),
            due: AtomicU64::new(NEVER),
            stuck: AtomicU64::new(NEVER),
            is_unread: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            end: CancellationToken::new(),
        };
        pace.wait(Phase::Silent, Some(limits.first_byte));
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

    /// Whether a request has begun to arrive and is not answered.
    pub(super) fn is_at_a_request(&self) -> bool {
        self.is(Phase::Head) || self.is(Phase::Body) || self.is(Phase::Busy) || self.is_stuck()
    }

    /// Since when it is the client's move; `None` where it is ours.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let stuck = self.stuck.load(Relaxed);
        if stuck != NEVER {
            return self.at(stuck.saturating_sub(milliseconds(self.limits.stall)));
        }
        (!self.is(Phase::Busy)).then(|| self.at(self.since.load(Relaxed)))?
    }

    /// Has the connection make room for another, at once where it is the client's move.
    pub(super) fn evict(&self) {
        self.is_evicted.store(true, Relaxed);
        self.end.cancel();
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Relaxed)
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
        } else if self.is(Phase::Lingering) {
            "linger"
        } else {
            "idle"
        }
    }

    /// Bytes arrived.
    pub(super) fn heard(&self) {
        if self.is(Phase::Silent) || self.is(Phase::Idle) {
            self.wait(Phase::Head, Some(self.limits.headers));
        }
    }

    /// A write went through, or could not because the client does not read.
    pub(super) fn wrote(&self, through: bool) {
        let was_stuck = self.is_stuck();
        if through == was_stuck {
            let due = if was_stuck { NEVER } else { self.now() + milliseconds(self.limits.stall) };
            self.stuck.store(due, Relaxed);
            if self.is(Phase::Idle) {
                self.rest();
            }
        }
    }

    /// A request begins.
    pub(super) fn work(&self) {
        self.phase.store(Phase::Busy as u8, Relaxed);
        self.due.store(NEVER, Relaxed);
    }

    /// A handler waits for the body of its request, or has got more of it.
    pub(super) fn waits_for_body(&self, waits: bool) {
        if waits && self.is(Phase::Busy) {
            self.wait(Phase::Body, None);
        } else if !waits && self.is(Phase::Body) {
            self.work();
        }
    }

    /// The client's idle time starts; not yet while it still has to read.
    pub(super) fn rest(&self) {
        self.wait(Phase::Idle, (!self.is_stuck()).then_some(self.limits.idle));
    }

    /// The last answer is given before the whole request has come.
    pub(super) fn leaves_unread(&self) {
        self.is_unread.store(true, Relaxed);
    }

    /// Nothing more is sent. Whether the client may be sending still, so that the connection has to
    /// stay open for a while: closed at once, it would be reset, and the answer could be lost.
    pub(super) fn lingers(&self) -> bool {
        if self.is(Phase::Lingering) {
            return true;
        }
        let lingers = self.is_unread.load(Relaxed) || self.is_mid_head();
        if lingers {
            self.wait(Phase::Lingering, Some(PATIENCE));
        }
        lingers
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Relaxed) == phase as u8
    }

    fn is_stuck(&self) -> bool {
        self.stuck.load(Relaxed) != NEVER
    }

    /// It is the client's move from now on, for this long at most.
    fn wait(&self, phase: Phase, limit: Option<Duration>) {
        let now = self.now();
        self.phase.store(phase as u8, Relaxed);
        self.since.store(now, Relaxed);
        self.due.store(limit.map_or(NEVER, |limit| now + milliseconds(limit)), Relaxed);
    }

    fn now(&self) -> u64 {
        milliseconds(self.accepted.elapsed())
    }

    fn at(&self, due: u64) -> Option<Instant> {
        (due != NEVER).then(|| self.accepted + Duration::from_millis(due))
    }
}

/// As good as for ever where it is more than there is room for.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER / 4).min(NEVER / 4)
}
