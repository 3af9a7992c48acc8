//! A person's account: who they are to themselves.

use chrono::{DateTime, Utc};

use crate::entropy::{Entropy, random_base62};
use crate::model::ValidationError;
use crate::model::email::Email;
use crate::model::ids::{AccountId, OrganizationId};
use crate::model::plan::Plan;

/// What is told about an account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its address, in the canonical form.
    pub email: String,
    /// What the person is called.
    pub name: Option<String>,
    /// The person's short name, unique in the deployment.
    pub handle: String,
    /// When they proved that the address is theirs; before 2026-11-28, by a click alone.
    pub verified_at: Option<DateTime<Utc>>,
    /// Whether that was by whoever holds both the mailbox and the password.
    pub is_proven: bool,
    /// Whether they may sign in.
    pub is_active: bool,
    /// When they last did.
    pub last_login_at: Option<DateTime<Utc>>,
    /// In how many organizations they have a seat.
    pub organization_count: i64,
    /// Whether they are mailed of what concerns the account's security.
    pub security_mails: bool,
    /// What their home organization pays for.
    pub plan: Plan,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// What an account has that can act for it or let others in, and a reset may end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountAccess {
    /// Whether the address was proven by whoever knows the password: then only sessions end.
    pub is_proven: bool,
    /// How many live sessions.
    pub sessions: u64,
    /// How many live personal tokens.
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
    /// The organization that is made with it.
    pub home_organization: OrganizationId,
    /// Its address.
    pub email: &'a Email,
    /// What the person is called.
    pub name: Option<&'a PersonName>,
    /// The person's short name.
    pub handle: &'a AccountHandle,
    /// The PHC string of the password.
    pub password_hash: &'a str,
    /// When it is made.
    pub created_at: DateTime<Utc>,
}

/// What a person is called: 1 to 256 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonName(String);

impl PersonName {
    /// The longest name, in Unicode scalar values.
    pub const MAX: usize = 256;

    /// Reads a name.
    ///
    /// # Errors
    /// Any other text, in words for the caller.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".into());
        }
        match text.chars().count() {
            0 => Err("must not be empty".into()),
            length if length > Self::MAX => {
                Err(format!("must be at most {} characters long", Self::MAX).into())
            }
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// The same, where an empty name is none.
    ///
    /// # Errors
    /// As [`PersonName::parse`].
    pub fn parse_optional(text: &str) -> Result<Option<Self>, ValidationError> {
        if text.is_empty() { Ok(None) } else { Self::parse(text).map(Some) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A person's short name: `^[a-z0-9](-?[a-z0-9]){0,62}$` (contract §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountHandle(String);

impl AccountHandle {
    /// Reads a handle.
    ///
    /// # Errors
    /// Any other text, in words for the caller.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        require_short_name(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The handle that a name suggests: `yourname` for "Your Name". Chance adds to it where it is
    /// taken, or makes all of it where a name has no letters of the alphabet.
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

/// Passes a text of the form that handles and slugs have.
///
/// # Errors
/// Any other text, in words for the caller.
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

/// Chance in lower case: about 2^40 possibilities.
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
