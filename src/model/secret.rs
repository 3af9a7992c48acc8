//! Plaintext secrets, and the digests that replace them below the edge of HTTP.

use std::fmt;

use zeroize::Zeroizing;

/// The plaintext of a key, token or other secret.
///
/// Invariant: it cannot be printed, copied or serialized. Only [`Secret::expose`] returns it, so a
/// search for `expose` finds every use. Its memory is overwritten when it is dropped.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a plaintext.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Returns the plaintext: to digest it, or to return it to its owner once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the length of the plaintext in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.len()
    }
}

/// The HMAC-SHA-256 of a secret under a pepper, which is stored and looked up instead of the
/// secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Creates the digest with these bytes.
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

/// A secret that is stored encrypted, because the server must be able to read it again.
#[derive(Clone)]
pub struct SealedSecret {
    /// The id of the sealing key.
    pub key_id: String,
    /// The nonce, the ciphertext and the tag.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedSecret({})", self.key_id)
    }
}
