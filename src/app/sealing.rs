//! Seals secrets that the server must be able to read again, such as the client secrets of identity
//! providers: AES-256-GCM under the deployment's sealing keys.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::config::named_secret::NamedSecret;
use crate::error::{Error, Result};
use crate::model::secret::{SealedSecret, Secret};

/// The sealing keys, newest first. The newest seals; each opens what it sealed.
pub struct SealingKeys(Vec<SealingKey>);

struct SealingKey {
    id: String,
    key: RandomizedNonceKey,
}

impl SealingKeys {
    /// Creates the keys from the configuration, which has none if single sign-on is off.
    #[must_use]
    pub fn new(settings: &[NamedSecret]) -> Self {
        let keys = settings.iter().filter_map(|setting| {
            let key = RandomizedNonceKey::new(&AES_256_GCM, &setting.bytes).ok()?;
            Some(SealingKey { id: setting.id.clone(), key })
        });
        Self(keys.collect())
    }

    /// Returns the id of the newest key; `None` without keys.
    #[must_use]
    pub fn newest_id(&self) -> Option<&str> {
        self.0.first().map(|key| key.id.as_str())
    }

    /// Seals a secret of the row with this id. It cannot be opened as the secret of another row.
    ///
    /// # Errors
    /// Internal without keys, or if the cryptographic library fails.
    pub fn seal(&self, row: Uuid, secret: &Secret) -> Result<SealedSecret> {
        let newest = self.0.first();
        let newest = newest.ok_or_else(|| Error::internal("there is no sealing key"))?;
        let mut bytes = secret.expose().as_bytes().to_vec();
        let nonce = newest.key.seal_in_place_append_tag(Aad::from(row.as_bytes()), &mut bytes);
        let Ok(nonce) = nonce else {
            bytes.zeroize();
            return Err(Error::internal("a secret cannot be sealed"));
        };
        let nonce: &[u8; NONCE_LEN] = nonce.as_ref();
        Ok(SealedSecret { key_id: newest.id.clone(), bytes: [nonce, &bytes[..]].concat() })
    }

    /// Opens a sealed secret of the row with this id.
    ///
    /// # Errors
    /// Internal if its key is not configured any more, or it was sealed for another row or changed.
    pub fn open(&self, row: Uuid, sealed: &SealedSecret) -> Result<Secret> {
        let key = self.0.iter().find(|key| key.id == sealed.key_id);
        let key = key.ok_or_else(|| {
            Error::internal(format!("SEALING_KEYS does not have the key {}", sealed.key_id))
        })?;
        let cannot = || Error::internal("a sealed secret cannot be opened");
        let (nonce, bytes) = sealed.bytes.split_at_checked(NONCE_LEN).ok_or_else(cannot)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| cannot())?;
        let mut bytes = Zeroizing::new(bytes.to_vec());
        let opened = key.key.open_in_place(nonce, Aad::from(row.as_bytes()), &mut bytes);
        let opened = opened.map_err(|_| cannot())?.to_vec();
        String::from_utf8(opened).map(Secret::new).map_err(|_| cannot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(ids: &[u8]) -> SealingKeys {
        let setting =
            |id: &u8| NamedSecret { id: format!("s{id}"), bytes: Zeroizing::new(vec![*id; 32]) };
        SealingKeys::new(&ids.iter().map(setting).collect::<Vec<_>>())
    }

    fn opened(keys: &SealingKeys, row: u128, sealed: &SealedSecret) -> Option<String> {
        Some(keys.open(Uuid::from_u128(row), sealed).ok()?.expose().to_owned())
    }

    #[test]
    fn a_sealed_secret_is_opened_with_its_key_for_its_row_only() {
        let secret = Secret::new("client-secret".to_owned());
        let sealed = keys(&[1]).seal(Uuid::from_u128(1), &secret).expect("sealed");
        let text = Some("client-secret".to_owned());
        assert_eq!(opened(&keys(&[1]), 1, &sealed), text);
        // After a rotation.
        assert_eq!(opened(&keys(&[2, 1]), 1, &sealed), text);
        assert_eq!(opened(&keys(&[2]), 1, &sealed), None);
        assert_eq!(opened(&keys(&[1]), 2, &sealed), None);
    }

    #[test]
    fn the_newest_key_seals_and_the_same_secret_never_twice_in_the_same_way() {
        let (keys, secret) = (keys(&[2, 1]), Secret::new("client-secret".to_owned()));
        let [one, other] = [(); 2].map(|()| keys.seal(Uuid::nil(), &secret).expect("sealed"));
        assert_eq!((&*one.key_id, &*other.key_id), ("s2", "s2"));
        assert_ne!(one.bytes, other.bytes);
        assert!(!one.bytes.windows(6).any(|window| window == b"client"));
    }

    #[test]
    fn a_secret_that_was_changed_or_cut_off_is_not_opened() {
        let keys = keys(&[1]);
        let secret = Secret::new("client-secret".to_owned());
        let sealed = keys.seal(Uuid::nil(), &secret).expect("sealed");
        for index in 0..sealed.bytes.len() {
            let mut changed = sealed.clone();
            changed.bytes[index] ^= 1;
            assert_eq!(opened(&keys, 0, &changed), None, "{index}");
            changed.bytes.truncate(index);
            assert_eq!(opened(&keys, 0, &changed), None, "{index}");
        }
    }
}
