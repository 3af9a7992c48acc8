//! The keys of `OIDC_PRIVATE_KEYS`, with which ID tokens and JWT access tokens are signed.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use crate::config::oauth::OauthSettings;
use crate::config::openid_keys::OpenidKey;
use crate::error::{Error, Result};
use crate::model::oauth::IdTokenAlgorithm;
use crate::model::secret::Secret;

/// Signs JWTs, with the newest key of each algorithm.
pub struct OpenidSigner {
    issuer: String,
    keys: Vec<SigningKey>,
    published: Vec<Jwk>,
}

/// A key that signs.
struct SigningKey {
    algorithm: IdTokenAlgorithm,
    header: Header,
    private: EncodingKey,
}

impl SigningKey {
    fn new(key: &OpenidKey) -> Self {
        let algorithm = match key.algorithm {
            IdTokenAlgorithm::Rs256 => Algorithm::RS256,
            IdTokenAlgorithm::Es256 => Algorithm::ES256,
        };
        let header = Header { kid: Some(key.id.clone()), ..Header::new(algorithm) };
        Self { algorithm: key.algorithm, header, private: key.private.clone() }
    }
}

impl OpenidSigner {
    /// Creates the signer. While OAuth is off, it has no keys.
    #[must_use]
    pub fn new(settings: &OauthSettings) -> Self {
        let keys = settings.openid_keys.iter().map(SigningKey::new).collect();
        let published = settings.openid_keys.iter().map(|key| key.public.clone()).collect();
        Self { issuer: settings.issuer.clone(), keys, published }
    }

    /// Returns the issuer that its tokens name.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the public keys that verify its tokens: the newest ones, which sign them, and
    /// earlier ones.
    #[must_use]
    pub fn public_keys(&self) -> &[Jwk] {
        &self.published
    }

    fn newest(&self, algorithm: IdTokenAlgorithm) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.algorithm == algorithm)
    }

    /// Returns the algorithm that signs tokens for a client that wants this one: RS256 if there is
    /// no key for it.
    #[must_use]
    pub fn algorithm_for(&self, wanted: IdTokenAlgorithm) -> IdTokenAlgorithm {
        self.newest(wanted).map_or(IdTokenAlgorithm::Rs256, |key| key.algorithm)
    }

    /// Signs claims with the algorithm that is wanted, or with RS256 if there is no key for it.
    /// `token_type` is the header's `typ`, which keeps one kind of token from being taken for
    /// another (RFC 8725 §3.11).
    ///
    /// # Errors
    /// Internal without a key, or if signing fails.
    pub fn sign(
        &self,
        wanted: IdTokenAlgorithm,
        token_type: &str,
        claims: &impl Serialize,
    ) -> Result<Secret> {
        let no_key = || Error::internal("no key is configured to sign OpenID Connect's tokens");
        let key = self.newest(self.algorithm_for(wanted)).ok_or_else(no_key)?;
        let header = Header { typ: Some(token_type.to_owned()), ..key.header.clone() };
        encode(&header, claims, &key.private).map(Secret::new).map_err(Error::internal)
    }
}
