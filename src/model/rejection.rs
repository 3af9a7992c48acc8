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
    /// The display id of the key or personal access token; `None` for other credentials.
    pub key_display_id: Option<String>,
    /// The request's method. For a check by a verifier: the method of the client's request if a
    /// proxy states it, or else the check's own method or `-`.
    pub method: String,
    /// The route that its path matched, not the path itself, which could contain anything, even a
    /// key that was pasted by mistake. For a check by a verifier: the `resource` of the check, or
    /// else the path of the client's request if a proxy states it, or else the check's own route or
    /// `-`; without segments that may contain a credential.
    pub path: String,
    /// The HTTP status of the response; for a check by a verifier, the status that the verifier's
    /// client gets.
    pub status: u16,
    /// The error code; for a check by a verifier, the code of the verdict.
    pub code: String,
    /// The message of the error, with the reason for an invalid key; for a check by a verifier, the
    /// verifier's name and the missing scopes.
    pub detail: String,
    /// The client's IP address, if known.
    pub address: Option<String>,
    /// The id of the request.
    pub request_id: String,
    /// When the request was received.
    pub created_at: DateTime<Utc>,
}
