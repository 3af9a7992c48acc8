//! Hashes passwords with Argon2id, and checks them, off the threads that serve requests.
//!
//! Every call takes a turn, so any number of sign-ins at once take bounded memory and time.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use crate::app::hash_pool::HashPool;
use crate::app::password_hash::{self, StoredHash};
use crate::entropy::Entropy;
use crate::error::Result;
use crate::model::secret::Secret;

/// How many may wait for their turn; one more is refused.
const QUEUE_SIZE: usize = 64;

/// What a check of a password found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordCheck {
    /// It is another password, or there is nobody whose password it could be.
    Mismatch,
    /// It is the password.
    Match {
        /// A new hash to store, where the stored one was not made with today's parameters.
        rehash: Option<String>,
    },
}

/// Hashes and checks passwords, as many at once as there are cores.
pub struct PasswordHasher {
    entropy: Arc<dyn Entropy>,
    pool: HashPool,
}

impl PasswordHasher {
    /// A hasher that takes its salt from `entropy`.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self { entropy, pool: HashPool::new(cores, QUEUE_SIZE) }
    }

    /// How many hashes are computed just now, and how many wait for their turn.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        self.pool.load()
    }

    /// A new hash of the password, as a PHC string.
    ///
    /// # Errors
    /// Unavailable, worth another try after a second, where too many wait already.
    pub async fn hash(&self, password: Secret) -> Result<String> {
        let entropy = Arc::clone(&self.entropy);
        self.pool.run(move |blocks| password_hash::create(blocks, &password, &*entropy)).await
    }

    /// Whether this is the password that was stored. `None`, for somebody unknown, takes as long
    /// as a hash with today's parameters does, and is a mismatch.
    ///
    /// # Errors
    /// Unavailable as for [`PasswordHasher::hash`]; internal where the stored hash can not be
    /// read.
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

    /// A hash of "zq7xv!kw" by another program, with parameters that nobody should choose.
    const WEAK: &str = "$argon2id$v=19$m=64,t=1,p=1$c2l4dGVlbiBieXRlcy4uLg$\
                        KQliFw1L0l9l47oUxZBWaphSKpPc19+zenstMWUHG5k";

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_hash_is_of_its_password_and_of_no_other() {
        let hash = hasher().hash(secret("zq7xv!kw")).await.unwrap();
        let same = hasher().verify(secret("zq7xv!kw"), Some(hash.clone())).await.unwrap();
        assert_eq!(same, PasswordCheck::Match { rehash: None });
        let other = hasher().verify(secret("zq7xv!kW"), Some(hash)).await.unwrap();
        assert_eq!(other, PasswordCheck::Mismatch);
    }

    #[tokio::test]
    async fn an_unknown_account_is_a_mismatch() {
        for text in ["zq7xv!kw", ""] {
            let found = hasher().verify(secret(text), None).await.unwrap();
            assert_eq!(found, PasswordCheck::Mismatch);
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
    async fn an_unreadable_hash_is_our_defect_and_stays_out_of_the_error() {
        let stored = Some("$argon2id$tampered".to_owned());
        let error = hasher().verify(secret("zq7xv!kw"), stored).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Internal);
        assert!(!format!("{error:?} {}", error.cause()).contains("tampered"));
    }
}
