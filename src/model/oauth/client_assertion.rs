//! Assertions with which clients prove who they are (`private_key_jwt`: RFC 7523 §3, `OpenID`
//! Connect Core §9).

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::model::jwt::{AudienceClaim, UnverifiedJwt, to_time};
use crate::model::public_key_set::PublicKeySet;
use crate::model::secret::Secret;

/// The value of `client_assertion_type` (RFC 7523 §2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The maximum length of an assertion, in bytes.
const MAX_BYTES: usize = 8_192;
/// The maximum length of an assertion's id, in bytes.
const MAX_ID_BYTES: usize = 200;
/// How far ahead of now `exp` may be, before the leeway: each assertion is stored until it expires,
/// so that it works once.
const MAX_TIME_TO_EXPIRY: TimeDelta = TimeDelta::minutes(5);
/// By how much the clock of a client may differ from the server's.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);

/// An assertion whose signature has not been verified.
pub struct UnverifiedAssertion(UnverifiedJwt<Claims>);

/// An assertion whose signature and claims are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAssertion {
    /// Its id (`jti`). The client must use each once: `repo::oauth_assertions::insert` detects a
    /// second use.
    pub id: String,
    /// Until when it is accepted: its `exp` plus the leeway.
    pub accepted_until: DateTime<Utc>,
}

/// The claims. A member of another JSON type or one that occurs twice makes the assertion invalid.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: AudienceClaim,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: String,
}

impl UnverifiedAssertion {
    /// Reads the parts of an assertion that select the client and its key; `None` if it cannot
    /// be valid.
    #[must_use]
    pub fn parse(text: Secret) -> Option<Self> {
        UnverifiedJwt::parse(text, MAX_BYTES).map(Self)
    }

    /// Returns the client that it claims to come from.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.0.claims.sub
    }

    /// Returns the id of the key that it claims to be signed with.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.0.key_id.as_deref()
    }

    /// Verifies the signature with a client's keys, and the claims: the client is issuer and
    /// subject, `aud` contains one of `audiences`, and the assertion has begun, has not expired and
    /// expires within 5 minutes, each with 30 seconds of leeway, and `jti` has 1 to 200 bytes and
    /// no NUL. `None` if any of this fails.
    #[must_use]
    pub fn verify(
        &self,
        keys: &PublicKeySet,
        audiences: &[String],
        now: DateTime<Utc>,
    ) -> Option<ClientAssertion> {
        let claims = &self.0.claims;
        let expires_at = to_time(claims.exp)?;
        let is_current =
            expires_at > now - LEEWAY && expires_at <= now + MAX_TIME_TO_EXPIRY + LEEWAY;
        let not_before = [claims.nbf, claims.iat].into_iter().flatten();
        let has_begun =
            not_before.map(to_time).all(|time| time.is_some_and(|time| time <= now + LEEWAY));
        let has_id = (1..=MAX_ID_BYTES).contains(&claims.jti.len()) && !claims.jti.contains('\0');
        let is_from_client = claims.iss == claims.sub;
        let is_for_this_server = claims.aud.contains_any(audiences);
        let is_signed = self.0.is_signed_by(keys);
        let is_valid =
            is_signed && is_from_client && is_for_this_server && is_current && has_begun && has_id;
        let id = claims.jti.clone();
        is_valid.then_some(ClientAssertion { id, accepted_until: expires_at + LEEWAY })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
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

    fn keys() -> PublicKeySet {
        let mut jwk = Jwk::from_encoding_key(&key(), Algorithm::EdDSA).expect("a key");
        jwk.common.key_id = Some("k1".to_owned());
        PublicKeySet::parse(&json!({ "keys": [jwk] })).expect("a set")
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
                accepted_until: now() + TimeDelta::seconds(lifetime) + LEEWAY,
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
