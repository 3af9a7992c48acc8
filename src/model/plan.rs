//! What an organization pays for.

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
    const ALL: [(Self, &str); 6] = [
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

    /// Requests per minute; `None` is without limit.
    #[must_use]
    pub fn requests_per_minute(self) -> Option<u64> {
        match self {
            Self::Trial => Some(600),
            Self::Starter => Some(1_200),
            Self::Standard | Self::Pro => Some(6_000),
            Self::Scale => Some(30_000),
            Self::Enterprise => None,
        }
    }

    /// Requests per calendar month (UTC); `None` is without limit.
    #[must_use]
    pub fn monthly_requests(self) -> Option<u64> {
        match self {
            Self::Trial => Some(100_000),
            Self::Starter => Some(1_000_000),
            Self::Standard | Self::Pro => Some(10_000_000),
            Self::Scale => Some(100_000_000),
            Self::Enterprise => None,
        }
    }

    /// How many projects there may be; `None` is without limit.
    #[must_use]
    pub fn projects(self) -> Option<u64> {
        match self {
            Self::Trial => Some(10),
            Self::Starter => Some(50),
            Self::Standard | Self::Pro => Some(500),
            Self::Scale => Some(5_000),
            Self::Enterprise => None,
        }
    }
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
