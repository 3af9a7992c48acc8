//! How far a credential reaches into what its account owns.

use crate::model::ids::{AccountId, OrganizationId};

/// The part of what an account owns that a credential reaches: all of it, or what belongs to one
/// organization.
#[derive(Clone, Copy, Debug)]
pub struct AccountReach {
    /// The account.
    pub account: AccountId,
    /// The only organization; `None` for everything that the account owns.
    pub only: Option<OrganizationId>,
}

impl AccountReach {
    /// Returns the reach of everything that the account owns.
    #[must_use]
    pub const fn all_of(account: AccountId) -> Self {
        Self { account, only: None }
    }
}
