//! The Argon2id hash of a password and the PHC string that it is stored as.
//!
//! The caller provides the working memory, which always has the same size. A stored hash that needs
//! more memory than the current parameters is rejected.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};

use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::model::secret::Secret;

/// The current parameters: 19 MiB, two passes, one lane.
const CURRENT_PARAMS: Params = Params::DEFAULT;
const _: () = assert!(
    CURRENT_PARAMS.m_cost() == 19_456
        && CURRENT_PARAMS.t_cost() == 2
        && CURRENT_PARAMS.p_cost() == 1
);
/// The length of the hash in bytes.
const OUTPUT_LENGTH: usize = Params::DEFAULT_OUTPUT_LEN;
/// The length of the salt in bytes.
const SALT_LENGTH: usize = argon2::RECOMMENDED_SALT_LEN;

/// Allocates the memory for computing one hash at a time.
#[must_use]
pub fn new_blocks() -> Vec<Block> {
    vec![Block::new(); CURRENT_PARAMS.block_count()]
}

/// Returns a new hash with the current parameters and a random salt.
///
/// # Errors
/// Internal if there are too few `blocks`.
pub fn create(blocks: &mut [Block], password: &Secret, entropy: &dyn Entropy) -> Result<String> {
    let mut salt = [0; SALT_LENGTH];
    entropy.fill(&mut salt);
    let salt = Salt::new(&salt).map_err(Error::internal)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, CURRENT_PARAMS);
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&CURRENT_PARAMS).map_err(Error::internal)?,
        salt: Some(salt),
        hash: Some(compute(&argon2, blocks, password, &salt, OUTPUT_LENGTH)?),
    };
    Ok(hash.to_string())
}

fn compute(
    argon2: &Argon2<'_>,
    blocks: &mut [Block],
    password: &Secret,
    salt: &Salt,
    length: usize,
) -> Result<Output> {
    let mut output = vec![0; length];
    argon2
        .hash_password_into_with_memory(password.expose().as_bytes(), salt, &mut output, blocks)
        .map_err(Error::internal)?;
    Output::new(&output).map_err(Error::internal)
}

/// A parsed stored hash.
pub struct StoredHash {
    argon2: Argon2<'static>,
    is_outdated: bool,
    salt: Salt,
    output: Output,
}

impl StoredHash {
    /// Parses a stored PHC string of any Argon2 variant that needs no more memory than the current
    /// parameters.
    ///
    /// # Errors
    /// Internal for any other text. The error does not contain the text.
    pub fn parse(text: &str) -> Result<Self> {
        Self::try_parse(text)
            .ok_or_else(|| Error::internal("a stored password hash cannot be parsed"))
    }

    fn try_parse(text: &str) -> Option<Self> {
        let hash = PasswordHash::new(text).ok()?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = Version::try_from(hash.version?).ok()?;
        let params = Params::try_from(&hash).ok()?;
        let (salt, output) = (hash.salt?, hash.hash?);
        if params.block_count() > CURRENT_PARAMS.block_count() {
            return None;
        }
        let cost = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        let is_current = (algorithm, version) == (Algorithm::Argon2id, Version::V0x13)
            && cost(&params) == cost(&CURRENT_PARAMS)
            && output.len() == OUTPUT_LENGTH;
        let argon2 = Argon2::new(algorithm, version, params);
        Some(Self { argon2, is_outdated: !is_current, salt, output })
    }

    /// Returns a hash that matches no password and costs as much to verify as a current one.
    ///
    /// # Errors
    /// Internal if Argon2 rejects the lengths of salt or hash, which the constants exclude.
    pub fn dummy() -> Result<Self> {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, CURRENT_PARAMS);
        let salt = Salt::new(&[0; SALT_LENGTH]).map_err(Error::internal)?;
        let output = Output::new(&[0; OUTPUT_LENGTH]).map_err(Error::internal)?;
        Ok(Self { argon2, is_outdated: false, salt, output })
    }

    /// Returns whether this is the hash of the password. The comparison takes constant time.
    ///
    /// # Errors
    /// Internal if there are too few `blocks`.
    pub fn matches(&self, blocks: &mut [Block], password: &Secret) -> Result<bool> {
        let length = self.output.len();
        let computed = compute(&self.argon2, blocks, password, &self.salt, length)?;
        Ok(computed == self.output)
    }

    /// Returns whether the hash has other parameters than the current ones.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.is_outdated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    struct Sequence;

    impl Entropy for Sequence {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.iter_mut().zip(0..).for_each(|(byte, value)| *byte = value);
        }
    }

    /// A hash of "zq7xv!kw" by another program, with weak parameters.
    const WEAK: &str = "$argon2id$v=19$m=64,t=1,p=1$c2l4dGVlbiBieXRlcy4uLg$\
                        KQliFw1L0l9l47oUxZBWaphSKpPc19+zenstMWUHG5k";

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn hashed(entropy: &dyn Entropy) -> String {
        create(&mut new_blocks(), &secret("zq7xv!kw"), entropy).unwrap()
    }

    #[test]
    fn the_string_contains_the_parameters_16_bytes_of_salt_and_32_of_hash() {
        let hash = hashed(&Sequence);
        let rest = hash.strip_prefix("$argon2id$v=19$m=19456,t=2,p=1$").unwrap();
        let (salt, output) = rest.split_once('$').unwrap();
        assert_eq!(salt, "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(output.len(), 43);
    }

    #[test]
    fn two_hashes_of_the_same_password_differ() {
        assert_ne!(hashed(&SystemEntropy), hashed(&SystemEntropy));
    }

    #[test]
    fn reused_memory_does_not_change_the_hash() {
        let mut blocks = new_blocks();
        create(&mut blocks, &secret("another"), &SystemEntropy).unwrap();
        let again = create(&mut blocks, &secret("zq7xv!kw"), &Sequence).unwrap();
        assert_eq!(again, hashed(&Sequence));
        let weak = StoredHash::parse(WEAK).unwrap();
        assert!(weak.matches(&mut blocks, &secret("zq7xv!kw")).unwrap());
    }

    #[test]
    fn other_parameters_than_the_current_ones_are_outdated() {
        let current = hashed(&Sequence);
        assert!(!StoredHash::parse(&current).unwrap().is_outdated());
        for (part, other) in [
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("m=19456", "m=19455"),
            ("t=2", "t=1"),
            ("p=1", "p=2"),
        ] {
            let hash = StoredHash::parse(&current.replace(part, other)).unwrap();
            assert!(hash.is_outdated(), "{other}");
        }
    }

    #[test]
    fn a_text_that_is_not_an_argon2_hash_of_at_most_the_current_memory_is_an_error() {
        let current = hashed(&Sequence);
        for text in [
            String::new(),
            "plain".to_owned(),
            "$2b$12$abcdefghijklmnopqrstuv".to_owned(),
            current.replace("argon2id", "scrypt"),
            current.replace("$v=19", ""),
            current.replace("v=19", "v=20"),
            current.replace("m=19456", "m=19460"),
            current.replace("m=19456", "m=4294967295"),
            current.replace("t=2", "t=0"),
            current.replace("p=1", "p=536870912"),
            current.rsplit_once('$').unwrap().0.to_owned(),
            format!("{current}$"),
        ] {
            assert!(StoredHash::parse(&text).is_err(), "{text:?}");
        }
    }
}
