//! Public keys of others, with which their signatures are verified: those of OAuth clients that
//! prove who they are with a private key (`private_key_jwt`), and those of identity providers.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};
use url::Url;

use crate::model::ValidationError;
use crate::model::outbound::AllowedHosts;

/// The maximum number of keys in a set.
const MAX_KEYS: usize = 32;
/// The maximum length of a key's id, in bytes.
const MAX_KEY_ID_BYTES: usize = 200;
/// The length of the modulus of an RSA key, in bytes (RFC 7518 §3.3).
const MODULUS_BYTES: RangeInclusive<usize> = 256..=1_024;
/// The maximum length of the exponent of an RSA key, in bytes.
const MAX_EXPONENT_BYTES: usize = 8;
/// The length of each coordinate of the other keys, in bytes.
const COORDINATE_BYTES: usize = 32;
/// The maximum length of the URL of a set, in bytes.
const MAX_URL_BYTES: usize = 2_048;
/// The members of a key that only its owner may know (RFC 7518 §6).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The algorithms of signatures that can be verified, by the names of RFC 7518 §3.1, RFC 8037 §3.1
/// and RFC 9864 §2.2.
pub const SIGNATURE_ALGORITHMS: [&str; 4] = ["RS256", "ES256", "EdDSA", ED25519];
/// The name of `EdDSA` with Ed25519 in RFC 9864 §2.2.
const ED25519: &str = "Ed25519";

/// The URL at which a set is published. Whether the server may fetch it is checked
/// at each fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetUrl(Url);

impl KeySetUrl {
    /// Parses a URL without user information and fragment; `http` is possible, too.
    ///
    /// # Errors
    /// The text is not such a URL. The error states what is required.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let is_plain = text.len() <= MAX_URL_BYTES && text.bytes().all(|it| it.is_ascii_graphic());
        let url = Url::parse(text).ok().filter(|url| {
            let is_web = matches!(url.scheme(), "https" | "http");
            let has_user = !url.username().is_empty() || url.password().is_some();
            is_web && url.has_host() && !has_user && url.fragment().is_none()
        });
        url.filter(|_| is_plain).map(Self).ok_or_else(|| {
            format!("must be an https:// URL of at most {MAX_URL_BYTES} characters").into()
        })
    }

    /// Parses a URL that this server may fetch, as far as that is known without resolving its host.
    ///
    /// # Errors
    /// The text is not such a URL. The error states what is required.
    pub fn parse_allowed(text: &str, hosts: &AllowedHosts) -> Result<Self, ValidationError> {
        let url = Self::parse(text)?;
        hosts.check(&url.0)?;
        Ok(url)
    }

    /// Returns the URL.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }
}

/// A set of public keys (RFC 7517 §5), each with only what is needed to verify signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeySet(Vec<Jwk>);

impl PublicKeySet {
    /// Reads a set. Keys that no supported signature can be verified with are left out, since the
    /// set is not made for this server alone.
    ///
    /// # Errors
    /// It is not a set, has too many keys, a private or symmetric one, or no supported one.
    pub fn parse(value: &Value) -> Result<Self, ValidationError> {
        let keys = value.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("must be an object with the list `keys`")?;
        if keys.len() > MAX_KEYS {
            return Err(format!("must have at most {MAX_KEYS} keys").into());
        }
        let is_private = |key: &Value| PRIVATE_MEMBERS.iter().any(|it| key.get(it).is_some());
        if keys.iter().any(is_private) {
            return Err("must contain only public keys".into());
        }
        let supported: Vec<Jwk> = keys.iter().filter_map(parse_key).collect();
        if supported.is_empty() {
            let all = SIGNATURE_ALGORITHMS.join(", ");
            return Err(format!("must contain a public key for one of {all}").into());
        }
        Ok(Self(supported))
    }

    /// Returns the set as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "keys": self.0 })
    }

    /// Returns what the audit log shows of the keys: their ids, or else how they begin.
    #[must_use]
    pub fn key_names(&self) -> Vec<String> {
        let name = |key: &Jwk| match (&key.common.key_id, &key.algorithm) {
            (Some(id), _) => id.clone(),
            (None, AlgorithmParameters::RSA(key)) => beginning(&key.n),
            (None, AlgorithmParameters::EllipticCurve(key)) => beginning(&key.x),
            (None, AlgorithmParameters::OctetKeyPair(key)) => beginning(&key.x),
            (None, _) => String::new(),
        };
        self.0.iter().map(name).collect()
    }

    /// Returns whether a key has this id; without an id, whether there is any key.
    #[must_use]
    pub fn contains(&self, id: Option<&str>) -> bool {
        self.0.iter().any(|key| has_id(key, id))
    }

    /// Returns the keys that can verify a signature with this algorithm and key id; without an id,
    /// all keys for the algorithm.
    pub fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        id: Option<&'a str>,
    ) -> impl Iterator<Item = DecodingKey> + 'a {
        let of = self.0.iter().filter(move |key| algorithm_of(key) == Some(algorithm));
        of.filter(move |key| has_id(key, id)).filter_map(|key| DecodingKey::from_jwk(key).ok())
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(16).collect()
}

fn has_id(key: &Jwk, id: Option<&str>) -> bool {
    id.is_none() || key.common.key_id.as_deref() == id
}

/// Returns the one algorithm that a key is for, if it is supported.
fn algorithm_of(key: &Jwk) -> Option<Algorithm> {
    let (algorithm, name) = match &key.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    key.common.key_algorithm.is_none_or(|own| own == name).then_some(algorithm)
}

/// Reads a key; `None` if it is not supported.
fn parse_key(value: &Value) -> Option<Jwk> {
    let mut value = value.clone();
    if value.get("alg").is_some_and(|name| name == ED25519) {
        value["alg"] = json!("EdDSA");
    }
    let mut key: Jwk = serde_json::from_value(value).ok()?;
    algorithm_of(&key)?;
    DecodingKey::from_jwk(&key).ok()?;
    let length = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_or(0, |bytes| bytes.len());
    let has_valid_lengths = match &key.algorithm {
        AlgorithmParameters::RSA(key) => {
            MODULUS_BYTES.contains(&length(&key.n)) && length(&key.e) <= MAX_EXPONENT_BYTES
        }
        AlgorithmParameters::EllipticCurve(key) => {
            [&key.x, &key.y].into_iter().all(|it| length(it) == COORDINATE_BYTES)
        }
        AlgorithmParameters::OctetKeyPair(key) => length(&key.x) == COORDINATE_BYTES,
        _ => false,
    };
    let id = key.common.key_id.take();
    let has_short_id = id.as_ref().is_none_or(|id| id.len() <= MAX_KEY_ID_BYTES);
    let common = &key.common;
    let signs = common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    if !(has_valid_lengths && has_short_id && signs) {
        return None;
    }
    // Certificates and other members are not used.
    let (key_algorithm, public_key_use) = (common.key_algorithm, Some(PublicKeyUse::Signature));
    key.common = jsonwebtoken::jwk::CommonParameters {
        key_id: id,
        key_algorithm,
        public_key_use,
        ..Default::default()
    };
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the keys of RFC 7517, appendix A.1, and of RFC 8037, appendix A.2.
    fn keys() -> [Value; 3] {
        let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxu\
            hDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4Qy\
            Q5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08q\
            NLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJ\
            zKnqDKgw";
        [
            json!({ "kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "r" }),
            json!({ "kty": "EC", "crv": "P-256", "kid": "e", "use": "sig",
                    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x5c": ["MIIB"], "alg": "Ed25519",
                    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
        ]
    }

    #[test]
    fn a_set_keeps_the_public_keys_that_it_can_verify_with() {
        let mut all = keys().to_vec();
        all.extend([
            json!({ "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" }),
            json!({ "kty": "AKP", "pub": "AA" }),
            json!("text"),
        ]);
        let set = PublicKeySet::parse(&json!({ "keys": all, "other": 1 })).expect("a set");
        assert_eq!(set.0.len(), 3);
        assert!(set.contains(Some("r")) && set.contains(None) && !set.contains(Some("x")));
        let count = |algorithm, id| set.candidates(algorithm, id).count();
        assert_eq!(count(Algorithm::RS256, Some("r")), 1);
        assert_eq!(count(Algorithm::ES256, Some("r")), 0);
        assert_eq!(count(Algorithm::ES256, None), 1);
        assert_eq!(count(Algorithm::EdDSA, None), 1);
        assert_eq!(count(Algorithm::HS256, None), 0);
        let again = PublicKeySet::parse(&set.to_json()).expect("the same set");
        assert_eq!(again, set);
        assert!(!set.to_json().to_string().contains("x5c"));
    }

    #[test]
    fn a_set_without_a_supported_public_key_or_with_a_private_one_is_rejected() {
        let [rsa, ec, _] = keys();
        let with = |key: &Value, name: &str, value: &str| {
            let mut key = key.clone();
            key[name] = json!(value);
            json!({ "keys": [key] })
        };
        for set in [
            json!(null),
            json!([]),
            json!({}),
            json!({ "keys": {} }),
            json!({ "keys": [] }),
            json!({ "keys": vec![ec.clone(); MAX_KEYS + 1] }),
            with(&ec, "d", "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"),
            with(&ec, "use", "enc"),
            with(&ec, "alg", "ES384"),
            with(&ec, "kid", &"k".repeat(MAX_KEY_ID_BYTES + 1)),
            with(&rsa, "alg", "PS256"),
            with(&rsa, "n", "xjqrbLdA_xsA-Z86GQywYJomb7I9hmnWrUlDrG7RVlF_7tC3QVgtAMEMUoaP"),
            with(&rsa, "n", &"xjqr".repeat(342)),
            with(&rsa, "e", "AQABAQABAQAB"),
            with(&ec, "y", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM4Etl6SRW2YiLUrN5"),
            json!({ "keys": [{ "kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMko" }] }),
        ] {
            assert!(PublicKeySet::parse(&set).is_err(), "{set}");
        }
    }

    #[test]
    fn the_url_of_a_set_is_a_web_address_without_user_information_and_fragment() {
        assert!(KeySetUrl::parse("https://app.example.com/jwks.json?v=1").is_ok());
        for text in [
            "",
            "app.example.com",
            "ftp://app.example.com/",
            "https://u@app.example.com/",
            "https://app.example.com/#a",
            "https://app.example.com/a b",
        ] {
            assert!(KeySetUrl::parse(text).is_err(), "{text}");
        }
    }
}
