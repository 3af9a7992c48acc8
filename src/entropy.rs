//! The source of randomness. It is injected, so that a test can seed it.

use rand::Rng;

/// The 62 characters of ids and keys, in the order of their base62 values.
pub const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A source of unpredictable random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// A thread-local generator that is seeded by the operating system.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// Returns `length` random characters of [`BASE62`], each equally likely: bytes that would bias the
/// choice are discarded.
pub fn random_base62(entropy: &dyn Entropy, length: usize) -> String {
    const UNBIASED_BELOW: u8 = 62 * 4;
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        entropy.fill(&mut bytes);
        let unbiased = bytes.iter().filter(|byte| **byte < UNBIASED_BELOW);
        let characters = unbiased.map(|byte| char::from(BASE62[usize::from(byte % 62)]));
        text.extend(characters.take(length - text.len()));
    }
    text
}
