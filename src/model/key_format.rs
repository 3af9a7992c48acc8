//! The format of keys and tokens: `<prefix><43 base62><6 base62 checksum>`.
//!
//! The checksum is the CRC-32 of everything before it. With it, a secret scanner, a typo check and
//! the server can reject malformed text without a database. It protects from accidents, not from
//! attackers.

use crate::entropy::{Entropy, random_base62};
use crate::model::ValidationError;
use crate::model::secret::Secret;

/// The number of random characters, which contain 256 random bits: 62^43 > 2^256.
const RANDOM_LENGTH: usize = 43;
/// The number of characters of the checksum, a CRC-32: 62^6 > 2^32.
const CHECKSUM_LENGTH: usize = 6;
/// The number of characters after the prefix that may be displayed, to distinguish keys.
const DISPLAY_ID_LENGTH: usize = 8;

/// The stored prefix of imported keys, whose texts have no prefix that this deployment knows.
pub const IMPORTED_PREFIX: &str = "imported_";

/// Returns the text that is digested for an imported key: not the key but its SHA-256, since the
/// system that created the key may have stored nothing else.
#[must_use]
pub fn imported_text(sha256: &[u8; 32]) -> String {
    format!("sha256:{}", hex::encode(sha256))
}

/// The format of one kind of key or token, which its prefix identifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFormat {
    prefix: String,
}

impl KeyFormat {
    /// The prefixes of what only Tenantry parses: the tokens of sessions and of mailed links,
    /// refresh tokens, and OAuth's access tokens, refresh tokens, codes, requests, secrets,
    /// registration access tokens, and device codes, and the states and sessions of single
    /// sign-on.
    pub const INTERNAL_PREFIXES: [&str; 12] = [
        "tnt_session_",
        "tnt_link_",
        "tnt_refresh_",
        "tnt_oauth_",
        "tnt_oauth_refresh_",
        "tnt_oauth_code_",
        "tnt_oauth_request_",
        "tnt_oauth_secret_",
        "tnt_oauth_registration_",
        "tnt_oauth_device_",
        "tnt_sso_state_",
        "tnt_sso_session_",
    ];

    /// Creates the format with this prefix: a lower-case letter, then up to 30 lower-case letters,
    /// digits and underscores, then an underscore.
    ///
    /// # Errors
    /// The text is not such a prefix. The error is a message for the operator who configures it.
    pub fn parse(prefix: &str) -> Result<Self, ValidationError> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_valid = (2..=32).contains(&prefix.len())
            && prefix.as_bytes()[0].is_ascii_lowercase()
            && prefix.ends_with('_')
            && prefix.bytes().all(is_allowed);
        if prefix == IMPORTED_PREFIX {
            Err("must not be imported_, which is reserved for imported keys".into())
        } else if is_valid {
            Ok(Self { prefix: prefix.to_owned() })
        } else {
            Err("must be 2 to 32 of a-z, 0-9 and _, start with a letter and end with _".into())
        }
    }

    /// Returns the default format of personal access tokens.
    #[must_use]
    pub fn personal_token() -> Self {
        Self { prefix: "tnt_pat_".to_owned() }
    }

    /// Returns the format of session tokens, which cookies contain.
    #[must_use]
    pub fn session_token() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[0].to_owned() }
    }

    /// Returns the format of the tokens of mailed links.
    #[must_use]
    pub fn link_token() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[1].to_owned() }
    }

    /// Returns the format of refresh tokens. Only Tenantry parses them, so the format is fixed.
    #[must_use]
    pub fn refresh_token() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[2].to_owned() }
    }

    /// Returns the format of OAuth access tokens.
    #[must_use]
    pub fn oauth_token() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[3].to_owned() }
    }

    /// Returns the format of OAuth refresh tokens.
    #[must_use]
    pub fn oauth_refresh_token() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[4].to_owned() }
    }

    /// Returns the format of OAuth authorization codes.
    #[must_use]
    pub fn oauth_code() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[5].to_owned() }
    }

    /// Returns the format of the handles of OAuth authorization requests.
    #[must_use]
    pub fn oauth_request() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[6].to_owned() }
    }

    /// Returns the format of the secrets of OAuth clients.
    #[must_use]
    pub fn oauth_secret() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[7].to_owned() }
    }

    /// Returns the format of the tokens with which OAuth clients manage their registrations.
    #[must_use]
    pub fn oauth_registration_token() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[8].to_owned() }
    }

    /// Returns the format of the codes with which devices poll (RFC 8628).
    #[must_use]
    pub fn oauth_device_code() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[9].to_owned() }
    }

    /// Returns the format of tokens of sessions that single sign-on began. It is another one so
    /// that a server of a version that does not know their limits does not accept them.
    #[must_use]
    pub fn sso_session_token() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[11].to_owned() }
    }

    /// Returns the format of the states with which identity providers answer a sign-in.
    #[must_use]
    pub fn sso_state() -> Self {
        Self { prefix: Self::INTERNAL_PREFIXES[10].to_owned() }
    }

    /// Returns whether `text` has one of the formats that only Tenantry parses.
    #[must_use]
    pub fn is_internal_token(text: &str) -> bool {
        let format = |prefix: &&str| Self { prefix: (*prefix).to_owned() };
        Self::INTERNAL_PREFIXES.iter().any(|prefix| format(prefix).matches(text))
    }

    /// Returns the prefix of every text of this format.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Generates a text of this format with 256 random bits.
    pub fn generate(&self, entropy: &dyn Entropy) -> Secret {
        let mut text = format!("{}{}", self.prefix, random_base62(entropy, RANDOM_LENGTH));
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Secret::new(text)
    }

    /// Returns whether `text` has this format and a valid checksum.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Some(rest) = text.strip_prefix(&self.prefix) else { return false };
        rest.len() == RANDOM_LENGTH + CHECKSUM_LENGTH
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && has_checksum(text)
    }

    /// Returns the 8 characters after the prefix, which may be displayed; `None` for malformed
    /// text.
    #[must_use]
    pub fn display_id<'a>(&self, text: &'a str) -> Option<&'a str> {
        let is_well_formed = self.matches(text);
        is_well_formed.then(|| &text[self.prefix.len()..self.prefix.len() + DISPLAY_ID_LENGTH])
    }

    /// Returns a regular expression that finds texts of all these formats, for secret scanners.
    #[must_use]
    pub fn pattern(formats: &[Self]) -> String {
        let prefixes: Vec<_> = formats.iter().map(Self::prefix).collect();
        format!(r"\b(?:{})[0-9A-Za-z]{{{}}}\b", prefixes.join("|"), RANDOM_LENGTH + CHECKSUM_LENGTH)
    }
}

impl Default for KeyFormat {
    /// Returns the format of keys in a deployment that configures none.
    fn default() -> Self {
        Self { prefix: "tnt_live_".to_owned() }
    }
}

/// Returns the CRC-32 (ISO-HDLC, as in gzip) in base62, padded with zeros.
fn checksum(text: &str) -> String {
    format!(
        "{:0>width$}",
        base62::encode(crc32fast::hash(text.as_bytes())),
        width = CHECKSUM_LENGTH
    )
}

/// Returns whether letters and digits end with the checksum of what is before it.
fn has_checksum(text: &str) -> bool {
    let (checked, checksum) = text.split_at(text.len() - CHECKSUM_LENGTH);
    base62::decode(checksum) == Ok(crc32fast::hash(checked.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use proptest::prelude::*;
    use regex::Regex;

    fn format() -> KeyFormat {
        KeyFormat::default()
    }

    proptest! {
        #[test]
        fn a_generated_key_has_its_format(prefix in "[a-z][a-z0-9_]{0,30}_") {
            let format = KeyFormat::parse(&prefix).expect("a good prefix");
            prop_assert!(format.matches(format.generate(&SystemEntropy).expose()));
        }

        #[test]
        fn the_pattern_matches_every_generated_key_and_no_text_of_another_length(
            prefix in "[a-z][a-z0-9_]{0,30}_",
            more in "[0-9A-Za-z_]{1,3}",
            length in 0_usize..49,
        ) {
            let format = KeyFormat::parse(&prefix).expect("a good prefix");
            let formats = [format.clone(), KeyFormat::personal_token()];
            let pattern = Regex::new(&KeyFormat::pattern(&formats)).expect("a pattern");
            for format in &formats {
                let key = format.generate(&SystemEntropy);
                let key = key.expose();
                let quoted = format!("KEY=\"{key}\"");
                let found = pattern.find(&quoted).map(|found| found.as_str());
                prop_assert_eq!(found, Some(key));
                let short = &key[..format.prefix().len() + length];
                for text in [short.to_owned(), format!("{key}{more}"), format!("{more}{key}")] {
                    prop_assert!(!pattern.is_match(&text), "{}", text);
                }
            }
        }

        #[test]
        fn a_key_with_a_changed_character_is_malformed(at in 0_usize..58, to in "[0-9A-Za-z_]") {
            let key = format().generate(&SystemEntropy);
            let mut changed = key.expose().to_owned();
            changed.replace_range(at..=at, &to);
            prop_assert_eq!(format().matches(&changed), changed == key.expose());
        }

        #[test]
        fn any_other_text_is_malformed_and_never_panics(text in "\\PC*") {
            prop_assert!(!format().matches(&text));
            let prefixed = format!("tnt_live_{text}");
            prop_assert!(!format().matches(&prefixed));
        }
    }

    #[test]
    fn the_checksum_is_the_crc_32_that_other_tools_compute() {
        // `python3 -c 'import zlib; print(zlib.crc32(b"123456789"))'` prints 3421780262.
        assert_eq!(checksum("123456789"), format!("{:0>6}", base62::encode(3_421_780_262_u32)));
    }

    #[test]
    fn an_invalid_prefix_is_an_error() {
        for prefix in
            ["", "_", "imported_", "tnt", "Tnt_", "1tnt_", "tnt-live_", "é_", &"a".repeat(40)]
        {
            assert!(KeyFormat::parse(prefix).is_err(), "{prefix:?}");
        }
    }
}
