//! Those who decide about an organization from outside it: the operator and Stripe.

use crate::model::master_scope::MasterScope;

/// The one who creates, changes, suspends or reactivates an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The operator, with a master key of this scope.
    Master(MasterScope),
    /// The operator, with a command.
    Command,
    /// Stripe, with an event.
    Stripe,
}

impl Decider {
    /// Returns whether payments are the reason for its decisions: Stripe's events, or master keys
    /// for billing suspension.
    #[must_use]
    pub const fn is_for_billing(self) -> bool {
        matches!(self, Self::Stripe | Self::Master(MasterScope::BillingSuspend))
    }

    /// Returns the actor of its audit events, which is also stored with a suspension.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Stripe => "stripe",
            Self::Master(scope) => match scope {
                MasterScope::OrgCreate => "master:ORG_CREATE",
                MasterScope::OrgForceRotate => "master:ORG_FORCE_ROTATE",
                MasterScope::OrgForceRevoke => "master:ORG_FORCE_REVOKE",
                MasterScope::OrgSuspend => "master:ORG_SUSPEND",
                MasterScope::OrgUsage => "master:ORG_USAGE",
                MasterScope::OrgSettings => "master:ORG_SETTINGS",
                MasterScope::BillingSuspend => "master:BILLING_SUSPEND",
                MasterScope::BillingRotate => "master:BILLING_ROTATE",
                MasterScope::BillingPlan => "master:BILLING_PLAN",
                MasterScope::OauthApps => "master:OAUTH_APPS",
            },
        }
    }

    /// Creates a decider from the database's column; `None` if the text is unknown.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        let masters = MasterScope::ALL.into_iter().map(Self::Master);
        [Self::Command, Self::Stripe].into_iter().chain(masters).find(|it| it.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decider_is_restored_from_its_stored_text() {
        for scope in MasterScope::ALL {
            let decider = Decider::Master(scope);
            assert_eq!(Decider::from_stored(decider.as_str()), Some(decider));
            assert_eq!(decider.as_str(), format!("master:{}", scope.as_str()));
        }
        assert_eq!(Decider::from_stored("stripe"), Some(Decider::Stripe));
        assert_eq!(Decider::from_stored("master:NONE"), None);
    }
}
