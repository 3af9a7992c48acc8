//! The actors outside of all organizations: the operator and Stripe.

use crate::model::master_scope::MasterScope;

/// An actor outside of all organizations, whose changes the audit log records: the operator or
/// Stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternalActor {
    /// The operator, with a master key of this scope.
    Master(MasterScope),
    /// The operator, with a command.
    Command,
    /// Stripe, with an event.
    Stripe,
}

impl ExternalActor {
    /// Returns whether a suspension by this actor means that a payment is missing, so that a
    /// payment ends it.
    #[must_use]
    pub const fn suspends_for_billing(self) -> bool {
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

    /// Creates the actor from the database's column; `None` if the text is unknown.
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
    fn an_actor_is_restored_from_its_stored_text() {
        for scope in MasterScope::ALL {
            let actor = ExternalActor::Master(scope);
            assert_eq!(ExternalActor::from_stored(actor.as_str()), Some(actor));
            assert_eq!(actor.as_str(), format!("master:{}", scope.as_str()));
        }
        assert_eq!(ExternalActor::from_stored("stripe"), Some(ExternalActor::Stripe));
        assert_eq!(ExternalActor::from_stored("master:NONE"), None);
    }
}
