//! Master scopes: each of the operator's operations has master keys of its own.

/// The scope of a master key: one of the operator's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MasterScope {
    /// Creating organizations.
    OrgCreate,
    /// Replacing all keys of an organization with a new one.
    OrgForceRotate,
    /// Revoking all keys of an organization.
    OrgForceRevoke,
    /// Suspending and reactivating organizations.
    OrgSuspend,
    /// Reading an organization's usage.
    OrgUsage,
    /// Finding organizations, and setting their limits, credits, metadata and external ids.
    OrgSettings,
    /// Suspending an organization that does not pay, and reactivating it.
    BillingSuspend,
    /// Replacing all keys of an organization that pays again.
    BillingRotate,
    /// Changing an organization's plan.
    BillingPlan,
    /// Listing, publishing, disabling and enabling apps.
    OauthApps,
}

impl MasterScope {
    /// Every scope.
    pub const ALL: [Self; 10] = [
        Self::OrgCreate,
        Self::OrgForceRotate,
        Self::OrgForceRevoke,
        Self::OrgSuspend,
        Self::OrgUsage,
        Self::OrgSettings,
        Self::BillingSuspend,
        Self::BillingRotate,
        Self::BillingPlan,
        Self::OauthApps,
    ];

    /// Returns the scope's name in the audit log and in the names of variables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrgCreate => "ORG_CREATE",
            Self::OrgForceRotate => "ORG_FORCE_ROTATE",
            Self::OrgForceRevoke => "ORG_FORCE_REVOKE",
            Self::OrgSuspend => "ORG_SUSPEND",
            Self::OrgUsage => "ORG_USAGE",
            Self::OrgSettings => "ORG_SETTINGS",
            Self::BillingSuspend => "BILLING_SUSPEND",
            Self::BillingRotate => "BILLING_ROTATE",
            Self::BillingPlan => "BILLING_PLAN",
            Self::OauthApps => "OAUTH_APPS",
        }
    }

    /// Returns the name of the environment variable that contains the scope's master keys.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::OrgCreate => "MASTER_ADMIN_KEY_ORG_CREATE",
            Self::OrgForceRotate => "MASTER_ADMIN_KEY_ORG_FORCE_ROTATE",
            Self::OrgForceRevoke => "MASTER_ADMIN_KEY_ORG_FORCE_REVOKE",
            Self::OrgSuspend => "MASTER_ADMIN_KEY_ORG_SUSPEND",
            Self::OrgUsage => "MASTER_ADMIN_KEY_ORG_USAGE",
            Self::OrgSettings => "MASTER_ADMIN_KEY_ORG_SETTINGS",
            Self::BillingSuspend => "MASTER_ADMIN_KEY_BILLING_SUSPEND",
            Self::BillingRotate => "MASTER_ADMIN_KEY_BILLING_ROTATE",
            Self::BillingPlan => "MASTER_ADMIN_KEY_BILLING_PLAN",
            Self::OauthApps => "MASTER_ADMIN_KEY_OAUTH_APPS",
        }
    }
}
