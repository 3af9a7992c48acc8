//! Rejected requests, as their organization can list them.

use chrono::{DateTime, Utc};

use crate::model::ids::RejectionId;

/// The number of rejections that are kept for each organization: the newest.
pub const MAX_REJECTIONS_PER_ORGANIZATION: i64 = 1_000;

/// A rejected request of a known caller.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Its id. Ids sort by time.
    pub id: RejectionId,
    /// The display id of the key that the request presented; `None` for a session or an OAuth
    /// token.
    pub key_display_id: Option<String>,
    /// The request's method.
    pub method: String,
    /// The route that its path matched, not the path itself, which could contain anything, even a
    /// key that was pasted by mistake. For a check by a verifier: what the verifier states about
    /// its client's request, without segments that may contain a credential.
    pub path: String,
    /// The HTTP status of the response; for a check by a verifier, that for the verifier's client.
    pub status: u16,
    /// The error code; for a check by a verifier, the code of the verdict.
    pub code: String,
    /// The reason: what was missing or exceeded.
    pub detail: String,
    /// The client's IP address, if known.
    pub address: Option<String>,
    /// The id of the request.
    pub request_id: String,
    /// When the request was received.
    pub created_at: DateTime<Utc>,
}
