//! Assertions with which clients prove who they are (`private_key_jwt`: RFC 7523 §3, `OpenID`
//! Connect Core §9).

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::verify;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::model::oauth::client_keys::ClientKeySet;
use crate::model::secret::Secret;

/// The value of `client_assertion_type` (RFC 7523 §2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The maximum length of an assertion, in bytes.
const MAX_BYTES: usize = 8_192;
/// The maximum length of an assertion's id, in bytes.
const MAX_ID_BYTES: usize = 200;
/// The longest lifetime of an assertion: each is stored until it expires, so that it works once.
const MAX_LIFETIME: TimeDelta = TimeDelta::minutes(5);
/// By how much the clock of a client may differ from the server's.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// An assertion whose signature has not been verified.
pub struct UnverifiedAssertion {
    text: Secret,
    algorithm: Algorithm,
    /// The id of the key that it claims to be signed with.
    pub key_id: Option<String>,
    claims: Claims,
}

/// An assertion whose signature and claims are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAssertion {
    /// Its id, unique among those of the client.
    pub id: String,
    /// Until when it could be used.
    pub expires_at: DateTime<Utc>,
}

/// The header parameters that are read. The last three change what the signature means and are not
/// supported, so that each makes the assertion invalid (RFC 7515 §4.1.11).
#[derive(Deserialize)]
struct AssertionHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
}

/// The claims. As in the header, a member of another JSON type or one that occurs twice makes the
/// assertion invalid.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: String,
}

/// `aud` (RFC 7519 §4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn contains(&self, accepted: &[String]) -> bool {
        match self {
            Self::One(text) => accepted.contains(text),
            Self::Several(texts) => texts.iter().any(|text| accepted.contains(text)),
        }
    }
}

impl UnverifiedAssertion {
    /// Reads the parts of an assertion that select the client and its key; `None` if it cannot
    /// be valid.
    #[must_use]
    pub fn parse(text: Secret) -> Option<Self> {
        if text.expose().len() > MAX_BYTES {
            return None;
        }
        let (signed, _) = text.expose().rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: AssertionHeader = read_part(header)?;
        let claims: Claims = read_part(claims)?;
        if header.crit.or(header.b64).or(header.zip).is_some() {
            return None;
        }
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            // The second name is that of RFC 9864.
            "EdDSA" | "Ed25519" => Algorithm::EdDSA,
            _ => return None,
        };
        Some(Self { text, algorithm, key_id: header.kid, claims })
    }

    /// Returns the client that it claims to come from.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.claims.sub
    }

    /// Verifies the signature with a client's keys, and the claims: the client is issuer and
    /// subject, `aud` contains one of `audiences`, and the assertion has begun, has not expired and
    /// expires within 5 minutes. `None` if any of this fails.
    #[must_use]
    pub fn verify(
        &self,
        keys: &ClientKeySet,
        audiences: &[String],
        now: DateTime<Utc>,
    ) -> Option<ClientAssertion> {
        let (signed, signature) = self.text.expose().rsplit_once('.')?;
        let mut candidates = keys.candidates(self.algorithm, self.key_id.as_deref());
        let is_signed = candidates
            .any(|key| verify(signature, signed.as_bytes(), &key, self.algorithm).unwrap_or(false));
        let claims = &self.claims;
        let expires_at = to_time(claims.exp)?;
        let is_current = expires_at > now - LEEWAY && expires_at <= now + MAX_LIFETIME + LEEWAY;
        let not_before = [claims.nbf, claims.iat].into_iter().flatten();
        let has_begun =
            not_before.map(to_time).all(|time| time.is_some_and(|time| time <= now + LEEWAY));
        let has_id = (1..=MAX_ID_BYTES).contains(&claims.jti.len()) && !claims.jti.contains('\0');
        let is_meant = claims.iss == claims.sub && claims.aud.contains(audiences);
        let is_valid = is_signed && is_meant && is_current && has_begun && has_id;
        let id = claims.jti.clone();
        is_valid.then_some(ClientAssertion { id, expires_at: expires_at + LEEWAY })
    }
}

fn read_part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Returns the time of a `NumericDate` (RFC 7519 §2), which may have a fraction.
fn to_time(seconds: f64) -> Option<DateTime<Utc>> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be within the years of a time")]
    let milliseconds = (seconds.abs() < 1e11).then_some((seconds * 1e3) as i64)?;
    DateTime::from_timestamp_millis(milliseconds)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const CLIENT: &str = "app_1";
    const ISSUER: &str = "https://api.example.com";
    /// The key of RFC 8037, appendix A.1.
    const ED25519: &str = "302e020100300506032b657004220420\
                           9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

    fn now() -> DateTime<Utc> {
        "2036-05-08T09:00:00Z".parse().expect("a time")
    }

    fn key() -> EncodingKey {
        EncodingKey::from_ed_der(&hex::decode(ED25519).expect("hexadecimal"))
    }

    fn keys() -> ClientKeySet {
        let mut jwk = Jwk::from_encoding_key(&key(), Algorithm::EdDSA).expect("a key");
        jwk.common.key_id = Some("k1".to_owned());
        ClientKeySet::parse(&json!({ "keys": [jwk] })).expect("a set")
    }

    fn claims() -> Value {
        json!({ "iss": CLIENT, "sub": CLIENT, "aud": ISSUER, "jti": "j",
                "exp": now().timestamp() + 300 })
    }

    fn sign(claims: &Value) -> Secret {
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::EdDSA) };
        Secret::new(encode(&header, claims, &key()).expect("signed"))
    }

    fn verify(text: Secret) -> Option<ClientAssertion> {
        let audiences = [ISSUER.to_owned(), format!("{ISSUER}/oauth2/token")];
        UnverifiedAssertion::parse(text)?.verify(&keys(), &audiences, now())
    }

    #[test]
    fn an_assertion_of_a_clients_key_for_this_server_is_valid_until_shortly_after_it_expires() {
        let token_endpoint = format!("{ISSUER}/oauth2/token");
        for (name, value, lifetime) in [
            ("aud", json!(ISSUER), 300),
            ("aud", json!(token_endpoint), 300),
            ("aud", json!(["https://other.example", ISSUER]), 300),
            ("exp", json!(now().timestamp() - 29), -29),
            ("exp", json!(now().timestamp() + 330), 330),
            ("nbf", json!(now().timestamp() + 30), 300),
        ] {
            let mut claims = claims();
            claims[name] = value;
            let expected = ClientAssertion {
                id: "j".to_owned(),
                expires_at: now() + TimeDelta::seconds(lifetime) + LEEWAY,
            };
            assert_eq!(verify(sign(&claims)), Some(expected), "{claims}");
        }
    }

    #[test]
    fn an_assertion_with_a_claim_that_is_missing_or_wrong_is_rejected() {
        for name in ["iss", "sub", "aud", "exp", "jti"] {
            let mut claims = claims();
            claims.as_object_mut().expect("an object").remove(name);
            assert_eq!(verify(sign(&claims)), None, "without {name}");
        }
        let long = "j".repeat(MAX_ID_BYTES + 1);
        for (name, value) in [
            ("iss", json!("app_2")),
            ("sub", json!("app_2")),
            ("aud", json!("https://other.example")),
            ("aud", json!([])),
            ("aud", json!(format!("{ISSUER}/"))),
            ("exp", json!(now().timestamp() - 30)),
            ("exp", json!(now().timestamp() + 331)),
            ("exp", json!("tomorrow")),
            ("exp", json!(1e300)),
            ("nbf", json!(now().timestamp() + 31)),
            ("iat", json!(now().timestamp() + 31)),
            ("jti", json!("")),
            ("jti", json!(1)),
            ("jti", json!(long)),
            ("jti", json!("a\0")),
        ] {
            let mut claims = claims();
            claims[name] = value.clone();
            assert_eq!(verify(sign(&claims)), None, "{name}: {value}");
        }
    }

    #[test]
    fn an_assertion_may_name_its_algorithm_as_rfc_9864_does_and_has_no_member_twice() {
        let (header, claims) = (r#"{"alg":"EdDSA","kid":"k1"}"#, claims().to_string());
        let sign_text = |header: &str, claims: &str| {
            let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
            let signed = format!("{}.{}", part(header), part(claims));
            let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key(), Algorithm::EdDSA);
            Secret::new(format!("{signed}.{}", signature.expect("signed")))
        };
        assert!(verify(sign_text(header, &claims)).is_some());
        let other_name = header.replace("EdDSA", "Ed25519");
        assert!(verify(sign_text(&other_name, &claims)).is_some());
        for name in ["alg", "kid"] {
            let twice = header.replacen('{', &format!(r#"{{"{name}":"EdDSA","#), 1);
            assert_eq!(verify(sign_text(&twice, &claims)), None, "{twice}");
        }
        for name in ["iss", "sub", "aud", "jti"] {
            let twice = claims.replacen('{', &format!(r#"{{"{name}":"other","#), 1);
            assert_eq!(verify(sign_text(header, &twice)), None, "{twice}");
        }
    }

    #[test]
    fn an_assertion_that_is_not_signed_by_a_key_of_the_client_is_rejected() {
        let text = sign(&claims());
        let parts: Vec<&str> = text.expose().split('.').collect();
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let with_header = |header| format!("{}.{}.{}", part(header), parts[1], parts[2]);
        let mut other = claims();
        other["jti"] = json!("k");
        for text in [
            String::new(),
            "a.b.c".to_owned(),
            format!("{}.{}", parts[0], parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.", text.expose()),
            format!("{}.{}.{}", parts[0], part(other), parts[2]),
            with_header(json!({ "alg": "none" })),
            with_header(json!({ "alg": "HS256", "kid": "k1" })),
            with_header(json!({ "alg": "EdDSA", "kid": "k2" })),
            with_header(json!({ "alg": "EdDSA", "kid": "k1", "crit": ["b64"] })),
            with_header(json!({ "alg": "ES256", "kid": "k1" })),
            "a".repeat(MAX_BYTES + 1),
        ] {
            assert_eq!(verify(Secret::new(text.clone())), None, "{text}");
        }
    }
}
