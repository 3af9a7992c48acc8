//! Accounts, their handles, and the credentials and invitations that depend on them.

use chrono::{DateTime, Utc};

use crate::entropy::{Entropy, random_base62};
use crate::model::ValidationError;
use crate::model::email::Email;
use crate::model::ids::{AccountId, OrganizationId};
use crate::model::names::PersonName;
use crate::model::plan::Plan;

/// The public data of an account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its e-mail address, in canonical form.
    pub email: String,
    /// The name of its owner.
    pub name: Option<String>,
    /// The account's short name, unique in the deployment.
    pub handle: String,
    /// When the address was verified, that is, the mailed link was used. Servers before 2026-11-28
    /// required nothing else.
    pub verified_at: Option<DateTime<Utc>>,
    /// Whether the address was proven: the client that used the mailed link also had a session or
    /// the password, or set a new password. Only then is the reader of the mailbox known to be the
    /// owner of the account.
    pub is_proven: bool,
    /// Whether it may sign in.
    pub is_active: bool,
    /// When it last signed in.
    pub last_login_at: Option<DateTime<Utc>>,
    /// The number of its memberships.
    pub organization_count: i64,
    /// Whether notices about the account's security are mailed.
    pub security_mails: bool,
    /// The plan of its home organization.
    pub plan: Plan,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last updated.
    pub updated_at: DateTime<Utc>,
}

/// The numbers of an account's credentials and invitations. A password reset ends the sessions, and
/// if the address was not proven, all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountAccess {
    /// Whether the address was proven, as [`Account::is_proven`].
    pub is_proven: bool,
    /// The number of live sessions.
    pub sessions: u64,
    /// The number of live personal access tokens.
    pub personal_tokens: u64,
    /// The number of keys that its memberships created and that are neither revoked nor expired.
    pub keys: u64,
    /// The number of open invitations that its memberships created.
    pub invitations: u64,
    /// The number of apps' live grants.
    pub app_grants: u64,
}

/// An account to insert.
pub struct NewAccount<'a> {
    /// Its id.
    pub id: AccountId,
    /// The organization that is created with it, or that created it by single sign-on.
    pub home_organization: OrganizationId,
    /// Its e-mail address.
    pub email: &'a Email,
    /// The name of its owner.
    pub name: Option<&'a PersonName>,
    /// The account's short name.
    pub handle: &'a AccountHandle,
    /// The PHC string of the password; `None` if it can sign in only with single sign-on.
    pub password_hash: Option<&'a str>,
    /// The time of its creation.
    pub created_at: DateTime<Utc>,
}

/// An account's short name: `^[a-z0-9](-?[a-z0-9]){0,62}$`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountHandle(String);

impl AccountHandle {
    /// Parses a handle.
    ///
    /// # Errors
    /// The text is invalid; the error states why.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        require_short_name(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns a handle based on a name: `yourname` for "Your Name". Appends random characters if
    /// another account has that handle (`is_taken`). If the name has no ASCII letters or digits,
    /// the handle is `user-` and random characters.
    pub fn suggest(name: Option<&PersonName>, is_taken: bool, entropy: &dyn Entropy) -> Self {
        let characters = name.map_or("", PersonName::as_str).chars();
        let base: String = characters
            .filter(char::is_ascii_alphanumeric)
            .map(|character| character.to_ascii_lowercase())
            .take(40)
            .collect();
        match (base.is_empty(), is_taken) {
            (false, false) => Self(base),
            (false, true) => Self(format!("{base}-{}", random_lowercase(entropy))),
            (true, _) => Self(format!("user-{}", random_lowercase(entropy))),
        }
    }

    /// Returns the handle as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks that a text has the form of a handle or slug.
///
/// # Errors
/// The text is invalid; the error states why.
pub(super) fn require_short_name(text: &str) -> Result<(), ValidationError> {
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
    };
    let characters = text.bytes().filter(|byte| *byte != b'-').count();
    if text.split('-').all(is_word) && characters <= 63 {
        Ok(())
    } else {
        Err("must be 1 to 63 of a-z and 0-9, with single hyphens between them".into())
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
        fn a_suggested_handle_is_valid(name in "\\PC{1,256}", is_taken: bool) {
            let name = PersonName::parse(&name).ok();
            let handle = AccountHandle::suggest(name.as_ref(), is_taken, &SystemEntropy);
            prop_assert_eq!(AccountHandle::parse(handle.as_str()), Ok(handle));
        }

        #[test]
        fn parsing_a_handle_never_panics(text in "\\PC*") {
            let _ = AccountHandle::parse(&text);
        }
    }

    #[test]
    fn a_handle_is_valid_if_it_matches_its_pattern() {
        for valid in ["a", "your-name", "0", &"a".repeat(63)] {
            assert!(AccountHandle::parse(valid).is_ok(), "{valid:?}");
        }
        for invalid in ["", "-", "a-", "-a", "a--b", "Your", "é", "a b", &"a".repeat(64)] {
            assert!(AccountHandle::parse(invalid).is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn a_suggested_handle_is_the_name_in_lower_case_without_spaces() {
        let name = PersonName::parse("Your Name").ok();
        let handle = AccountHandle::suggest(name.as_ref(), false, &SystemEntropy);
        assert_eq!(handle.as_str(), "yourname");
    }
}
