//! E-mail addresses in canonical form.
//!
//! Texts that differ only in case or in the form of the domain become the same [`Email`]: lower
//! case before the `@`, A-labels after it. An ambiguous text is rejected, not corrected.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::is_nfkc;

use crate::model::ValidationError;

/// The characters besides letters and digits that an atom may contain (RFC 5322 §3.2.3).
const ATEXT: &[u8] = b"!#$%&'*+-/=?^_`{|}~";

/// A canonical e-mail address: ASCII, lower case, at most [`Email::MAX`] characters.
///
/// Invariant: [`Email::parse`] of its text returns the same address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// The maximum length of an address, as sent and as stored, in Unicode scalar values.
    pub const MAX: usize = 256;

    /// Parses an address: an ASCII dot-atom, one `@` and a domain name of at least two labels,
    /// which may be internationalized.
    ///
    /// # Errors
    /// The text is not such an address. The error states what is required.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        if text.chars().nth(Self::MAX).is_some() {
            return Err(too_long());
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".into());
        }
        if text.chars().any(char::is_whitespace) {
            return Err("must not contain spaces".into());
        }
        if !is_nfkc(text) {
            return Err("must be in Unicode normalization form NFKC".into());
        }
        let [local, domain] = text.split('@').collect::<Vec<_>>()[..] else {
            return Err("must have exactly one @, as in name@example.com".into());
        };
        let email = format!("{}@{}", local_part(local)?, domain_name(domain)?);
        if email.len() > Self::MAX {
            let max = Self::MAX;
            let message = format!("must be at most {max} characters long with A-labels (xn--…)");
            return Err(message.into());
        }
        Ok(Self(email))
    }

    /// Returns the canonical address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the address for display, with its domain in Unicode instead of A-labels.
    #[must_use]
    pub fn to_unicode(&self) -> String {
        let (local, domain) = self.0.split_once('@').unwrap_or((&self.0, ""));
        let (domain, _) =
            Uts46::new().to_unicode(domain.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
        format!("{local}@{domain}")
    }
}

fn too_long() -> ValidationError {
    format!("must be at most {} characters long", Email::MAX).into()
}

fn local_part(text: &str) -> Result<String, ValidationError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || ATEXT.contains(&byte);
    let is_atom = |atom: &str| !atom.is_empty() && atom.bytes().all(is_allowed);
    if text.len() > 64 || !text.split('.').all(is_atom) {
        return Err("must have 1 to 64 ASCII letters, digits, single inner dots or any of \
                    !#$%&'*+-/=?^_`{|}~ before the @"
            .into());
    }
    Ok(text.to_ascii_lowercase())
}

fn domain_name(text: &str) -> Result<String, ValidationError> {
    to_a_labels(text)
        .ok_or_else(|| "must have a domain name such as example.com after the @".into())
}

/// Returns a domain name of at least two labels as lower-case A-labels; `None` for any other text,
/// such as an IP address or a name with a final dot.
pub(in crate::model) fn to_a_labels(text: &str) -> Option<String> {
    if text.chars().any(is_ignored_or_dot) {
        return None;
    }
    let name = Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify)
        .ok()?;
    let (_, last) = name.rsplit_once('.')?;
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    (!is_number).then(|| name.into_owned())
}

/// Returns whether the conversion to A-labels would silently drop this character (such as a
/// zero-width space) or treat it as a dot. No mail may go to a domain that only looks like another.
fn is_ignored_or_dot(character: char) -> bool {
    if character.is_ascii() {
        return false;
    }
    let mut bytes = [0; 4];
    let text = character.encode_utf8(&mut bytes).as_bytes();
    let (unicode, _) = Uts46::new().to_unicode(text, AsciiDenyList::EMPTY, Hyphens::Allow);
    matches!(&*unicode, "" | ".")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        match Email::parse(text) {
            Ok(email) => email.as_str().to_owned(),
            Err(ValidationError(message)) => panic!("{text:?} was rejected: {message}"),
        }
    }

    #[test]
    fn an_address_has_one_canonical_form() {
        for (sent, stored) in [
            ("a@b.co", "a@b.co"),
            ("Ada.Lovelace+x@Example.COM", "ada.lovelace+x@example.com"),
            ("!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~@example.com"),
            ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
            ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
            ("ada@faß.de", "ada@xn--fa-hia.de"),
            ("ada@例え.テスト", "ada@xn--r8jz45g.xn--zckzah"),
        ] {
            assert_eq!(canonical(sent), stored);
        }
    }

    #[test]
    fn an_invalid_address_is_an_error() {
        let invalid = [
            "",
            "@",
            "a",
            "a@",
            "@b.co",
            "a@b",
            "a@@b.co",
            "a@b@c.co",
            "a b@c.co",
            " a@b.co",
            "a@b.co ",
            "a@b.co\n",
            "a\0@b.co",
            "a\u{7f}@b.co",
            "a\u{a0}@b.co",
            "a@b.co,c@d.co",
            "a,b@c.co",
            "\"a\"@b.co",
            "\"a b\"@c.co",
            "a(x)@b.co",
            "a@(x)b.co",
            "a@[1.2.3.4]",
            "a@[IPv6:::1]",
            "a@1.2.3.4",
            "a@b.1",
            "A <a@b.co>",
            "mailto:a@b.co",
            ".a@b.co",
            "a.@b.co",
            "a..b@c.co",
            "ä@b.co",
            "а@b.co",
            "a@.b.co",
            "a@b.co.",
            "a@b..co",
            "a@-b.co",
            "a@b-.co",
            "a@b_c.co",
            "a@b.co:25",
            "a@b.co/x",
            "a@xn--.co",
            "a@xn--a.co",
            "a@ab--cd.co",
        ];
        for text in invalid {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_that_looks_like_another_is_an_error() {
        let invalid = [
            "a＠b.co",
            "a@b．co",
            "ａ@b.co",
            "a@ｂ.co",
            "a@b.co\u{feff}",
            "a@b\u{ad}c.co",
            "a@b\u{200b}c.co",
            "a@b\u{2060}c.co",
            "a@b\u{fe0f}c.co",
            "a@b。co",
            "a@b｡co",
            "a@ﬁ.co",
            "a@bu\u{308}cher.de",
            "a@b\u{202e}c.co",
            "a@℀.co",
            "a@b\u{2024}co",
        ];
        for text in invalid {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_or_a_part_that_is_too_long_is_an_error() {
        let longest = format!("{}@{}.{}.de", "a".repeat(64), "b".repeat(63), "c".repeat(63));
        assert_eq!(canonical(&longest), longest);
        let label = "d".repeat(61);
        let at_most = format!("{}@{label}.{label}.{label}.email", "a".repeat(64));
        assert_eq!(at_most.len(), Email::MAX);
        assert_eq!(canonical(&at_most), at_most);
        let international = ["日本語漢字仮名交文章試験用例題"; 4].join(".");
        assert!(Email::parse(&format!("a@{international}")).is_ok());
        for text in [
            format!("{}@b.co", "a".repeat(65)),
            format!("a@{}.co", "b".repeat(64)),
            format!("{}@{label}.{label}.{label}.emails", "a".repeat(64)),
            // Short as sent, too long as A-labels.
            format!("{}@{international}", "a".repeat(64)),
            "a".repeat(100_000),
        ] {
            assert!(Email::parse(&text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_a_canonical_address(text in "\\PC{0,20}@\\PC{0,20}") {
            if let Ok(email) = Email::parse(&text) {
                prop_assert_eq!(Email::parse(email.as_str()), Ok(email));
            }
        }

        #[test]
        fn a_canonical_address_with_an_international_domain_is_ascii_and_parses_as_itself(
            text in "[a-z0-9.]{1,5}@[\\p{L}\\p{M}\\p{N}-]{1,6}\\.[\\p{L}]{1,4}",
        ) {
            if let Ok(email) = Email::parse(&text) {
                prop_assert!(email.as_str().is_ascii());
                prop_assert_eq!(Email::parse(email.as_str()), Ok(email));
            }
        }

        #[test]
        fn addresses_that_differ_only_in_case_are_the_same(
            text in "[a-z0-9+]{1,9}(\\.[a-z])?@[a-z0-9]{1,9}\\.[a-z]{2}",
        ) {
            let email = Email::parse(&text);
            prop_assert!(email.is_ok());
            prop_assert_eq!(Email::parse(&text.to_ascii_uppercase()), email);
        }
    }
}
