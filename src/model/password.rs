//! Passwords: new ones and presented ones.
//!
//! Both are normalized first (RFC 8265 §4.2: every space becomes U+0020, then NFC), so that a
//! password has the same bytes on every keyboard. Case is preserved.
//!
//! The common passwords come from Django (BSD-3-Clause, after Royce Williams' list) and zxcvbn
//! (MIT).

use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;

use crate::model::ValidationError;
use crate::model::email::Email;
use crate::model::secret::Secret;

/// The minimum length of a normalized password, in Unicode scalar values.
const MIN: usize = 8;
/// The maximum length of a normalized password, in Unicode scalar values.
const MAX: usize = 128;

/// The most common passwords: normalized, in lower case and sorted by their bytes.
static COMMON: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// A new password.
///
/// Invariant: it has 8 to 128 characters, no control characters, and is not a common password.
pub struct NewPassword(Secret);

impl NewPassword {
    /// Parses a new password.
    ///
    /// # Errors
    /// The password breaks a rule. The error states the rule and does not contain the password.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".into());
        }
        let password = normalize(text).filter(|password| password.chars().count() >= MIN);
        let Some(password) = password else {
            return Err(format!("must be {MIN} to {MAX} characters long").into());
        };
        if COMMON.binary_search(&password.to_lowercase().as_str()).is_ok() {
            return Err("is among the most common passwords; choose another".into());
        }
        Ok(Self(Secret::new(password)))
    }

    /// Checks that the password does not mainly consist of the account's e-mail address. An
    /// attacker knows the address, and tries it and its parts with a few characters added.
    ///
    /// # Errors
    /// The password parses as the same address, or more than half of it is one substring of the
    /// address, ignoring case.
    pub fn differs_from(&self, email: &Email) -> Result<(), ValidationError> {
        let password = self.0.expose();
        let is_same = Email::parse(password).is_ok_and(|same| same == *email);
        let spellings = [email.as_str(), &email.to_unicode()];
        if is_same || spellings.iter().any(|address| is_mostly_substring_of(password, address)) {
            return Err("must not be made of your e-mail address".into());
        }
        Ok(())
    }

    /// Returns the normalized password, to be hashed.
    #[must_use]
    pub fn into_secret(self) -> Secret {
        self.0
    }
}

/// Normalizes a presented password like a new one. `None` if it is longer than any password.
#[must_use]
pub fn normalize_presented(text: &str) -> Option<Secret> {
    normalize(text).map(Secret::new)
}

/// Returns whether more than half of a password is one substring of `address`, which is in lower
/// case.
fn is_mostly_substring_of(password: &str, address: &str) -> bool {
    let password: Vec<char> = password.to_lowercase().chars().collect();
    let address: Vec<char> = address.chars().collect();
    // The lengths of the longest common substrings that end with this character of the password and
    // with each character of the address.
    let mut lengths = vec![0; address.len() + 1];
    let mut longest = 0;
    for character in &password {
        for index in (0..address.len()).rev() {
            lengths[index + 1] = if address[index] == *character { lengths[index] + 1 } else { 0 };
            longest = longest.max(lengths[index + 1]);
        }
    }
    longest * 2 > password.len()
}

/// Normalizes a password; `None` if the result is longer than [`MAX`]. Stops there, so a longer
/// text costs no more.
fn normalize(text: &str) -> Option<String> {
    let with_plain_spaces = |c: char| if is_other_space(c) { ' ' } else { c };
    let mut characters = text.chars().map(with_plain_spaces).nfc();
    let password = characters.by_ref().take(MAX).collect();
    characters.next().is_none().then_some(password)
}

/// Returns whether this is a space (Unicode's category Zs) other than U+0020.
fn is_other_space(c: char) -> bool {
    c.is_whitespace() && !c.is_ascii() && !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepted(text: &str) -> Result<String, ValidationError> {
        NewPassword::parse(text).map(|it| it.into_secret().expose().to_owned())
    }

    fn error_message(text: &str) -> String {
        match NewPassword::parse(text) {
            Ok(_) => panic!("{text:?} was accepted"),
            Err(ValidationError(message)) => message.into_owned(),
        }
    }

    fn email(text: &str) -> Email {
        Email::parse(text).unwrap()
    }

    #[test]
    fn a_password_has_8_to_128_characters_and_any_number_of_bytes() {
        for text in ["zq 7 xv!", "🦀🐢🐙🦑🐌🦎🐍🦖", &"ž".repeat(128)] {
            assert_eq!(accepted(text).as_deref(), Ok(text));
        }
        for text in ["", "zq 7 xv", "🦀🐢🐙", &"ž".repeat(129), &"x".repeat(1_000_000)] {
            assert_eq!(error_message(text), "must be 8 to 128 characters long");
        }
    }

    #[test]
    fn a_password_with_a_control_character_is_an_error() {
        for text in ["zq7xv!kw\0", "zq7\txv!kw", "zq7xv!kw\n", "zq7xv!\u{85}kw"] {
            assert_eq!(error_message(text), "must not contain control characters");
        }
    }

    #[test]
    fn a_common_password_is_an_error_in_any_case() {
        for text in [
            "password",
            "12345678",
            "password1",
            "iloveyou",
            "sunshine",
            "qwertyuiop",
            "trustno1",
            "PassWord",
            "QWERTYUIOP",
            "Password123",
        ] {
            assert_eq!(error_message(text), "is among the most common passwords; choose another");
        }
        assert!(accepted("password but longer").is_ok());
    }

    #[test]
    fn the_common_passwords_are_sorted_normalized_and_in_lower_case() {
        assert!(COMMON.len() >= 10_000);
        assert!(COMMON.is_sorted_by(|one, next| one < next));
        for common in COMMON.iter() {
            assert_eq!(common.to_lowercase(), **common);
            assert_eq!(normalize(common).as_deref(), Some(*common));
            assert!(common.chars().count() >= MIN, "{common:?}");
            assert!(!common.chars().any(char::is_control), "{common:?}");
        }
    }

    #[test]
    fn passwords_that_differ_only_in_unicode_form_are_the_same() {
        let stored = accepted("cafe\u{301} cre\u{300}me").unwrap();
        assert_eq!(stored, "café crème");
        for presented in ["café crème", "cafe\u{301}\u{a0}crème", "café\u{3000}cre\u{300}me"] {
            assert_eq!(normalize_presented(presented).unwrap().expose(), stored);
        }
    }

    #[test]
    fn a_presented_password_has_no_rule_except_the_maximum_length() {
        for text in ["", "x", "password", "\0", &"x".repeat(128)] {
            assert_eq!(normalize_presented(text).unwrap().expose(), text);
        }
        assert!(normalize_presented(&"x".repeat(129)).is_none());
    }

    #[test]
    fn the_account_s_address_is_an_error_in_any_case_and_spelling() {
        for (text, own) in [
            ("ada@example.com", "ada@example.com"),
            ("Ada@Example.Com", "ADA@example.com"),
            ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ] {
            let password = NewPassword::parse(text).ok().unwrap();
            assert!(password.differs_from(&email(own)).is_err(), "{text}");
            assert!(password.differs_from(&email("bob@other.org")).is_ok());
        }
    }

    #[test]
    fn a_password_that_is_mostly_a_part_of_the_account_s_address_is_an_error() {
        let own = email("somebody@example.com");
        for text in [
            "example.com1",
            "Example.com!",
            "example.com2026!",
            "Somebody2026!",
            "1somebody@example.com1",
            "xsomebody@example",
            "example1",
        ] {
            let password = NewPassword::parse(text).ok().unwrap();
            assert!(password.differs_from(&own).is_err(), "{text}");
            assert!(password.differs_from(&email("ada@bücher.org")).is_ok(), "{text}");
        }
        let password = NewPassword::parse("BÜCHER.org1").ok().unwrap();
        assert!(password.differs_from(&email("ada@bücher.org")).is_err());
        for text in ["somebody else's horse", "somebody-4711-xyz", "exam-ple-com-body", "xyz .com?"]
        {
            assert!(NewPassword::parse(text).ok().unwrap().differs_from(&own).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_password_is_the_same_when_presented(text in "\\PC{0,140}") {
            if let Ok(stored) = accepted(&text) {
                for presented in [&text, &stored] {
                    let presented = normalize_presented(presented).unwrap();
                    prop_assert_eq!(presented.expose(), &stored);
                }
            }
        }
    }
}
