//! Cursors: where a page of results ends. Opaque to callers, and bound to a list and an
//! organization.
//!
//! A cursor names the last item of the page, not a count, so that items which are added or removed
//! between two pages neither repeat nor hide others.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::model::secret::Digest;

/// How many bytes the position has.
const POSITION_BYTES: usize = 16;
/// How many bytes of the seal are sent: enough that it cannot be guessed.
const SEAL_BYTES: usize = 16;

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

/// Decodes a cursor's position, and the seal that has to be compared; `None` for any other text.
#[must_use]
pub fn decode(text: &str) -> Option<(u128, Vec<u8>)> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    if bytes.len() != POSITION_BYTES + SEAL_BYTES {
        return None;
    }
    let (position, seal) = bytes.split_first_chunk::<POSITION_BYTES>()?;
    Some((u128::from_be_bytes(*position), seal.to_vec()))
}

/// Whether the seal of a cursor is the beginning of `expected`.
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
        fn a_cursor_reads_back_as_its_position(position: u128, seal: [u8; 32]) {
            let (read, sent) = decode(&encode(position, &Digest::new(seal))).expect("a cursor");
            prop_assert_eq!(read, position);
            prop_assert!(matches_seal(&sent, &Digest::new(seal)));
        }

        #[test]
        fn reading_a_cursor_never_panics(text in "\\PC*", almost in "[A-Za-z0-9_-]{40,46}") {
            let _ = (decode(&text), decode(&almost));
        }
    }
}
