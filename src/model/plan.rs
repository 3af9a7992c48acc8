//! Plans. Their limits are configured (`config::plans`).

/// A plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The plan of a new organization, unless another is set.
    Trial,
    /// Limits for a small product.
    Starter,
    /// Limits for a medium product. A home organization cannot have it.
    Standard,
    /// The same default limits as `Standard`; a home organization can have it.
    Pro,
    /// Limits for a large product.
    Scale,
    /// Unlimited by default. A home organization cannot have it.
    Enterprise,
}

impl Plan {
    /// Every plan, with its wire name.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Trial, "trial"),
        (Self::Starter, "starter"),
        (Self::Standard, "standard"),
        (Self::Pro, "pro"),
        (Self::Scale, "scale"),
        (Self::Enterprise, "enterprise"),
    ];

    /// Parses a plan's wire name.
    #[must_use]
    pub fn parse(wire_name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == wire_name).map(|(plan, _)| *plan)
    }

    /// Returns the plan's wire name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Returns whether an account's home organization can be on this plan.
    #[must_use]
    pub const fn allows_home_organization(self) -> bool {
        !matches!(self, Self::Standard | Self::Enterprise)
    }
}

/// The limits of a plan; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Requests per minute.
    pub requests_per_minute: Option<u64>,
    /// Requests per calendar month (UTC).
    pub requests_per_month: Option<u64>,
    /// The maximum number of live keys; see `LimitedResource::Keys`.
    pub keys: Option<u64>,
    /// The maximum number of projects.
    pub projects: Option<u64>,
    /// The maximum number of seats, that is, of memberships.
    pub seats: Option<u64>,
    /// The maximum number of apps.
    pub apps: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_is_parsed_from_its_wire_name() {
        for (plan, wire_name) in Plan::ALL {
            assert_eq!(Plan::parse(plan.as_str()), Some(plan));
            assert_eq!(plan.as_str(), wire_name);
        }
    }
}
