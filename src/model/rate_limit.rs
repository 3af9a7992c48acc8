//! The rate limits, and their names in responses, settings and metrics.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use uuid::Uuid;

use crate::model::rate::Rate;
use crate::model::secret::Digest;

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateLimit {
    /// Requests without a credential, for each client address.
    Address,
    /// Requests about one's own account, for each person.
    Account,
    /// Credentials that are not valid, for each client address.
    UnknownKeys,
    /// Signing up and in, for each client address.
    SignIn,
    /// Signing in to one account; success clears it. It slows, and never locks.
    SignInFailures,
    /// Showing the password of an account in a session of it, or with a link that was mailed to it;
    /// success clears it.
    OwnPassword,
    /// Mails of one kind to one e-mail address.
    MailAddress,
    /// Mails that one client address causes.
    MailClient,
    /// Uses of tokens of mailed links, for each client address.
    TokenChecks,
    /// Keys that are minted for each organization, and tokens for each person.
    KeyMint,
    /// Organizations that one person makes.
    Organizations,
    /// Changes by accounts, for each organization.
    Changes,
    /// Wrong master keys, for each client address.
    MasterFailures,
    /// Requests with right master keys, for each client address.
    MasterRequests,
    /// Wrong secrets of verifiers, for each client address.
    VerifierFailures,
    /// Credentials that verifiers checked and that are not valid, for each client address that they
    /// report, or for each verifier that reports none.
    CheckedUnknownKeys,
}

impl RateLimit {
    /// Every limit that has one rate for all.
    pub const ALL: [Self; 16] = [
        Self::Address,
        Self::Account,
        Self::UnknownKeys,
        Self::SignIn,
        Self::SignInFailures,
        Self::OwnPassword,
        Self::MailAddress,
        Self::MailClient,
        Self::TokenChecks,
        Self::KeyMint,
        Self::Organizations,
        Self::Changes,
        Self::MasterFailures,
        Self::MasterRequests,
        Self::VerifierFailures,
        Self::CheckedUnknownKeys,
    ];

    /// The limit's name in answers, settings and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Account => "account",
            Self::UnknownKeys => "unknown_keys",
            Self::SignIn => "sign_in",
            Self::SignInFailures => "sign_in_failures",
            Self::OwnPassword => "own_password",
            Self::MailAddress => "mail_address",
            Self::MailClient => "mail_client",
            Self::TokenChecks => "token_checks",
            Self::KeyMint => "key_mint",
            Self::Organizations => "organizations",
            Self::Changes => "changes",
            Self::MasterFailures => "master_failures",
            Self::MasterRequests => "master_requests",
            Self::VerifierFailures => "verifier_failures",
            Self::CheckedUnknownKeys => "checked_unknown_keys",
        }
    }

    /// Whether the caller is the subject of the limit. What remains of another subject's limit
    /// would reveal what that subject did, and that it has an account.
    #[must_use]
    pub const fn is_reported_to_caller(self) -> bool {
        !matches!(self, Self::SignInFailures | Self::MailAddress)
    }

    /// The rate where the operator sets none: generous enough for trying the product out.
    #[must_use]
    pub const fn default_rate(self) -> Rate {
        match self {
            // 20 a second, 120 at once.
            Self::Address | Self::Account => Rate::new(120, 6),
            Self::UnknownKeys | Self::CheckedUnknownKeys | Self::SignIn => Rate::new(60, 60),
            // 10, then one for every 30 seconds.
            Self::SignInFailures | Self::OwnPassword => Rate::new(10, 300),
            Self::MailAddress => Rate::new(3, 3_600),
            Self::MailClient | Self::Organizations => Rate::new(30, 3_600),
            Self::TokenChecks => Rate::new(30, 300),
            Self::KeyMint => Rate::new(120, 3_600),
            // 1,200, then one in 3 seconds: each is an event of the audit log, which is kept.
            Self::Changes => Rate::new(1_200, 3_600),
            Self::MasterFailures | Self::VerifierFailures => Rate::new(100, 300),
            Self::MasterRequests => Rate::new(1_000, 100),
        }
    }

    /// The rate under `LIMITS_PROFILE=strict`, for deployments that strangers can reach.
    #[must_use]
    pub const fn strict_rate(self) -> Rate {
        match self {
            // 5 a second, 30 at once.
            Self::Address | Self::Account => Rate::new(30, 6),
            Self::UnknownKeys | Self::CheckedUnknownKeys => Rate::new(20, 60),
            Self::SignIn => Rate::new(10, 60),
            Self::SignInFailures | Self::OwnPassword => Rate::new(5, 300),
            Self::MailAddress => Rate::new(3, 3_600),
            Self::MailClient | Self::Organizations => Rate::new(10, 3_600),
            Self::TokenChecks => Rate::new(10, 300),
            Self::KeyMint => Rate::new(30, 3_600),
            Self::Changes => Rate::new(300, 3_600),
            Self::MasterFailures | Self::VerifierFailures => Rate::new(20, 300),
            Self::MasterRequests => Rate::new(300, 60),
        }
    }
}

/// Whose tries are counted together. Two that differ share a bucket by an accident of 2^-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitSubject(u128);

impl LimitSubject {
    /// A client's address. Clients whose address is unknown share one subject.
    #[must_use]
    pub fn from_address(address: Option<IpAddr>) -> Self {
        match address.map(client_network) {
            None => Self(1),
            Some(IpNet::V4(network)) => Self(network.addr().to_ipv6_mapped().to_bits()),
            Some(IpNet::V6(network)) => Self(network.addr().to_bits()),
        }
    }

    /// The subject that is shared beyond the capacity of the table.
    pub const SHARED: Self = Self(u128::MAX);

    /// A number that differs for most.
    #[must_use]
    pub fn shard_hash(self) -> usize {
        let mixed = (self.0 ^ (self.0 >> 64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from((mixed >> 32) & 0xffff).unwrap_or(0)
    }

    /// What has an id: an organization, an account.
    #[must_use]
    pub const fn from_id(id: Uuid) -> Self {
        Self(id.as_u128())
    }

    /// The same subject with a number, to count its requests apart.
    #[must_use]
    pub const fn with_number(self, number: u64) -> Self {
        Self(self.0 ^ (number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    }

    /// What has a name, such as an e-mail address, of which nothing is kept but a digest: under a
    /// secret, since names can be guessed.
    #[must_use]
    pub fn from_digest(digest: &Digest) -> Self {
        Self(digest.bytes().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes)))
    }

    /// The value of the database's column.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        Uuid::from_u128(self.0)
    }
}

/// The network that counts as one client: the /64 of an IPv6 address; an IPv4-mapped address is
/// IPv4.
#[must_use]
pub fn client_network(address: IpAddr) -> IpNet {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address.into(),
        IpAddr::V6(address) => Ipv6Net::new_assert(address, 64).trunc().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> LimitSubject {
        LimitSubject::from_address(address.parse().ok())
    }

    #[test]
    fn what_is_one_client_is_one_subject() {
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("192.0.2.1"), of("::ffff:c000:201"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:DB8::ffff:0:0:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("unknown"), of(""));
        for address in ["0.0.0.0", "::", "::1"] {
            assert_ne!(of("unknown"), of(address));
        }
    }

    #[test]
    fn every_name_is_one_s_own() {
        let names: std::collections::BTreeSet<_> = RateLimit::ALL.map(RateLimit::as_str).into();
        assert_eq!(names.len(), RateLimit::ALL.len());
    }
}
