//! Ids: `UUIDv7` inside, a typed prefix and 22 base62 characters outside. Every prefix of an id
//! stands in this file.
//!
//! An id of another type does not parse, so it is *not found*, never a server error.

use std::fmt;

use chrono::{DateTime, Utc};
use uuid::{Builder, Uuid};

use crate::entropy::{Entropy, random_base62};

/// 62^22 > 2^128: every UUID fits, the smaller ones padded with zeros.
const WIDTH: usize = 22;

/// Prefix of an organization id that the caller did not choose; 10 characters follow.
const ORGANIZATION_PREFIX: &str = "org_";
/// Prefix of a membership's id; 16 characters follow.
const MEMBERSHIP_PREFIX: &str = "user_";
/// Prefix of an event's id; 11 characters follow.
const EVENT_PREFIX: &str = "evt_";
/// Prefix of a request id.
const REQUEST_PREFIX: &str = "req_";

macro_rules! public_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, later than those before it.
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

            /// Reads the public spelling; `None` for anything else, ids of other types included.
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
    /// A key.
    KeyId, "key_"
}
public_id! {
    /// A session: what a key was exchanged for.
    SessionId, "sess_"
}

public_id! {
    /// A person's account.
    AccountId, "acc_"
}

public_id! {
    /// An invitation to an organization.
    InviteId, "inv_"
}
public_id! {
    /// A project.
    ProjectId, "prj_"
}
public_id! {
    /// A payment.
    PaymentId, "pay_"
}
public_id! {
    /// A request that an organization was rejected.
    RejectionId, "den_"
}

/// An organization inside; callers see its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OrganizationId(pub Uuid);

impl OrganizationId {
    /// The deployment itself: in its audit log is what belongs to no tenant.
    pub const SYSTEM: Self = Self(Uuid::nil());

    /// The least id after this one, where lists of organizations go on; `None` after the last.
    #[must_use]
    pub fn successor(self) -> Option<Uuid> {
        self.0.as_u128().checked_add(1).map(Uuid::from_u128)
    }
}

/// A membership inside; callers see its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MembershipId(pub Uuid);

/// A `UUIDv7` of this moment.
pub fn new_uuid(now: DateTime<Utc>, entropy: &dyn Entropy) -> Uuid {
    let mut random = [0_u8; 10];
    entropy.fill(&mut random);
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// The text of an organization handle that the caller leaves to us.
pub fn new_organization_handle(entropy: &dyn Entropy) -> String {
    format!("{ORGANIZATION_PREFIX}{}", random_base62(entropy, 10))
}

/// The public id of a new membership.
pub fn new_membership_handle(entropy: &dyn Entropy) -> String {
    format!("{MEMBERSHIP_PREFIX}{}", random_base62(entropy, 16))
}

/// Whether a text can be the public id of a membership.
#[must_use]
pub fn is_membership_handle(text: &str) -> bool {
    text.strip_prefix(MEMBERSHIP_PREFIX).is_some_and(|rest| {
        rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// The public id of an audit event, from its row's id.
#[must_use]
pub fn event_id(place: i64) -> String {
    format!("{EVENT_PREFIX}{:0>11}", base62::encode(place.unsigned_abs()))
}

/// The id of a request that brought none of its own.
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
        fn an_id_reads_back_as_itself(value: u128) {
            let id = KeyId::from_uuid(Uuid::from_u128(value));
            prop_assert_eq!(KeyId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn ids_keep_the_order_of_their_uuids(one: u128, other: u128) {
            let id = |value| KeyId::from_uuid(Uuid::from_u128(value));
            prop_assert_eq!(
                id(one).cmp(&id(other)),
                id(one).to_string().cmp(&id(other).to_string())
            );
        }

        #[test]
        fn reading_an_id_never_panics(text in "\\PC*", digits in "[0-9A-Za-z]{0,40}") {
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
