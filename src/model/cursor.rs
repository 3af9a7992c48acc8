//! Cursors, which state where a page of results ends. They are opaque to callers, and bound to a
//! list and an organization.
//!
//! A cursor contains the position of the page's last item, not an offset, so that no item is
//! repeated or skipped if others are added or removed between two requests.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::model::secret::Digest;

/// The size of the position, in bytes.
const POSITION_BYTES: usize = 16;
/// The number of bytes of the seal that are sent: enough that it cannot be guessed.
pub(super) const SEAL_BYTES: usize = 16;

/// A list with cursors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagedList {
    /// The live keys of an organization.
    LiveKeys,
    /// All keys of an organization.
    AllKeys,
    /// The audit log of an organization.
    AuditEvents,
    /// The rejected requests of an organization.
    Denials,
}

impl PagedList {
    /// Returns the text that a cursor's seal is computed over.
    #[must_use]
    pub fn sealed_text(self, organization: &str, position: u128) -> String {
        format!("cursor {self:?} {organization} {position:032x}")
    }
}

/// Encodes a cursor.
#[must_use]
pub fn encode(position: u128, seal: &Digest) -> String {
    let mut bytes = position.to_be_bytes().to_vec();
    bytes.extend_from_slice(&seal.bytes()[..SEAL_BYTES]);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes a cursor into its position and its seal, which the caller must compare; `None` if the
/// text is not a cursor.
#[must_use]
pub fn decode(text: &str) -> Option<(u128, Vec<u8>)> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    if bytes.len() != POSITION_BYTES + SEAL_BYTES {
        return None;
    }
    let (position, seal) = bytes.split_first_chunk::<POSITION_BYTES>()?;
    Some((u128::from_be_bytes(*position), seal.to_vec()))
}

/// Returns whether a cursor's seal is the beginning of `expected`. Takes constant time.
#[must_use]
pub fn matches_seal(sent: &[u8], expected: &Digest) -> bool {
    subtle::ConstantTimeEq::ct_eq(sent, &expected.bytes()[..SEAL_BYTES]).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_decodes_to_its_position_and_seal(position: u128, seal: [u8; 32]) {
            let (decoded, sent) = decode(&encode(position, &Digest::new(seal))).expect("a cursor");
            prop_assert_eq!(decoded, position);
            prop_assert!(matches_seal(&sent, &Digest::new(seal)));
        }

        #[test]
        fn decoding_a_cursor_never_panics(text in "\\PC*", almost in "[A-Za-z0-9_-]{40,46}") {
            let _ = (decode(&text), decode(&almost));
        }
    }
}
