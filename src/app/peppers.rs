//! Digests secrets under the deployment's peppers.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::named_secret::NamedSecret;
use crate::entropy::Entropy;
use crate::model::audit_seal::AuditSigner;
use crate::model::rate_limit::LimitSubject;
use crate::model::secret::Digest;

/// The peppers, newest first: the newest digests what is minted, all of them what is looked up.
pub struct Peppers(Vec<Pepper>);

struct Pepper {
    id: String,
    hmac: Hmac<Sha256>,
}

impl Peppers {
    /// From the configuration, which never leaves the list empty.
    #[must_use]
    pub fn new(settings: &[NamedSecret]) -> Self {
        let peppers = settings.iter().filter_map(|setting| {
            let keyed = Hmac::new_from_slice(&setting.bytes).ok()?;
            Some(Pepper { id: setting.id.clone(), hmac: keyed })
        });
        Self(peppers.collect())
    }

    /// The digest to store, and the id of its pepper.
    #[must_use]
    pub fn digest(&self, text: &str) -> (Digest, &str) {
        let newest = &self.0[0];
        (newest.digest(text), &newest.id)
    }

    /// The id of the newest pepper.
    #[must_use]
    pub fn newest_id(&self) -> &str {
        &self.0[0].id
    }

    /// Whom a limit counts by a text: nobody without the pepper can tell whether it is theirs.
    /// `what` keeps apart what is counted apart.
    #[must_use]
    pub fn subject(&self, what: &str, text: &str) -> LimitSubject {
        LimitSubject::from_digest(&self.digest(&format!("limit {what} {text}")).0)
    }

    /// Every digest under which the text may be stored.
    #[must_use]
    pub fn candidates(&self, text: &str) -> Vec<Digest> {
        self.0.iter().map(|pepper| pepper.digest(text)).collect()
    }
}

/// Signs audit events under keys that are derived from the peppers.
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
