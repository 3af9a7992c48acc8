//! A rejected request, as its organization sees it.

use chrono::{DateTime, Utc};

use crate::model::ids::RejectionId;

/// How many of an organization's rejections are kept: the newest.
pub const RETAINED_PER_ORGANIZATION: i64 = 1_000;

/// A rejected request of a known caller.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Its id, later than those before it.
    pub id: RejectionId,
    /// The display id of the key that the request presented; `None` for a session.
    pub key_display_id: Option<String>,
    /// The request's method.
    pub method: String,
    /// The pattern that its path matched, never the path itself: that could be anything, a key
    /// pasted by mistake included.
    pub path: String,
    /// What it was answered with.
    pub status: u16,
    /// The word for the kind of failure.
    pub code: String,
    /// Why: what was missing or exceeded.
    pub detail: String,
    /// Where the request came from.
    pub address: Option<String>,
    /// The request.
    pub request_id: String,
    /// When it came.
    pub created_at: DateTime<Utc>,
}
