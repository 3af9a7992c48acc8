//! The kinds of routes: what their requests cost, which limits they count against, and how
//! middleware treats them.

use std::time::Duration;

use axum::http::Method;

use crate::app::in_flight::Cost;

/// The cost of a route's requests, and the limits that they count against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct RouteKind {
    /// The order in which requests are shed under load.
    pub cost: Cost,
    /// Whether keys and tokens may call the route after their organization has used up its monthly
    /// quota. Such routes show usage or rejections, or revoke keys.
    pub is_quota_exempt: bool,
    /// Whether it counts against the rate limit of changes. Deleting, revoking and signing out do
    /// not, because the changes of a colleague must not delay the revocation of a credential.
    pub is_change: bool,
    /// Whether a proxy calls it with a copy of its client's request: then no body is awaited, and
    /// the response has a status that the proxy understands.
    pub is_for_proxies: bool,
    /// Whether scripts of every origin may read the responses, without a cookie.
    pub is_open_to_all_origins: bool,
    /// How long a request may wait for something to happen, in addition to the deadline of every
    /// request. It has no permit meanwhile.
    pub max_wait: Duration,
}

impl RouteKind {
    /// Checks a credential and returns its owner.
    pub const CHECK: Self = Self::new(Cost::Check, false);
    /// Checks the credential of a proxy's client.
    pub const PROXY_CHECK: Self = Self { is_for_proxies: true, ..Self::CHECK };
    /// Reads.
    pub const READ: Self = Self::new(Cost::Read, false);
    /// Reads, with a method that is not safe.
    pub const READ_BY_POST: Self = Self::new(Cost::Write, false);
    /// Creates or updates.
    pub const WRITE: Self = Self::new(Cost::Write, true);
    /// Deletes, revokes or signs out.
    pub const DELETE: Self = Self::new(Cost::Write, false);
    /// Hashes a password or queues a mail.
    pub const HASH_OR_MAIL: Self = Self::new(Cost::Hashing, true);
    /// Deletes, after hashing a password.
    pub const HASH_AND_DELETE: Self = Self::new(Cost::Hashing, false);

    const fn new(cost: Cost, is_change: bool) -> Self {
        Self {
            cost,
            is_quota_exempt: false,
            is_change,
            is_for_proxies: false,
            is_open_to_all_origins: false,
            max_wait: Duration::ZERO,
        }
    }

    /// Returns the same kind, for responses that scripts of every origin may read.
    #[must_use]
    pub const fn open_to_all_origins(self) -> Self {
        Self { is_open_to_all_origins: true, ..self }
    }

    /// Returns the same kind, exempt from the monthly quota.
    #[must_use]
    pub const fn quota_exempt(self) -> Self {
        Self { is_quota_exempt: true, ..self }
    }

    /// Returns the same kind, for requests that may wait.
    #[must_use]
    pub const fn waiting(self, max_wait: Duration) -> Self {
        Self { max_wait, ..self }
    }

    /// Returns the kind of a request that matches no declared route.
    #[must_use]
    pub fn of_method(method: &Method) -> Self {
        if method.is_safe() { Self::READ } else { Self::WRITE }
    }
}
