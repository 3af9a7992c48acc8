//! Plans. Their limits are configured (`config::plans`).

/// A plan (contract §1, *Rate limits*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// What every new organization starts on.
    Trial,
    /// For a first product.
    Starter,
    /// The operator's usual plan.
    Standard,
    /// The account family's name for the same.
    Pro,
    /// For a large product.
    Scale,
    /// Without limits.
    Enterprise,
}

impl Plan {
    /// Every plan, with its word.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Trial, "trial"),
        (Self::Starter, "starter"),
        (Self::Standard, "standard"),
        (Self::Pro, "pro"),
        (Self::Scale, "scale"),
        (Self::Enterprise, "enterprise"),
    ];

    /// Reads a plan's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(plan, _)| *plan)
    }

    /// The plan's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Whether the organization that an account was made with can be on it (contract §3).
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
    /// How many live keys there may be.
    pub keys: Option<u64>,
    /// How many projects.
    pub projects: Option<u64>,
    /// How many seats.
    pub seats: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_reads_back_from_its_word() {
        for (plan, word) in Plan::ALL {
            assert_eq!(Plan::parse(plan.as_str()), Some(plan));
            assert_eq!(plan.as_str(), word);
        }
    }
}
