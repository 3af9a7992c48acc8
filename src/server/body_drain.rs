//! What is left of a request's body once the request is answered.
//!
//! The one thing to know: a connection that is closed with bytes unread is reset, and a reset may
//! overtake the answer. A proxy then has no answer, says 502, and takes the server for dead.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::timer::{ConnectionTimer, DRAIN_TIMEOUT};

/// How much of a body is drained, in bytes (contract §1, *Proxies*).
pub(super) const MAX_DRAIN_BYTES: u64 = 1024 * 1024;

/// Where a body is put that its handler did not read to its end.
type Slot = Arc<Mutex<Option<UnreadBody>>>;

/// A body that was not read to its end.
struct UnreadBody {
    body: Incoming,
    /// Whether the handler has asked for any of it; a client that expects `100 Continue` was then
    /// sent it.
    was_asked_for: bool,
}

/// What has become of a body that was lent to a handler; `None` where there was none.
pub(super) struct BodyTracker(Option<(Slot, Arc<ConnectionTimer>)>);

/// Hands a body out in a way that what is left of it comes back.
pub(super) fn track_body(body: Incoming, pace: &Arc<ConnectionTimer>) -> (Body, BodyTracker) {
    if body.is_end_stream() {
        return (Body::empty(), BodyTracker(None));
    }
    let slot = Slot::default();
    let lent = TrackedBody {
        body: Some(body),
        was_asked_for: false,
        pace: Arc::clone(pace),
        slot: Arc::clone(&slot),
    };
    (Body::new(lent), BodyTracker(Some((slot, Arc::clone(pace)))))
}

impl BodyTracker {
    /// Drains what is left of the body, within bounds; whether nothing is left to come.
    pub(super) async fn drain_rest(self, expects_continue: bool) -> bool {
        let Some((slot, pace)) = self.0 else { return true };
        let left = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        match left {
            None => true,
            // To ask for the body now would make the client send it.
            Some(left) if expects_continue && !left.was_asked_for => false,
            Some(left) => {
                pace.set_waiting_for_body(true);
                let has_all = drain(left.body).await;
                pace.set_waiting_for_body(false);
                has_all
            }
        }
    }
}

async fn drain(mut body: Incoming) -> bool {
    let mut left = MAX_DRAIN_BYTES;
    if body.size_hint().lower() > left {
        return false;
    }
    let draining = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            let Some(rest) = left.checked_sub(length) else { return false };
            left = rest;
        }
        true
    };
    timeout(DRAIN_TIMEOUT, draining).await.unwrap_or(false)
}

/// A body in the hands of a handler.
struct TrackedBody {
    /// `None` once it has ended.
    body: Option<Incoming>,
    was_asked_for: bool,
    pace: Arc<ConnectionTimer>,
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
        self.was_asked_for = true;
        self.pace.set_waiting_for_body(frame.is_pending());
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
        self.pace.set_waiting_for_body(false);
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        let unread = UnreadBody { body, was_asked_for: self.was_asked_for };
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(unread);
    }
}
