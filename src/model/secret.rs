//! A plaintext and the digest that stands for it everywhere below the edge.

use std::fmt;

use zeroize::Zeroizing;

/// A key, token or other plaintext.
///
/// Invariant: it can be neither printed, copied nor serialized; only [`Secret::expose`] reads it,
/// so a search for that word finds every place that does. Its memory is overwritten when it is
/// dropped.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a plaintext.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The plaintext: to digest it, or to hand it to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The HMAC-SHA-256 of a secret under a pepper: what is stored and looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the value of the database's column.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}
