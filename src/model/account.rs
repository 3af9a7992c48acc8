//! An account: its data, its names, and what can act for it.

use chrono::{DateTime, Utc};

use crate::entropy::{Entropy, random_base62};
use crate::model::ValidationError;
use crate::model::email::Email;
use crate::model::ids::{AccountId, OrganizationId};
use crate::model::names::PersonName;
use crate::model::plan::Plan;

/// The public data of a account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its address, in the canonical form.
    pub email: String,
    /// The name of its owner.
    pub name: Option<String>,
    /// The account's short name, unique in the deployment.
    pub handle: String,
    /// When the address was verified; before 2026-11-28, by following the mailed link alone.
    pub verified_at: Option<DateTime<Utc>>,
    /// Whether the address was verified together with the password.
    pub is_proven: bool,
    /// Whether it may sign in.
    pub is_active: bool,
    /// When it last signed in.
    pub last_login_at: Option<DateTime<Utc>>,
    /// How many memberships it has.
    pub organization_count: i64,
    /// Whether notices about the account's security are mailed.
    pub security_mails: bool,
    /// The plan of its home organization.
    pub plan: Plan,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// What can act for an account or was created by it, and ends with a password reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountAccess {
    /// Whether the address was verified together with the password: then a reset ends only
    /// sessions.
    pub is_proven: bool,
    /// How many live sessions.
    pub sessions: u64,
    /// How many live personal access tokens.
    pub personal_tokens: u64,
    /// How many live keys its memberships minted.
    pub keys: u64,
    /// How many open invitations its memberships made.
    pub invitations: u64,
}

/// An account about to be stored.
pub struct NewAccount<'a> {
    /// Its id.
    pub id: AccountId,
    /// The organization that is created with it.
    pub home_organization: OrganizationId,
    /// Its address.
    pub email: &'a Email,
    /// The name of its owner.
    pub name: Option<&'a PersonName>,
    /// The account's short name.
    pub handle: &'a AccountHandle,
    /// The PHC string of the password.
    pub password_hash: &'a str,
    /// When it is created.
    pub created_at: DateTime<Utc>,
}

/// An account's short name: `^[a-z0-9](-?[a-z0-9]){0,62}$` (contract §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountHandle(String);

impl AccountHandle {
    /// Parses a handle.
    ///
    /// # Errors
    /// Any other text, with a message for the caller.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        require_short_name(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns the handle that a name suggests: `yourname` for "Your Name". Random characters are
    /// appended where it is taken; they are all of it where the name has no letters of the
    /// alphabet.
    pub fn suggest(name: Option<&PersonName>, is_taken: bool, entropy: &dyn Entropy) -> Self {
        let letters = name.map_or("", PersonName::as_str).chars();
        let word: String = letters
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .take(40)
            .collect();
        match (word.is_empty(), is_taken) {
            (false, false) => Self(word),
            (false, true) => Self(format!("{word}-{}", random_lowercase(entropy))),
            (true, _) => Self(format!("user-{}", random_lowercase(entropy))),
        }
    }

    /// The handle as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks that a text has the form of handles and slugs.
///
/// # Errors
/// Any other text, with a message for the caller.
pub(super) fn require_short_name(text: &str) -> Result<(), ValidationError> {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
    };
    let letters = text.bytes().filter(|byte| *byte != b'-').count();
    if text.split('-').all(word) && letters <= 63 {
        Ok(())
    } else {
        Err("must be a-z and 0-9, at most 63, with single hyphens in between".into())
    }
}

/// Returns 8 random lower-case characters: about 2^40 possibilities.
pub(super) fn random_lowercase(entropy: &dyn Entropy) -> String {
    random_base62(entropy, 8).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_suggested_handle_is_a_handle(name in "\\PC{1,256}", is_taken: bool) {
            let name = PersonName::parse(&name).ok();
            let handle = AccountHandle::suggest(name.as_ref(), is_taken, &SystemEntropy);
            prop_assert_eq!(AccountHandle::parse(handle.as_str()), Ok(handle));
        }

        #[test]
        fn reading_a_handle_never_panics(text in "\\PC*") {
            let _ = AccountHandle::parse(&text);
        }
    }

    #[test]
    fn a_handle_is_what_the_contract_s_pattern_says() {
        for good in ["a", "your-name", "0", &"a".repeat(63)] {
            assert!(AccountHandle::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "-", "a-", "-a", "a--b", "Your", "é", "a b", &"a".repeat(64)] {
            assert!(AccountHandle::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_suggests_its_letters() {
        let name = PersonName::parse("Your Name").ok();
        let handle = AccountHandle::suggest(name.as_ref(), false, &SystemEntropy);
        assert_eq!(handle.as_str(), "yourname");
    }
}
