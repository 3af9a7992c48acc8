//! Drains the rest of a request's body after the response.
//!
//! The one thing to know: a connection that is closed with unread bytes is reset, and the reset may
//! overtake the response. A proxy then gets no response, reports 502 and considers the server dead.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::timer::{ConnectionTimer, DRAIN_TIMEOUT};

/// The maximum number of bytes that are drained of a body.
pub(super) const MAX_DRAIN_BYTES: u64 = 1024 * 1024;

/// Where [`TrackedBody`] leaves a body that its handler did not read to the end.
type Slot = Arc<Mutex<Option<UnreadBody>>>;

/// A body that was not read to the end.
struct UnreadBody {
    body: Incoming,
    /// Whether the handler has polled it. If so, a client that expects `100 Continue` was sent it.
    was_polled: bool,
}

/// Gives access to what the handler left unread of a body; `None` if the request has no body.
pub(super) struct BodyTracker(Option<(Slot, Arc<ConnectionTimer>)>);

/// Wraps a body for a handler, such that the unread rest can be drained afterwards.
pub(super) fn track_body(body: Incoming, timer: &Arc<ConnectionTimer>) -> (Body, BodyTracker) {
    if body.is_end_stream() {
        return (Body::empty(), BodyTracker(None));
    }
    let slot = Slot::default();
    let tracked = TrackedBody {
        body: Some(body),
        was_polled: false,
        timer: Arc::clone(timer),
        slot: Arc::clone(&slot),
    };
    (Body::new(tracked), BodyTracker(Some((slot, Arc::clone(timer)))))
}

impl BodyTracker {
    /// Returns whether the handler read the body to its end. Does not wait for the rest.
    pub(super) fn has_ended(&self) -> bool {
        let unread = |slot: &Slot| slot.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.0.as_ref().is_none_or(|(slot, _)| !unread(slot))
    }

    /// Drains the rest of the body, up to `MAX_DRAIN_BYTES` and for up to `DRAIN_TIMEOUT`. Returns
    /// whether the body has ended.
    pub(super) async fn drain_rest(self, expects_continue: bool) -> bool {
        let Some((slot, timer)) = self.0 else { return true };
        let remaining = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        match remaining {
            None => true,
            // Polling the body now would make the client send it.
            Some(remaining) if expects_continue && !remaining.was_polled => false,
            Some(remaining) => {
                timer.set_waiting_for_body(true);
                let has_ended = drain(remaining.body).await;
                timer.set_waiting_for_body(false);
                has_ended
            }
        }
    }
}

async fn drain(mut body: Incoming) -> bool {
    let mut remaining = MAX_DRAIN_BYTES;
    if body.size_hint().lower() > remaining {
        return false;
    }
    let draining = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            let Some(rest) = remaining.checked_sub(length) else { return false };
            remaining = rest;
        }
        true
    };
    timeout(DRAIN_TIMEOUT, draining).await.unwrap_or(false)
}

/// A body that a handler reads.
struct TrackedBody {
    /// `None` once it has ended.
    body: Option<Incoming>,
    was_polled: bool,
    timer: Arc<ConnectionTimer>,
    slot: Slot,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        self.was_polled = true;
        self.timer.set_waiting_for_body(frame.is_pending());
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        self.timer.set_waiting_for_body(false);
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        let unread = UnreadBody { body, was_polled: self.was_polled };
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(unread);
    }
}
