//! Organizations and their status.

use chrono::{DateTime, Utc};

use crate::model::credits::Credits;
use crate::model::external_actor::ExternalActor;
use crate::model::ids::OrganizationId;
use crate::model::leak::LeakPolicy;
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::names::OrganizationName;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::origin::Origin;
use crate::model::plan::Plan;
use crate::model::role::Role;

/// An organization's business domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusinessDomain {
    /// No particular domain.
    General,
    /// Health care.
    Healthcare,
    /// Financial services.
    Financial,
    /// Employment.
    Employment,
    /// Education.
    Education,
    /// Housing.
    Housing,
    /// Insurance.
    Insurance,
    /// Government.
    Government,
}

impl BusinessDomain {
    /// Every business domain, with its wire name.
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

    /// Returns the wire name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// An organization to insert.
pub struct NewOrganization<'a> {
    /// Its internal id.
    pub id: OrganizationId,
    /// Its public id.
    pub handle: &'a OrganizationHandle,
    /// Its display name.
    pub name: &'a str,
    /// Its plan.
    pub plan: Plan,
    /// Its business domain; `None` if the operator has not set one.
    pub domain: Option<BusinessDomain>,
    /// The browser origins that may use its keys; every origin if empty.
    pub allowed_origins: &'a [Origin],
    /// What is done with a key of it that is reported as leaked.
    pub leak_policy: LeakPolicy,
    /// The time of its creation.
    pub created_at: DateTime<Utc>,
}

impl<'a> NewOrganization<'a> {
    /// Returns an organization to insert, on the trial plan.
    #[must_use]
    pub fn on_trial(
        id: OrganizationId,
        handle: &'a OrganizationHandle,
        name: &'a str,
        created_at: DateTime<Utc>,
    ) -> Self {
        let (plan, domain, allowed_origins) = (Plan::Trial, None, &[][..]);
        let leak_policy = LeakPolicy::default();
        Self { id, handle, name, plan, domain, allowed_origins, leak_policy, created_at }
    }
}

/// The status of an organization: its plan and whether it is suspended.
pub struct OrganizationStatus {
    /// Its internal id.
    pub id: OrganizationId,
    /// Its public id.
    pub handle: String,
    /// Its plan.
    pub plan: Plan,
    /// When it was suspended; `None` if it is not suspended.
    pub suspended_at: Option<DateTime<Utc>>,
    /// Who suspended it, if known.
    pub suspended_by: Option<ExternalActor>,
    /// Whether it is the home organization of an account that is not deleted.
    pub is_home_organization: bool,
}

impl OrganizationStatus {
    /// Returns whether it is suspended only because of billing, so that a payment reactivates it.
    #[must_use]
    pub fn is_suspended_for_billing(&self) -> bool {
        self.suspended_at.is_some()
            && self.suspended_by.is_some_and(ExternalActor::suspends_for_billing)
    }
}

/// What the operator sets for an organization.
#[derive(Clone, Debug, Default)]
pub struct OrganizationSettings {
    /// The operator's own id for it.
    pub external_id: Option<String>,
    /// The metadata that the operator stores with it.
    pub metadata: Metadata,
    /// The rate limits that its credentials share.
    pub limits: NamedLimits,
    /// The credits that its credentials share; `None` if their checks need none.
    pub credits: Option<Credits>,
}

/// An organization as the operator finds it.
pub struct FoundOrganization {
    /// Its internal id.
    pub id: OrganizationId,
    /// Its public id.
    pub handle: String,
    /// Its display name.
    pub name: String,
    /// Its plan.
    pub plan: Plan,
    /// Whether it is suspended.
    pub is_suspended: bool,
    /// Its settings.
    pub settings: OrganizationSettings,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

/// An organization, with the caller's role.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Its public id.
    pub handle: String,
    /// Its display name.
    pub name: String,
    /// Its plan.
    pub plan: Plan,
    /// The caller's role; `None` for the organization's own keys.
    pub role: Option<Role>,
    /// Whether it is suspended.
    pub is_suspended: bool,
    /// The browser origins that may use its keys; every origin if empty.
    pub allowed_origins: Vec<String>,
    /// What is done with a key of it that is reported as leaked.
    pub leak_policy: LeakPolicy,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// The settings of an organization to update; `None` leaves a setting unchanged.
#[derive(Default)]
pub struct OrganizationChanges {
    /// Its display name.
    pub name: Option<OrganizationName>,
    /// The browser origins that may use its keys; every origin if empty.
    pub allowed_origins: Option<Vec<Origin>>,
    /// What is done with a key of it that is reported as leaked.
    pub leak_policy: Option<LeakPolicy>,
}
