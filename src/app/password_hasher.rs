//! Hashes and verifies passwords with Argon2id, outside the threads that serve requests.
//!
//! Every call goes through a [`HashPool`], so concurrent sign-ins use bounded memory and time.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use crate::app::hash_pool::HashPool;
use crate::app::password_hash::{self, StoredHash};
use crate::entropy::Entropy;
use crate::error::Result;
use crate::model::secret::Secret;

/// The number of calls that may wait. Further calls are rejected.
const QUEUE_SIZE: usize = 64;

/// The result of verifying a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// The password is wrong, or the account does not exist.
    Mismatch,
    /// The password is correct.
    Match {
        /// A new hash to store, if the stored one has outdated parameters.
        rehash: Option<String>,
    },
}

/// Hashes and verifies passwords, at most one per core at a time.
pub struct PasswordHasher {
    entropy: Arc<dyn Entropy>,
    pool: HashPool,
}

impl PasswordHasher {
    /// Creates a hasher that takes its salt from `entropy`.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self { entropy, pool: HashPool::new(cores, QUEUE_SIZE) }
    }

    /// Returns the number of running hashes, and the number of calls that wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        self.pool.load()
    }

    /// Returns a new hash of the password, as a PHC string.
    ///
    /// # Errors
    /// Unavailable, with a retry after 1 second, if too many calls wait or the wait is too long.
    pub async fn hash(&self, password: Secret) -> Result<String> {
        let entropy = Arc::clone(&self.entropy);
        self.pool.run(move |blocks| password_hash::create(blocks, &password, &*entropy)).await
    }

    /// Verifies the password against the stored hash. `None`, for an unknown account, takes as long
    /// as a hash with the current parameters, and is a mismatch.
    ///
    /// # Errors
    /// Unavailable as for [`PasswordHasher::hash`]; internal if the stored hash cannot be parsed.
    pub async fn verify(&self, password: Secret, stored: Option<String>) -> Result<PasswordCheck> {
        let stored = match stored {
            Some(text) => StoredHash::parse(&text)?,
            None => StoredHash::dummy()?,
        };
        let entropy = Arc::clone(&self.entropy);
        self.pool
            .run(move |blocks| {
                if !stored.matches(blocks, &password)? {
                    return Ok(PasswordCheck::Mismatch);
                }
                let renew = || password_hash::create(blocks, &password, &*entropy);
                let rehash = stored.is_outdated().then(renew).transpose()?;
                Ok(PasswordCheck::Match { rehash })
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::error::ErrorKind;

    fn hasher() -> PasswordHasher {
        PasswordHasher::new(Arc::new(SystemEntropy))
    }

    /// A hash of "zq7xv!kw" by another program, with weak parameters.
    const WEAK: &str = "$argon2id$v=19$m=64,t=1,p=1$c2l4dGVlbiBieXRlcy4uLg$\
                        KQliFw1L0l9l47oUxZBWaphSKpPc19+zenstMWUHG5k";

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_hash_matches_only_its_password() {
        let hash = hasher().hash(secret("zq7xv!kw")).await.unwrap();
        let same = hasher().verify(secret("zq7xv!kw"), Some(hash.clone())).await.unwrap();
        assert_eq!(same, PasswordCheck::Match { rehash: None });
        let other = hasher().verify(secret("zq7xv!kW"), Some(hash)).await.unwrap();
        assert_eq!(other, PasswordCheck::Mismatch);
    }

    #[tokio::test]
    async fn an_unknown_account_is_a_mismatch() {
        for text in ["zq7xv!kw", ""] {
            let check = hasher().verify(secret(text), None).await.unwrap();
            assert_eq!(check, PasswordCheck::Mismatch);
        }
    }

    #[tokio::test]
    async fn an_outdated_hash_is_renewed_for_the_right_password_only() {
        let hasher = hasher();
        let old = WEAK.to_owned();
        let other = hasher.verify(secret("another"), Some(old.clone())).await.unwrap();
        assert_eq!(other, PasswordCheck::Mismatch);
        let same = hasher.verify(secret("zq7xv!kw"), Some(old)).await.unwrap();
        let PasswordCheck::Match { rehash: Some(renewed) } = same else { panic!("{same:?}") };
        let again = hasher.verify(secret("zq7xv!kw"), Some(renewed)).await.unwrap();
        assert_eq!(again, PasswordCheck::Match { rehash: None });
    }

    #[tokio::test]
    async fn an_invalid_stored_hash_is_an_internal_error_that_does_not_contain_it() {
        let stored = Some("$argon2id$tampered".to_owned());
        let error = hasher().verify(secret("zq7xv!kw"), stored).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Internal);
        assert!(!format!("{error:?} {}", error.cause()).contains("tampered"));
    }
}
