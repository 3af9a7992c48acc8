//! Who decides about an organization from outside it: the operator, or Stripe.

use crate::model::master_scope::MasterScope;

/// Who suspends, reactivates or provisions an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The operator, by a master key of this scope.
    Master(MasterScope),
    /// The operator, by a command.
    Command,
    /// Stripe's events.
    Stripe,
}

impl Decider {
    /// Whether it decides by payment: Stripe's events, or a billing worker.
    #[must_use]
    pub const fn is_for_billing(self) -> bool {
        matches!(self, Self::Stripe | Self::Master(MasterScope::BillingSuspend))
    }

    /// The actor of its audit events, which is also stored with a suspension.
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
                MasterScope::BillingSuspend => "master:BILLING_SUSPEND",
                MasterScope::BillingRotate => "master:BILLING_ROTATE",
                MasterScope::BillingPlan => "master:BILLING_PLAN",
            },
        }
    }

    /// Creates it from the database's column; `None` for any other text.
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
    fn a_stored_decider_reads_back_as_itself() {
        for scope in MasterScope::ALL {
            let decider = Decider::Master(scope);
            assert_eq!(Decider::from_stored(decider.as_str()), Some(decider));
            assert_eq!(decider.as_str(), format!("master:{}", scope.as_str()));
        }
        assert_eq!(Decider::from_stored("stripe"), Some(Decider::Stripe));
        assert_eq!(Decider::from_stored("master:NONE"), None);
    }
}
