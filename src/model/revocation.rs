//! Entries for verifiers that cache verdicts: what ended or lost permissions, and the position of a
//! reader among the entries.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};

use crate::model::cursor::SEAL_BYTES;
use crate::model::ids::KeyId;
use crate::model::secret::Digest;

/// The size of one number of a cursor, in bytes.
const NUMBER_BYTES: usize = 8;
/// The count of numbers before the list of running transactions.
const FIXED_NUMBERS: usize = 4;
/// The maximum number of running transactions in a cursor, so that it fits into a URL.
const MAX_RUNNING: usize = 64;

/// A credential or an organization whose checks may no longer be answered as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What happened, such as `key.revoked`. A newer server may write types that this one does not
    /// know.
    pub event: String,
    /// The organization's public id.
    pub organization_handle: String,
    /// The key or personal access token; `None` for all of the organization.
    pub key: Option<KeyId>,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// What a reader has read: every entry of earlier transactions, except those that were running
/// then. Their entries are still to be read, although entries with higher ids were read already. A
/// position that is only an id would skip them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationCursor {
    /// Identifies the running database, because another one counts its transactions anew.
    pub instance: i64,
    /// When the cursor was created, in seconds since 1970 by the database's clock.
    pub created_at: i64,
    /// The first transaction of which not every entry was read.
    pub transaction: i64,
    /// The last entry of that transaction that was read.
    pub entry: i64,
    /// The earlier transactions that were running, ascending.
    pub running: Vec<i64>,
}

impl RevocationCursor {
    /// Returns the same position with a bounded list of running transactions. If there are more,
    /// the position moves back to the first one that is left out, and entries after it are read
    /// again.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.running.retain(|running| *running < self.transaction);
        if let Some(first) = self.running.get(MAX_RUNNING).copied() {
            self.running.truncate(MAX_RUNNING);
            (self.transaction, self.entry) = (first, 0);
        }
        self
    }

    /// Returns the text that a cursor's seal is computed over.
    #[must_use]
    pub fn sealed_text(&self) -> String {
        format!("cursor Revocations {self:?}")
    }

    /// Encodes the cursor.
    #[must_use]
    pub fn encode(&self, seal: &Digest) -> String {
        let fixed = [self.instance, self.created_at, self.transaction, self.entry];
        let numbers = fixed.iter().chain(&self.running);
        let mut bytes: Vec<u8> = numbers.flat_map(|number| number.to_be_bytes()).collect();
        bytes.extend_from_slice(&seal.bytes()[..SEAL_BYTES]);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Decodes a cursor and its seal, which the caller must compare; `None` if the text is not a
    /// cursor.
    #[must_use]
    pub fn decode(text: &str) -> Option<(Self, Vec<u8>)> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (numbers, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL_BYTES)?)?;
        let (numbers, rest) = numbers.as_chunks::<NUMBER_BYTES>();
        let mut numbers = numbers.iter().map(|bytes| i64::from_be_bytes(*bytes));
        if !rest.is_empty() || numbers.len() > FIXED_NUMBERS + MAX_RUNNING {
            return None;
        }
        let cursor = Self {
            instance: numbers.next()?,
            created_at: numbers.next()?,
            transaction: numbers.next()?,
            entry: numbers.next()?,
            running: numbers.collect(),
        };
        Some((cursor, seal.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cursor::matches_seal;
    use proptest::prelude::*;

    fn cursor(transaction: i64, running: Vec<i64>) -> RevocationCursor {
        RevocationCursor { instance: -7, created_at: 5, transaction, entry: 3, running }
    }

    proptest! {
        #[test]
        fn a_cursor_decodes_to_itself(transaction: i64, running in prop::collection::vec(
            any::<i64>(), 0..=MAX_RUNNING), seal: [u8; 32],
        ) {
            let sent = cursor(transaction, running);
            let (decoded, seal_sent) =
                RevocationCursor::decode(&sent.encode(&Digest::new(seal))).expect("a cursor");
            prop_assert_eq!(decoded, sent);
            prop_assert!(matches_seal(&seal_sent, &Digest::new(seal)));
        }

        #[test]
        fn decoding_never_panics(text in "\\PC*", almost in "[A-Za-z0-9_-]{0,120}") {
            let _ = (RevocationCursor::decode(&text), RevocationCursor::decode(&almost));
        }
    }

    #[test]
    fn a_cursor_with_too_many_running_transactions_moves_back_and_skips_none() {
        let few = cursor(1_000, vec![10, 20, 1_000, 1_001]).bounded();
        assert_eq!((few.transaction, few.entry, few.running), (1_000, 3, vec![10, 20]));
        let many = cursor(1_000, (100..200).collect()).bounded();
        assert_eq!((many.transaction, many.entry), (164, 0));
        assert_eq!(many.running, (100..164).collect::<Vec<_>>());
    }
}
