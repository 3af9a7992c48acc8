//! Domains of organizations, and the DNS records with which organizations prove that they own them.
//!
//! The record of `example.com` is a TXT record at `_tenantry-verification.example.com` with the
//! value `tenantry-domain=<token>`.

use chrono::{DateTime, Utc};

use crate::model::ids::{DomainId, MembershipId, OrganizationId};
use crate::model::sso::domain_name::DomainName;

/// The maximum number of domains of an organization.
pub const MAX_DOMAINS: u64 = 50;
/// The number of random characters of a token.
pub const TOKEN_LENGTH: usize = 40;

/// Returns the name of the DNS record that proves a domain.
#[must_use]
pub fn record_name(domain: &DomainName) -> String {
    format!("_tenantry-verification.{domain}")
}

/// The state of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainStatus {
    /// Its record was not found yet.
    Pending,
    /// Its record was found, and was not absent for 7 days since.
    Verified,
    /// It was verified, and its record was then absent for 7 days.
    Lost,
}

impl DomainStatus {
    /// Returns the status's wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Verified => "verified",
            Self::Lost => "lost",
        }
    }
}

/// A domain that an organization added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SsoDomain {
    /// Its id.
    pub id: DomainId,
    /// The organization.
    pub organization: OrganizationId,
    /// Its name.
    pub name: DomainName,
    /// The token that its record contains. It is public, like the record.
    pub token: String,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last verified.
    pub verified_at: Option<DateTime<Utc>>,
    /// When its record was last found.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// Since when the record of a verified domain is absent.
    pub absent_since: Option<DateTime<Utc>>,
    /// When it was lost.
    pub lost_at: Option<DateTime<Utc>>,
}

impl SsoDomain {
    /// Returns its status.
    #[must_use]
    pub const fn status(&self) -> DomainStatus {
        match (self.verified_at, self.lost_at) {
            (None, _) => DomainStatus::Pending,
            (Some(_), None) => DomainStatus::Verified,
            (Some(_), Some(_)) => DomainStatus::Lost,
        }
    }

    /// Returns the value of the record that proves it.
    #[must_use]
    pub fn record_value(&self) -> String {
        format!("tenantry-domain={}", self.token)
    }

    /// Returns whether `other` is the same domain with the same record.
    #[must_use]
    pub fn has_record_of(&self, other: &Self) -> bool {
        (self.id, &self.name, &self.token) == (other.id, &other.name, &other.token)
    }
}

/// A domain to insert.
pub struct NewSsoDomain<'a> {
    /// Its id.
    pub id: DomainId,
    /// The organization.
    pub organization: OrganizationId,
    /// Its name.
    pub name: &'a DomainName,
    /// The token that its record must contain.
    pub token: &'a str,
    /// The membership that adds it.
    pub created_by: MembershipId,
    /// When it is added.
    pub created_at: DateTime<Utc>,
}

/// What the daily check of a verified domain changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainAbsence {
    /// The record is absent since this check.
    Began,
    /// The record is still absent, and another warning is due.
    Continues,
    /// The record is still absent, and no warning is due.
    Known,
    /// The record was absent for 7 days, and the domain is lost.
    Lost,
}
