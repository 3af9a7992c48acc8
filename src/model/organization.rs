//! Organizations, and their status.

use chrono::{DateTime, Utc};

use crate::model::decider::Decider;
use crate::model::ids::OrganizationId;
use crate::model::org_handle::OrgHandle;
use crate::model::origin::Origin;
use crate::model::plan::Plan;
use crate::model::role::Role;

/// An organization's line of business (contract §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusinessDomain {
    /// None in particular.
    General,
    /// Care for the sick.
    Healthcare,
    /// Money.
    Financial,
    /// Work.
    Employment,
    /// Schools.
    Education,
    /// Homes.
    Housing,
    /// Insurance.
    Insurance,
    /// The state.
    Government,
}

impl BusinessDomain {
    /// Every line of business, with its word.
    pub const ALL: [(Self, &str); 8] = [
        (Self::General, "general"),
        (Self::Healthcare, "healthcare"),
        (Self::Financial, "financial"),
        (Self::Employment, "employment"),
        (Self::Education, "education"),
        (Self::Housing, "housing"),
        (Self::Insurance, "insurance"),
        (Self::Government, "government"),
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// An organization to be.
pub struct NewOrganization<'a> {
    /// Its id inside.
    pub id: OrganizationId,
    /// Its id, as callers see it.
    pub handle: &'a OrgHandle,
    /// What it is called.
    pub name: &'a str,
    /// What it pays for.
    pub plan: Plan,
    /// Its line of business, where the operator has set it.
    pub domain: Option<BusinessDomain>,
    /// Whose pages' scripts may use its keys; anybody's, where empty.
    pub allowed_origins: &'a [Origin],
    /// When it is created.
    pub created_at: DateTime<Utc>,
}

impl<'a> NewOrganization<'a> {
    /// Creates an organization on the trial plan.
    #[must_use]
    pub fn on_trial(
        id: OrganizationId,
        handle: &'a OrgHandle,
        name: &'a str,
        created_at: DateTime<Utc>,
    ) -> Self {
        let (plan, domain, allowed_origins) = (Plan::Trial, None, &[][..]);
        Self { id, handle, name, plan, domain, allowed_origins, created_at }
    }
}

/// How an organization stands with the operator.
pub struct OrganizationStatus {
    /// Its id inside.
    pub id: OrganizationId,
    /// Its id, as callers see it.
    pub handle: String,
    /// What it pays for.
    pub plan: Plan,
    /// Since when it is suspended; `None` where it is not.
    pub suspended_at: Option<DateTime<Utc>>,
    /// Who suspended it, where that is known.
    pub suspended_by: Option<Decider>,
    /// Whether some person's account was created with it.
    pub is_home_organization: bool,
}

impl OrganizationStatus {
    /// Whether it is suspended for want of a payment, and for nothing else: a payment ends that.
    #[must_use]
    pub fn is_suspended_for_billing(&self) -> bool {
        self.suspended_at.is_some() && self.suspended_by.is_some_and(Decider::is_for_billing)
    }
}

/// An organization, with the caller's role.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Its id, as callers see it.
    pub handle: String,
    /// What it is called.
    pub name: String,
    /// What it pays for.
    pub plan: Plan,
    /// The caller's role; `None` for the organization's own keys.
    pub role: Option<Role>,
    /// Whether the operator has suspended it.
    pub is_suspended: bool,
    /// Whose pages' scripts may use its keys; anybody's, where empty.
    pub allowed_origins: Vec<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}
