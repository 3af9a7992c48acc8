//! Ids. Most are a `UUIDv7` internally and, in public, a prefix for the type and 22 base62
//! characters. This file defines the prefix of every id.
//!
//! An id of another type does not parse, so the caller receives *not found*, never a server error.

use std::fmt;

use chrono::{DateTime, Utc};
use uuid::{Builder, Uuid};

use crate::entropy::{Entropy, random_base62};

/// The number of base62 characters. Every UUID fits, since 62^22 > 2^128; smaller ones are padded
/// with zeros.
const WIDTH: usize = 22;

/// The prefix of an organization id that the caller did not choose; 10 characters follow.
const ORGANIZATION_PREFIX: &str = "org_";
/// The prefix of a membership's public id; 16 characters follow.
const MEMBERSHIP_PREFIX: &str = "user_";
/// The prefix of an audit event's public id; 11 characters follow.
const EVENT_PREFIX: &str = "evt_";
/// The prefix of a request id; 16 characters follow.
const REQUEST_PREFIX: &str = "req_";

macro_rules! public_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Creates an id, which sorts after those of earlier milliseconds.
            pub fn new(now: DateTime<Utc>, entropy: &dyn Entropy) -> Self {
                Self(new_uuid(now, entropy))
            }

            /// Creates the id from the database's column.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Returns the value of the database's column.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// Parses the public id; `None` for any other text, such as an id of another type.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                parse_uuid(text.strip_prefix($prefix)?).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let digits = base62::encode(self.0.as_u128());
                write!(f, concat!($prefix, "{:0>width$}"), digits, width = WIDTH)
            }
        }
    };
}

public_id! {
    /// The id of an API key or a personal access token.
    KeyId, "key_"
}
public_id! {
    /// The id of a session: of an account, or one that a key was exchanged for.
    SessionId, "sess_"
}

public_id! {
    /// The id of an account.
    AccountId, "acc_"
}

public_id! {
    /// The id of an invitation.
    InviteId, "inv_"
}
public_id! {
    /// The id of a project.
    ProjectId, "prj_"
}
public_id! {
    /// The id of a payment.
    PaymentId, "pay_"
}
public_id! {
    /// The id of an app: an OAuth client that an organization registered.
    AppId, "app_"
}
public_id! {
    /// The id of a secret of an app.
    AppSecretId, "secret_"
}
public_id! {
    /// The id of what a person granted to an OAuth client.
    GrantId, "grant_"
}
public_id! {
    /// The id of a connection to an identity provider.
    ConnectionId, "conn_"
}
public_id! {
    /// The id of a domain that an organization added for single sign-on.
    DomainId, "dom_"
}
public_id! {
    /// The id of a rejection.
    RejectionId, "den_"
}

/// The internal id of an organization. Callers see its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrganizationId(pub Uuid);

impl OrganizationId {
    /// The deployment itself, whose audit log records what belongs to no organization.
    pub const SYSTEM: Self = Self(Uuid::nil());

    /// Returns the next id, at which a list of organizations continues; `None` after the maximum.
    #[must_use]
    pub fn successor(self) -> Option<Uuid> {
        self.0.as_u128().checked_add(1).map(Uuid::from_u128)
    }
}

/// The internal id of a membership. Callers see its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MembershipId(pub Uuid);

/// Creates a `UUIDv7` with the time `now`.
pub fn new_uuid(now: DateTime<Utc>, entropy: &dyn Entropy) -> Uuid {
    let mut random = [0_u8; 10];
    entropy.fill(&mut random);
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// Generates a random organization handle.
pub fn new_organization_handle(entropy: &dyn Entropy) -> String {
    format!("{ORGANIZATION_PREFIX}{}", random_base62(entropy, 10))
}

/// Generates the public id of a new membership.
pub fn new_membership_handle(entropy: &dyn Entropy) -> String {
    format!("{MEMBERSHIP_PREFIX}{}", random_base62(entropy, 16))
}

/// Returns whether a text has the form of a membership's public id.
#[must_use]
pub fn is_membership_handle(text: &str) -> bool {
    text.strip_prefix(MEMBERSHIP_PREFIX).is_some_and(|rest| {
        rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Returns the public id of an audit event, from its row's id.
#[must_use]
pub fn event_id(row: i64) -> String {
    format!("{EVENT_PREFIX}{:0>11}", base62::encode(row.unsigned_abs()))
}

/// Generates an id for a request without one of its own.
pub fn new_request_id(entropy: &dyn Entropy) -> String {
    format!("{REQUEST_PREFIX}{}", random_base62(entropy, 16))
}

fn parse_uuid(digits: &str) -> Option<Uuid> {
    if digits.len() != WIDTH {
        return None;
    }
    base62::decode(digits).ok().map(Uuid::from_u128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_parsed_from_its_public_form(value: u128) {
            let id = KeyId::from_uuid(Uuid::from_u128(value));
            prop_assert_eq!(KeyId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn public_ids_sort_like_their_uuids(one: u128, other: u128) {
            let id = |value| KeyId::from_uuid(Uuid::from_u128(value));
            prop_assert_eq!(
                id(one).cmp(&id(other)),
                id(one).to_string().cmp(&id(other).to_string())
            );
        }

        #[test]
        fn parsing_an_id_never_panics(text in "\\PC*", digits in "[0-9A-Za-z]{0,40}") {
            let _ = KeyId::parse(&text);
            let _ = KeyId::parse(&format!("key_{digits}"));
        }
    }

    #[test]
    fn an_id_of_another_type_does_not_parse() {
        let id = SessionId::from_uuid(Uuid::from_u128(7)).to_string();
        assert_eq!(KeyId::parse(&id), None);
    }
}
