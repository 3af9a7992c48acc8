//! The device flow's codes and requests (RFC 8628).

use std::time::Duration;

use crate::entropy::Entropy;
use crate::model::ids::{AccountId, SessionId};
use crate::model::oauth::authorization_request::RequestedAccess;
use crate::model::oauth::client::OauthClient;
use crate::model::secret::{Digest, Secret};

/// How long a person has to type the code and to answer.
pub const DEVICE_LIFETIME: Duration = Duration::from_mins(10);
/// How many seconds a device waits between two polls at first.
pub const POLL_INTERVAL_SECONDS: i32 = 5;
/// How many seconds longer it has to wait after each poll that came too early (RFC 8628 §3.5).
pub const SLOW_DOWN_SECONDS: i32 = 5;

/// The letters of user codes: no vowels, so that they spell no words (RFC 8628 §6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// The number of letters of a user code: 20^8 is about 2^34.
const LENGTH: usize = 8;

/// The code that a person types: 8 letters, which are compared without case and punctuation.
pub struct UserCode(String);

impl UserCode {
    /// Generates a code, each equally likely.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        const UNBIASED_BELOW: u8 = 20 * 12;
        let (mut text, mut bytes) = (String::with_capacity(LENGTH), [0_u8; 16]);
        while text.len() < LENGTH {
            entropy.fill(&mut bytes);
            let unbiased = bytes.iter().filter(|byte| **byte < UNBIASED_BELOW);
            let letters = unbiased.map(|byte| char::from(LETTERS[usize::from(byte % 20)]));
            text.extend(letters.take(LENGTH - text.len()));
        }
        Self(text)
    }

    /// Parses what a person typed; `None` if it cannot be a code.
    #[must_use]
    pub fn parse(typed: &str) -> Option<Self> {
        let letters = typed.chars().filter(char::is_ascii_alphanumeric);
        let text: String = letters.take(LENGTH + 1).map(|it| it.to_ascii_uppercase()).collect();
        let is_valid = text.len() == LENGTH && text.bytes().all(|byte| LETTERS.contains(&byte));
        is_valid.then_some(Self(text))
    }

    /// Returns the code as it is displayed: `WDJB-MJHT`.
    #[must_use]
    pub fn display(&self) -> Secret {
        let (first, second) = self.0.split_at(LENGTH / 2);
        Secret::new(format!("{first}-{second}"))
    }

    /// Returns the text to digest. No other secret has it.
    #[must_use]
    pub fn digested_text(&self) -> Secret {
        Secret::new(format!("user code {}", self.0))
    }
}

/// A request of a device to insert.
pub struct NewDevice<'a> {
    /// The digest of the device code.
    pub digest: Digest,
    /// The digest of the user code.
    pub user_code: Digest,
    /// The client that makes it.
    pub client: &'a OauthClient,
    /// What it requests.
    pub access: &'a RequestedAccess,
}

/// A person's claim of a request, in a session.
#[derive(Clone, Copy)]
pub struct DeviceClaim {
    /// The account.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
}

/// A request that a person has claimed, and neither approved nor denied.
pub struct ClaimedDevice {
    /// The digest of the device code.
    pub digest: Digest,
    /// The public id of the client.
    pub client_id: String,
    /// What it requests.
    pub access: RequestedAccess,
}

/// What a poll finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevicePoll {
    /// The person has not answered. If `is_early`, less than the interval has passed since the
    /// last poll, and the interval was lengthened.
    Pending {
        /// Whether the poll came too early.
        is_early: bool,
    },
    /// The person approved: there is a code with the same digest.
    Approved,
    /// The person denied the request, or their role permits none of it.
    Denied,
    /// The person did not answer in time.
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    fn typed(text: &str) -> Option<String> {
        UserCode::parse(text).map(|code| code.display().expose().to_owned())
    }

    #[test]
    fn a_user_code_is_compared_without_case_and_punctuation() {
        for text in ["WDJB-MJHT", "wdjbmjht", " wdjb mjht ", "W-D-J-B-M-J-H-T", "wdjb–mjht"] {
            assert_eq!(typed(text).as_deref(), Some("WDJB-MJHT"), "{text}");
        }
        for text in ["", "WDJB-MJH", "WDJB-MJHTT", "WDJB-MJHA", "WDJB-MJH1", "ẞDJB-MJHT"] {
            assert_eq!(typed(text), None, "{text}");
        }
    }

    #[test]
    fn generated_user_codes_use_every_letter_and_are_valid() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let code = UserCode::generate(&SystemEntropy);
            assert!(typed(code.display().expose()).is_some());
            seen.extend(code.0.bytes());
        }
        assert_eq!(seen.len(), LETTERS.len());
    }
}
