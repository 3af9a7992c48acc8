//! New passwords and presented ones.
//!
//! Both are normalized first (RFC 8265 §4.2: every space becomes U+0020, then NFC), so that the
//! same password typed on two keyboards has the same bytes. Case is preserved.
//!
//! The common passwords are gathered from Django (BSD-3-Clause, after Royce Williams' list)
//! and zxcvbn (MIT).

use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;

use crate::model::ValidationError;
use crate::model::email::Email;
use crate::model::secret::Secret;

/// The shortest password, in Unicode scalar values of its one form.
const MIN: usize = 8;
/// The longest password, likewise.
const MAX: usize = 128;

/// What guessers try first: one a line, in lower case, in the order of their bytes.
static COMMON: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// A new password.
///
/// Invariant: 8 to 128 characters, none a control character, and no common password.
pub struct NewPassword(Secret);

impl NewPassword {
    /// Reads a chosen password.
    ///
    /// # Errors
    /// A password that breaks a rule, in words that name the rule and never the password.
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

    /// Checks that the password is not made of the address of the account that it protects: an
    /// attacker knows the address, and tries it and its parts with a few characters more.
    ///
    /// # Errors
    /// A password that is read as the same address, or more than half of which is one piece of it,
    /// whatever its case.
    pub fn differs_from(&self, email: &Email) -> Result<(), ValidationError> {
        let password = self.0.expose();
        let is_same = Email::parse(password).is_ok_and(|same| same == *email);
        let spellings = [email.as_str(), &email.to_unicode()];
        if is_same || spellings.iter().any(|address| is_mostly_of(password, address)) {
            return Err("must not be made of your e-mail address".into());
        }
        Ok(())
    }

    /// The password, to hash it.
    #[must_use]
    pub fn into_secret(self) -> Secret {
        self.0
    }
}

/// Normalizes a presented password as it was hashed. `None` where it is longer than any password.
#[must_use]
pub fn normalize_presented(text: &str) -> Option<Secret> {
    normalize(text).map(Secret::new)
}

/// Whether more than half of a password is one piece of `address`, which is in lower case.
fn is_mostly_of(password: &str, address: &str) -> bool {
    let password: Vec<char> = password.to_lowercase().chars().collect();
    let address: Vec<char> = address.chars().collect();
    // How long a piece both have that ends here: in the password at this character, in the address
    // at each.
    let mut lengths = vec![0; address.len() + 1];
    let mut longest = 0;
    for character in &password {
        for at in (0..address.len()).rev() {
            lengths[at + 1] = if address[at] == *character { lengths[at] + 1 } else { 0 };
            longest = longest.max(lengths[at + 1]);
        }
    }
    longest * 2 > password.len()
}

/// The one form of a password; `None` where that is longer than [`MAX`]. It stops reading there.
fn normalize(text: &str) -> Option<String> {
    let plain = |c: char| if is_other_space(c) { ' ' } else { c };
    let mut characters = text.chars().map(plain).nfc();
    let password = characters.by_ref().take(MAX).collect();
    characters.next().is_none().then_some(password)
}

/// Whether this is a space (Unicode's category Zs), but not the plain one.
fn is_other_space(c: char) -> bool {
    c.is_whitespace() && !c.is_ascii() && !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(text: &str) -> Result<String, ValidationError> {
        NewPassword::parse(text).map(|it| it.into_secret().expose().to_owned())
    }

    fn refusal(text: &str) -> String {
        match NewPassword::parse(text) {
            Ok(_) => panic!("{text:?} was taken"),
            Err(ValidationError(message)) => message.into_owned(),
        }
    }

    fn email(text: &str) -> Email {
        Email::parse(text).unwrap()
    }

    #[test]
    fn a_password_has_8_to_128_characters_however_many_bytes() {
        for text in ["zq 7 xv!", "🦀🐢🐙🦑🐌🦎🐍🦖", &"ž".repeat(128)] {
            assert_eq!(held(text).as_deref(), Ok(text));
        }
        for text in ["", "zq 7 xv", "🦀🐢🐙", &"ž".repeat(129), &"x".repeat(1_000_000)] {
            assert_eq!(refusal(text), "must be 8 to 128 characters long");
        }
    }

    #[test]
    fn control_characters_are_refused() {
        for text in ["zq7xv!kw\0", "zq7\txv!kw", "zq7xv!kw\n", "zq7xv!\u{85}kw"] {
            assert_eq!(refusal(text), "must not contain control characters");
        }
    }

    #[test]
    fn a_common_password_is_refused_in_any_case() {
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
            assert_eq!(refusal(text), "is among the most common passwords; choose another");
        }
        assert!(held("password but longer").is_ok());
    }

    #[test]
    fn the_common_passwords_are_sorted_and_in_the_form_they_are_looked_up_in() {
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
    fn two_keyboards_give_the_same_password() {
        let locked = held("cafe\u{301} cre\u{300}me").unwrap();
        assert_eq!(locked, "café crème");
        for shown in ["café crème", "cafe\u{301}\u{a0}crème", "café\u{3000}cre\u{300}me"] {
            assert_eq!(normalize_presented(shown).unwrap().expose(), locked);
        }
    }

    #[test]
    fn an_attempt_has_no_rule_but_the_longest_length() {
        for text in ["", "x", "password", "\0", &"x".repeat(128)] {
            assert_eq!(normalize_presented(text).unwrap().expose(), text);
        }
        assert!(normalize_presented(&"x".repeat(129)).is_none());
    }

    #[test]
    fn the_own_address_is_refused_in_any_case_and_spelling() {
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
    fn a_password_made_of_a_piece_of_the_own_address_is_refused() {
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
        fn a_password_that_was_taken_can_be_shown_again(text in "\\PC{0,140}") {
            if let Ok(locked) = held(&text) {
                for shown in [&text, &locked] {
                    let shown = normalize_presented(shown).unwrap();
                    prop_assert_eq!(shown.expose(), &locked);
                }
            }
        }
    }
}
