//! Digests secrets with HMAC-SHA-256 under the deployment's peppers.

use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::named_secret::NamedSecret;
use crate::entropy::Entropy;
use crate::model::audit_seal::AuditSigner;
use crate::model::rate_limit::LimitSubject;
use crate::model::secret::Digest;

/// The peppers, newest first. The newest digests new secrets; lookups try all of them.
pub struct Peppers(Vec<Pepper>);

struct Pepper {
    id: String,
    hmac: Hmac<Sha256>,
}

impl Peppers {
    /// Creates the peppers from the configuration, whose list is never empty.
    #[must_use]
    pub fn new(settings: &[NamedSecret]) -> Self {
        let peppers = settings.iter().filter_map(|setting| {
            let hmac = Hmac::new_from_slice(&setting.bytes).ok()?;
            Some(Pepper { id: setting.id.clone(), hmac })
        });
        Self(peppers.collect())
    }

    /// Returns the digest to store and the id of its pepper.
    #[must_use]
    pub fn digest(&self, text: &str) -> (Digest, &str) {
        let newest = &self.0[0];
        (newest.digest(text), &newest.id)
    }

    /// Returns the id of the newest pepper.
    #[must_use]
    pub fn newest_id(&self) -> &str {
        &self.0[0].id
    }

    /// Returns the subject under which rate limits count a text, such as an e-mail address. Without
    /// the pepper, a text cannot be matched to its subject. Different values of `namespace` give
    /// separate subjects.
    #[must_use]
    pub fn subject(&self, namespace: &str, text: &str) -> LimitSubject {
        LimitSubject::from_digest(&self.digest(&format!("limit {namespace} {text}")).0)
    }

    /// Returns every digest under which the text may be stored, one for each pepper.
    #[must_use]
    pub fn candidates(&self, text: &str) -> Vec<Digest> {
        self.0.iter().map(|pepper| pepper.digest(text)).collect()
    }
}

impl Peppers {
    /// Returns a source of bytes that only this pepper, `salt` and `secret` determine; `None` if
    /// there is no pepper with this id any more. Without the pepper, the bytes are unpredictable.
    #[must_use]
    pub fn derive(&self, id: &str, salt: &[u8], secret: &str) -> Option<DerivedEntropy> {
        let pepper = self.0.iter().find(|pepper| pepper.id == id)?;
        let mut hmac = pepper.hmac.clone();
        hmac.update(b"derived ");
        hmac.update(salt);
        hmac.update(secret.as_bytes());
        Some(DerivedEntropy { hmac, blocks: AtomicU64::new(0) })
    }
}

/// Bytes that a pepper, a salt and a secret determine: HMAC-SHA-256 in counter mode.
pub struct DerivedEntropy {
    hmac: Hmac<Sha256>,
    blocks: AtomicU64,
}

impl Entropy for DerivedEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for block in bytes.chunks_mut(32) {
            let mut hmac = self.hmac.clone();
            hmac.update(&self.blocks.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            block.copy_from_slice(&hmac.finalize().into_bytes()[..block.len()]);
        }
    }
}

/// Returns a signer of audit events, whose keys are derived from the peppers.
#[must_use]
pub fn audit_signer(settings: &[NamedSecret], entropy: &dyn Entropy) -> AuditSigner {
    let peppers = settings.iter().map(|pepper| (pepper.id.as_str(), &pepper.bytes[..]));
    AuditSigner::new(peppers, entropy)
}

impl Pepper {
    fn digest(&self, text: &str) -> Digest {
        let mut mac = self.hmac.clone();
        mac.update(text.as_bytes());
        Digest::new(mac.finalize().into_bytes().into())
    }
}
