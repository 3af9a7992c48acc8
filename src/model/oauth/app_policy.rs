//! Which clients the members of an organization may grant access to.

use uuid::Uuid;

use crate::model::oauth::AppPolicyMode;

/// The maximum number of allowed clients, and of blocked ones.
pub const MAX_RULES: usize = 100;

/// The policy of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPolicy {
    /// Which clients are permitted.
    pub mode: AppPolicyMode,
    /// The public ids of the clients that [`AppPolicyMode::Approved`] permits, sorted.
    pub allowed: Vec<String>,
    /// The public ids of the clients that are never permitted, sorted.
    pub blocked: Vec<String>,
}

impl AppPolicy {
    /// The policy of an organization that has set none: every client is permitted.
    pub const OPEN: Self =
        Self { mode: AppPolicyMode::Open, allowed: Vec::new(), blocked: Vec::new() };
}

/// A client that a policy names.
#[derive(Clone, Copy, Debug)]
pub struct AppRule {
    /// The internal id of the client.
    pub client: Uuid,
    /// Whether it is blocked; otherwise it is allowed.
    pub is_blocked: bool,
}

impl AppRule {
    /// Returns the rule's word in the database.
    #[must_use]
    pub const fn word(self) -> &'static str {
        if self.is_blocked { "blocked" } else { "allowed" }
    }
}
