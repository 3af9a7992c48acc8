//! The public keys that verify GitHub's signatures of its secret scanning reports. A signature is
//! ECDSA on the curve P-256 with SHA-256 of the body's bytes, in DER.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use crate::model::ValidationError;

const FORMAT_MESSAGE: &str =
    r#"must be JSON like GitHub's: {"public_keys":[{"key_identifier":"…","key":"(PEM)"}]}"#;

const KEY_MESSAGE: &str = "must have P-256 public keys in PEM";

/// A public key of GitHub.
pub struct GithubKey(ParsedPublicKey);

impl GithubKey {
    /// Parses a P-256 public key in PEM (`SubjectPublicKeyInfo`).
    fn parse(pem: &str) -> Option<Self> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
        ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.as_ref()).ok().map(Self)
    }

    /// Returns whether this key signed the body.
    #[must_use]
    pub fn verify(&self, body: &[u8], signature: &[u8]) -> bool {
        self.0.verify_sig(body, signature).is_ok()
    }
}

/// The public keys of GitHub, by their identifiers; cheap to clone.
#[derive(Clone, Default)]
pub struct GithubKeys(Arc<HashMap<String, Arc<GithubKey>>>);

impl GithubKeys {
    /// Parses the JSON that GitHub publishes. All of its entries must be valid. Unknown members are
    /// ignored.
    ///
    /// # Errors
    /// The text is not a JSON object with a non-empty list, or an entry is not a P-256 key with an
    /// identifier. The error does not contain the text.
    pub fn parse(json: &[u8]) -> Result<Self, ValidationError> {
        let keys = parse_list(json)?.into_iter().collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(keys)))
    }

    /// Parses the JSON that GitHub publishes. Skips entries that are not a P-256 key with an
    /// identifier, since GitHub may add keys of another kind, and returns the number of entries
    /// that were not used.
    ///
    /// # Errors
    /// The text is not a JSON object with a non-empty list, or no entry can be used. The error does
    /// not contain the text.
    pub fn parse_published(json: &[u8]) -> Result<(Self, usize), ValidationError> {
        let list = parse_list(json)?;
        let all = list.len();
        let keys: HashMap<_, _> = list.into_iter().filter_map(Result::ok).collect();
        if keys.is_empty() {
            return Err(KEY_MESSAGE.into());
        }
        let others = all - keys.len();
        Ok((Self(Arc::new(keys)), others))
    }

    /// Returns the key with this identifier.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<GithubKey>> {
        self.0.get(id).cloned()
    }
}

/// The entries of a non-empty list: each is a key with its identifier, or an error.
type ParsedList = Vec<Result<(String, Arc<GithubKey>), ValidationError>>;

fn parse_list(json: &[u8]) -> Result<ParsedList, ValidationError> {
    let json: Value = serde_json::from_slice(json).map_err(|_| FORMAT_MESSAGE)?;
    let list = json["public_keys"].as_array().filter(|keys| !keys.is_empty());
    Ok(list.ok_or(FORMAT_MESSAGE)?.iter().map(parse_entry).collect())
}

fn parse_entry(entry: &Value) -> Result<(String, Arc<GithubKey>), ValidationError> {
    let id = entry["key_identifier"].as_str().filter(|id| !id.is_empty()).ok_or(FORMAT_MESSAGE)?;
    let key = entry["key"].as_str().and_then(GithubKey::parse).ok_or(KEY_MESSAGE)?;
    Ok((id.to_owned(), Arc::new(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    /// The header of a `SubjectPublicKeyInfo` of P-256, before the point.
    const SPKI_HEADER: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];

    fn published(pem: &str) -> Vec<u8> {
        let key = json!({ "key_identifier": "a", "key": pem, "is_current": true });
        json!({ "public_keys": [key] }).to_string().into_bytes()
    }

    #[test]
    fn a_key_verifies_its_own_signatures_of_the_same_bytes_only() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
        let spki = [&SPKI_HEADER[..], pair.public_key().as_ref()].concat();
        let spki = STANDARD.encode(spki);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
        let keys = GithubKeys::parse(&published(&pem)).unwrap_or_else(|error| panic!("{error}"));
        assert!(keys.find("b").is_none());
        let key = keys.find("a").expect("the key");
        let signature = pair.sign(&SystemRandom::new(), b"body").expect("a signature");
        assert!(key.verify(b"body", signature.as_ref()));
        assert!(!key.verify(b"body ", signature.as_ref()));
        assert!(!key.verify(b"body", &signature.as_ref()[1..]));
        assert!(!key.verify(b"body", b""));
    }

    #[test]
    fn other_json_and_other_keys_are_invalid() {
        // An Ed25519 key (RFC 8410).
        let ed25519 = "-----BEGIN PUBLIC KEY-----\n\
                       MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                       -----END PUBLIC KEY-----\n";
        let garbage = published("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n");
        for json in [
            &b"{}"[..],
            b"[]",
            b"{",
            br#"{"public_keys":[]}"#,
            br#"{"public_keys":[{"key":""}]}"#,
            &published(""),
            &published(ed25519),
            &garbage,
        ] {
            assert!(GithubKeys::parse(json).is_err(), "{}", String::from_utf8_lossy(json));
            let published = GithubKeys::parse_published(json);
            assert!(published.is_err(), "{}", String::from_utf8_lossy(json));
        }
    }
}
