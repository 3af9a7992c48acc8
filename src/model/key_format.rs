//! The text of a key (contract §1, *Keys*): `<prefix><43 base62><6 base62 checksum>`.
//!
//! The checksum is the CRC-32 of everything before it, so that a scanner, a typo check and the
//! server can reject garbage without a database. It guards against accidents, not attackers.

use crate::entropy::{Entropy, random_base62};
use crate::model::ValidationError;
use crate::model::secret::Secret;

/// 62^43 > 2^256: this many characters carry 256 random bits.
const RANDOM_LENGTH: usize = 43;
/// 62^6 > 2^32: this many characters carry a CRC-32.
const CHECKSUM_LENGTH: usize = 6;
/// How many characters after the prefix may be displayed, to distinguish keys.
const DISPLAY_ID_LENGTH: usize = 8;

/// The stored prefix of imported keys, whose text has no prefix that this deployment knows.
pub const IMPORTED_PREFIX: &str = "imported_";

/// What is digested for a key that was minted elsewhere: not its text but the SHA-256 of it, which
/// may be all that its former home still has.
#[must_use]
pub fn imported_text(sha256: &[u8; 32]) -> String {
    format!("sha256:{}", hex::encode(sha256))
}

/// One kind of key: texts that start with its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFormat {
    prefix: String,
}

impl KeyFormat {
    /// The format with this prefix: a lower-case letter, then up to 30 lower-case letters, digits
    /// and underscores, then an underscore.
    ///
    /// # Errors
    /// Any other text, in words for the operator who configures it.
    pub fn parse(prefix: &str) -> Result<Self, ValidationError> {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let fits = (2..=32).contains(&prefix.len())
            && prefix.as_bytes()[0].is_ascii_lowercase()
            && prefix.ends_with('_')
            && prefix.bytes().all(word);
        if prefix == IMPORTED_PREFIX {
            Err("must not be imported_, which stands for keys from elsewhere".into())
        } else if fits {
            Ok(Self { prefix: prefix.to_owned() })
        } else {
            Err("must be 2 to 32 of a-z, 0-9 and _, start with a letter and end with _".into())
        }
    }

    /// The format of personal access tokens of a deployment that configures none.
    #[must_use]
    pub fn personal_token() -> Self {
        Self { prefix: "tnt_pat_".to_owned() }
    }

    /// The format of session tokens, which cookies contain.
    #[must_use]
    pub fn session_token() -> Self {
        Self { prefix: "tnt_session_".to_owned() }
    }

    /// The format of the tokens of mailed links.
    #[must_use]
    pub fn link_token() -> Self {
        Self { prefix: "tnt_link_".to_owned() }
    }

    /// The format of refresh tokens. Only we read them, so it is the same in every deployment.
    #[must_use]
    pub fn refresh_token() -> Self {
        Self { prefix: "tnt_refresh_".to_owned() }
    }

    /// Whether `text` is a secret that only we read: a token of a session, a link or a refresh.
    #[must_use]
    pub fn is_internal_token(text: &str) -> bool {
        let ours = [Self::session_token(), Self::link_token(), Self::refresh_token()];
        ours.iter().any(|format| format.matches(text))
    }

    /// What every text of this format starts with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A new text with 256 random bits.
    pub fn mint(&self, entropy: &dyn Entropy) -> Secret {
        let mut text = format!("{}{}", self.prefix, random_base62(entropy, RANDOM_LENGTH));
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Secret::new(text)
    }

    /// Whether `text` could have been minted here.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(&self.prefix) else { return false };
        rest.len() == RANDOM_LENGTH + CHECKSUM_LENGTH
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && checksum(&text[..text.len() - CHECKSUM_LENGTH])
                == text[text.len() - CHECKSUM_LENGTH..]
    }

    /// Returns the 8 characters after the prefix, which may be displayed; `None` for malformed
    /// text.
    #[must_use]
    pub fn display_id<'a>(&self, text: &'a str) -> Option<&'a str> {
        let recognised = self.matches(text);
        recognised.then(|| &text[self.prefix.len()..self.prefix.len() + DISPLAY_ID_LENGTH])
    }

    /// The regular expression for secret scanners that finds texts of all these formats.
    #[must_use]
    pub fn pattern(formats: &[Self]) -> String {
        let prefixes: Vec<_> = formats.iter().map(Self::prefix).collect();
        format!(r"\b(?:{})[0-9A-Za-z]{{{}}}\b", prefixes.join("|"), RANDOM_LENGTH + CHECKSUM_LENGTH)
    }
}

impl Default for KeyFormat {
    /// The format of a deployment that configures none.
    fn default() -> Self {
        Self { prefix: "tnt_live_".to_owned() }
    }
}

/// CRC-32 (ISO-HDLC, as in gzip) in base62, padded with zeros.
fn checksum(text: &str) -> String {
    format!(
        "{:0>width$}",
        base62::encode(crc32fast::hash(text.as_bytes())),
        width = CHECKSUM_LENGTH
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use proptest::prelude::*;

    fn format() -> KeyFormat {
        KeyFormat::default()
    }

    proptest! {
        #[test]
        fn a_minted_key_is_recognised(prefix in "[a-z][a-z0-9_]{0,30}_") {
            let format = KeyFormat::parse(&prefix).expect("a good prefix");
            prop_assert!(format.matches(format.mint(&SystemEntropy).expose()));
        }

        #[test]
        fn any_one_character_change_is_refused(at in 0_usize..58, to in "[0-9A-Za-z_]") {
            let key = format().mint(&SystemEntropy);
            let mut changed = key.expose().to_owned();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(format().matches(&changed), changed == key.expose());
        }

        #[test]
        fn garbage_never_panics(text in "\\PC*") {
            prop_assert!(!format().matches(&text));
            let prefixed = format!("tnt_live_{text}");
            prop_assert!(!format().matches(&prefixed));
        }
    }

    #[test]
    fn the_checksum_is_the_one_other_tools_compute() {
        // `python3 -c 'import zlib; print(zlib.crc32(b"123456789"))'` prints 3421780262.
        assert_eq!(checksum("123456789"), format!("{:0>6}", base62::encode(3_421_780_262_u32)));
    }

    #[test]
    fn a_prefix_that_could_end_inside_the_key_is_refused() {
        for prefix in
            ["", "_", "imported_", "tnt", "Tnt_", "1tnt_", "tnt-live_", "é_", &"a".repeat(40)]
        {
            assert!(KeyFormat::parse(prefix).is_err(), "{prefix:?}");
        }
    }
}
