//! The rate limits, their names and rates, and the subjects whose attempts they count.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use uuid::Uuid;

use crate::model::rate::Rate;
use crate::model::secret::Digest;

/// A rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateLimit {
    /// Requests without a credential, for each client address.
    Address,
    /// Requests without an organization, for each account, and requests of OAuth clients that
    /// authenticate, for each client.
    Account,
    /// Requests with a credential that is not valid, for each client address.
    UnknownKeys,
    /// Sign-ups and sign-ins, for each client address.
    SignIn,
    /// Attempts to sign in to one account. A success refills the bucket. The limit delays attempts,
    /// and never locks the account.
    SignInFailures,
    /// Checks of an account's password in one of its sessions, or with a link that was mailed to
    /// it. A success refills the bucket.
    OwnPassword,
    /// Mails of one kind to one e-mail address.
    MailAddress,
    /// Mails that one client address causes.
    MailClient,
    /// Uses of tokens of mailed links, for each client address.
    TokenChecks,
    /// Keys that are created, for each organization, and tokens, for each account.
    KeyMint,
    /// Organizations that are created, for each account.
    Organizations,
    /// Changes by accounts, for each organization that is changed, or for each account that changes
    /// itself.
    Changes,
    /// Wrong master keys, for each client address.
    MasterFailures,
    /// Requests with valid master keys, for each client address.
    MasterRequests,
    /// Wrong verifier secrets, for each client address.
    VerifierFailures,
    /// Credentials that verifiers checked and that are not valid, for each client address that they
    /// report, or for each verifier that reports none.
    CheckedUnknownKeys,
    /// Reports of leaked keys, for each client address.
    LeakReports,
    /// Requests that cause a fetch of a client's metadata document or keys, for each client
    /// address.
    ClientDocuments,
    /// Registrations of OAuth clients, for each client address.
    ClientRegistrations,
    /// Requests of devices for access, for each client address.
    DeviceRequests,
    /// User codes of devices that are typed, for each account and for each client address.
    UserCodes,
    /// Checks of the DNS records of domains, for each organization.
    DomainChecks,
}

impl RateLimit {
    /// Every rate limit.
    pub const ALL: [Self; 22] = [
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
        Self::LeakReports,
        Self::ClientDocuments,
        Self::ClientRegistrations,
        Self::DeviceRequests,
        Self::UserCodes,
        Self::DomainChecks,
    ];

    /// Returns the limit's name in responses, settings and metrics.
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
            Self::LeakReports => "leak_reports",
            Self::ClientDocuments => "client_documents",
            Self::ClientRegistrations => "client_registrations",
            Self::DeviceRequests => "device_requests",
            Self::UserCodes => "user_codes",
            Self::DomainChecks => "domain_checks",
        }
    }

    /// Returns whether the caller is the subject of the limit. The remaining attempts of another
    /// subject would reveal what it did, and that it has an account.
    #[must_use]
    pub const fn is_reported_to_caller(self) -> bool {
        !matches!(self, Self::SignInFailures | Self::MailAddress)
    }

    /// Returns the rate if the operator sets none: generous enough to try the product out.
    #[must_use]
    pub const fn default_rate(self) -> Rate {
        match self {
            // 120 at once, then 20 a second.
            Self::Address | Self::Account => Rate::new(120, 6),
            Self::UnknownKeys | Self::CheckedUnknownKeys | Self::SignIn => Rate::new(60, 60),
            // 10 at once, then one every 30 seconds.
            Self::SignInFailures | Self::OwnPassword => Rate::new(10, 300),
            Self::MailAddress => Rate::new(3, 3_600),
            Self::MailClient | Self::Organizations | Self::ClientRegistrations => {
                Rate::new(30, 3_600)
            }
            Self::TokenChecks
            | Self::LeakReports
            | Self::ClientDocuments
            | Self::DeviceRequests
            | Self::DomainChecks => Rate::new(30, 300),
            Self::KeyMint => Rate::new(120, 3_600),
            // 10 at once, then one a minute.
            Self::UserCodes => Rate::new(10, 600),
            // 1,200 at once, then one every 3 seconds: each adds an event to the audit log, which
            // is stored for a long time.
            Self::Changes => Rate::new(1_200, 3_600),
            Self::MasterFailures | Self::VerifierFailures => Rate::new(100, 300),
            Self::MasterRequests => Rate::new(1_000, 100),
        }
    }

    /// Returns the rate with `LIMITS_PROFILE=strict`, for deployments that are open to the public.
    #[must_use]
    pub const fn strict_rate(self) -> Rate {
        match self {
            // 30 at once, then 5 a second.
            Self::Address | Self::Account => Rate::new(30, 6),
            Self::UnknownKeys | Self::CheckedUnknownKeys => Rate::new(20, 60),
            Self::SignIn => Rate::new(10, 60),
            Self::SignInFailures | Self::OwnPassword => Rate::new(5, 300),
            Self::MailAddress => Rate::new(3, 3_600),
            Self::MailClient | Self::Organizations | Self::ClientRegistrations => {
                Rate::new(10, 3_600)
            }
            Self::TokenChecks
            | Self::LeakReports
            | Self::ClientDocuments
            | Self::DeviceRequests
            | Self::DomainChecks => Rate::new(10, 300),
            Self::KeyMint => Rate::new(30, 3_600),
            Self::UserCodes => Rate::new(10, 600),
            Self::Changes => Rate::new(300, 3_600),
            Self::MasterFailures | Self::VerifierFailures => Rate::new(20, 300),
            Self::MasterRequests => Rate::new(300, 60),
        }
    }
}

/// A subject whose attempts are counted together, such as a client or an account. Two different
/// subjects share a bucket with a probability of 2^-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitSubject(u128);

impl LimitSubject {
    /// Returns the subject of a client's address. Clients whose address is unknown share one
    /// subject.
    #[must_use]
    pub fn from_address(address: Option<IpAddr>) -> Self {
        match address.map(client_network) {
            None => Self(1),
            Some(IpNet::V4(network)) => Self(network.addr().to_ipv6_mapped().to_bits()),
            Some(IpNet::V6(network)) => Self(network.addr().to_bits()),
        }
    }

    /// The subject that all further ones share when the table of subjects is full.
    pub const SHARED: Self = Self(u128::MAX);

    /// Returns a hash of 16 bits, to select a shard.
    #[must_use]
    pub fn shard_hash(self) -> usize {
        let mixed = (self.0 ^ (self.0 >> 64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from((mixed >> 32) & 0xffff).unwrap_or(0)
    }

    /// Returns the subject of an id, such as that of an organization or account.
    #[must_use]
    pub const fn from_id(id: Uuid) -> Self {
        Self(id.as_u128())
    }

    /// Returns a subject that combines this one with a number, to count some of its attempts
    /// separately.
    #[must_use]
    pub const fn with_number(self, number: u64) -> Self {
        Self(self.0 ^ (number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    }

    /// Returns the subject of a name, such as an e-mail address. Only its digest is stored. The
    /// digest uses a secret key, since names can be guessed.
    #[must_use]
    pub fn from_digest(digest: &Digest) -> Self {
        Self(digest.bytes().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes)))
    }

    /// Returns the value of the database's column.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        Uuid::from_u128(self.0)
    }
}

/// Returns the network that counts as one client: an IPv4 address, or the /64 network of an IPv6
/// address. An IPv4-mapped address counts as IPv4.
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

    fn subject(address: &str) -> LimitSubject {
        LimitSubject::from_address(address.parse().ok())
    }

    #[test]
    fn addresses_of_one_client_are_one_subject_and_others_are_not() {
        assert_eq!(subject("192.0.2.1"), subject("::ffff:192.0.2.1"));
        assert_eq!(subject("192.0.2.1"), subject("::ffff:c000:201"));
        assert_ne!(subject("192.0.2.1"), subject("192.0.2.2"));
        assert_eq!(subject("2001:db8::1"), subject("2001:DB8::ffff:0:0:3"));
        assert_ne!(subject("2001:db8::1"), subject("2001:db8:0:1::1"));
        assert_eq!(subject("unknown"), subject(""));
        for address in ["0.0.0.0", "::", "::1"] {
            assert_ne!(subject("unknown"), subject(address));
        }
    }

    #[test]
    fn every_rate_limit_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = RateLimit::ALL.map(RateLimit::as_str).into();
        assert_eq!(names.len(), RateLimit::ALL.len());
    }
}
