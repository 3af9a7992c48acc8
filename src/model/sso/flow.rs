//! A sign-in between its start and the provider's response.

use std::time::Duration;

use crate::model::ids::{ConnectionId, OrganizationId};
use crate::model::secret::Digest;

/// How long the sign-in at the provider may take.
pub const FLOW_LIFETIME: Duration = Duration::from_mins(10);

/// A sign-in to insert.
pub struct NewSignInFlow<'a> {
    /// The digest of its state.
    pub digest: Digest,
    /// The pepper from which the code verifier and the nonce are derived.
    pub pepper_id: &'a str,
    /// The connection, and its organization.
    pub connection: (ConnectionId, OrganizationId),
    /// The digest of the cookie of the browser that began it.
    pub browser: Digest,
    /// Where the browser is sent in the end.
    pub callback_url: Option<&'a str>,
}

/// A sign-in that the provider has answered.
pub struct SignInFlow {
    /// The pepper from which the code verifier and the nonce are derived.
    pub pepper_id: String,
    /// Where the browser is sent in the end.
    pub callback_url: Option<String>,
}
