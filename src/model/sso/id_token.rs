//! ID tokens of identity providers (`OpenID` Connect Core §3.1.3.7).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::jwt::{AudienceClaim, UnverifiedJwt, access_token_hash, to_time};
use crate::model::public_key_set::PublicKeySet;
use crate::model::secret::Secret;
use crate::model::sso::provider_identity::ProviderIdentity;

/// The maximum length of a token, in bytes: providers put long lists of groups into it.
const MAX_BYTES: usize = 32 * 1024;

/// An ID token whose signature has not been verified.
pub struct UnverifiedIdToken(UnverifiedJwt<Claims>);

/// The claims. A member of another JSON type or one that occurs twice makes the token invalid.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: AudienceClaim,
    azp: Option<String>,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    nonce: Option<String>,
    at_hash: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// What a token must be for.
pub struct ExpectedIdToken<'a> {
    /// The provider's issuer identifier.
    pub issuer: &'a str,
    /// The id of the client at the provider.
    pub client_id: &'a str,
    /// The nonce of the authentication request.
    pub nonce: &'a str,
    /// The access token that came with it.
    pub access_token: &'a Secret,
    /// The time now.
    pub now: DateTime<Utc>,
    /// By how much the provider's clock may differ.
    pub clock_skew: Duration,
}

impl UnverifiedIdToken {
    /// Reads a token; `None` if it cannot be valid: it is no signed JWT, it has an algorithm that
    /// is not supported, or a claim that is required is missing or of another type.
    #[must_use]
    pub fn parse(text: Secret) -> Option<Self> {
        UnverifiedJwt::parse(text, MAX_BYTES).map(Self)
    }

    /// Returns the id of the key that it claims to be signed with.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.0.key_id.as_deref()
    }

    /// Verifies the signature with the provider's keys, and the claims, and returns what the
    /// provider states about the person.
    ///
    /// # Errors
    /// What is wrong with the token, without its contents.
    pub fn verify(
        self,
        keys: &PublicKeySet,
        expected: &ExpectedIdToken<'_>,
    ) -> Result<ProviderIdentity, &'static str> {
        if !self.0.is_signed_by(keys) {
            return Err("the ID token is not signed by a key of the provider");
        }
        let algorithm = self.0.algorithm();
        let claims = self.0.claims;
        if claims.iss != expected.issuer {
            return Err("the ID token is from another issuer");
        }
        check_audience(&claims, expected.client_id)?;
        check_times(&claims, expected)?;
        if claims.nonce.as_deref() != Some(expected.nonce) {
            return Err("the ID token is for another sign-in: its nonce is another one");
        }
        if let Some(hash) = claims.at_hash
            && algorithm != Algorithm::EdDSA
            && hash != access_token_hash(expected.access_token)
        {
            return Err("the ID token is for another access token: at_hash does not match");
        }
        ProviderIdentity::new(claims.sub, claims.others)
    }
}

/// The token must be for the client. If it is for others as well, or states who requested it, that
/// must be the client.
fn check_audience(claims: &Claims, client_id: &str) -> Result<(), &'static str> {
    let audiences = claims.aud.as_slice();
    if !audiences.iter().any(|audience| audience == client_id) {
        return Err("the ID token is for another client: aud does not contain the client id");
    }
    let is_requester = claims.azp.as_deref() == Some(client_id);
    if (claims.azp.is_some() || audiences.len() > 1) && !is_requester {
        return Err("the ID token was requested by another client: azp is not the client id");
    }
    Ok(())
}

fn check_times(claims: &Claims, expected: &ExpectedIdToken<'_>) -> Result<(), &'static str> {
    let skew = TimeDelta::from_std(expected.clock_skew).unwrap_or_default();
    let has_begun = |seconds| to_time(seconds).is_some_and(|time| time <= expected.now + skew);
    if to_time(claims.exp).is_none_or(|time| time <= expected.now - skew) {
        return Err("the ID token has expired; compare the clocks of both servers");
    }
    if !has_begun(claims.iat) || !claims.nbf.is_none_or(has_begun) {
        return Err("the ID token is from the future; compare the clocks of both servers");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    /// The key of RFC 8037, appendix A.1.
    const ED25519: &str = "302e020100300506032b657004220420\
                           9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const ISSUER: &str = "https://idp.example.com";

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
        let at = now().timestamp();
        json!({ "iss": ISSUER, "sub": "ann", "aud": "tenantry", "nonce": "n", "iat": at,
                "exp": at + 600, "email": "ann@example.com" })
    }

    fn sign(claims: &Value, kid: Option<&str>) -> Secret {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
        Secret::new(encode(&header, claims, &key()).expect("signed"))
    }

    fn verify(text: Secret) -> Result<ProviderIdentity, &'static str> {
        let access_token = Secret::new("access".to_owned());
        let expected = ExpectedIdToken {
            issuer: ISSUER,
            client_id: "tenantry",
            nonce: "n",
            access_token: &access_token,
            now: now(),
            clock_skew: Duration::from_mins(2),
        };
        UnverifiedIdToken::parse(text).ok_or("malformed")?.verify(&keys(), &expected)
    }

    #[test]
    fn a_token_for_this_sign_in_is_valid_within_the_clock_skew() {
        let at = now().timestamp();
        for (name, value) in [
            ("aud", json!(["tenantry"])),
            ("azp", json!("tenantry")),
            ("exp", json!(at - 119)),
            ("iat", json!(at + 120)),
            ("nbf", json!(at + 120)),
            ("exp", json!(2_093_850_600.5)),
            ("groups", json!(["staff"])),
        ] {
            let mut claims = claims();
            claims[name] = value;
            let identity = verify(sign(&claims, Some("k1"))).expect("valid");
            assert_eq!(identity.subject, "ann", "{claims}");
        }
        let mut two = claims();
        (two["aud"], two["azp"]) = (json!(["tenantry", "other"]), json!("tenantry"));
        assert!(verify(sign(&two, None)).is_ok());
    }

    #[test]
    fn a_token_with_a_claim_that_is_missing_wrong_or_of_another_type_is_rejected() {
        for name in ["iss", "sub", "aud", "nonce", "exp", "iat"] {
            let mut claims = claims();
            claims.as_object_mut().expect("an object").remove(name);
            assert!(verify(sign(&claims, Some("k1"))).is_err(), "without {name}");
        }
        let at = now().timestamp();
        for (name, value) in [
            ("iss", json!("https://idp.example.com/")),
            ("iss", json!([ISSUER])),
            ("sub", json!("")),
            ("sub", json!(7)),
            ("sub", json!("s".repeat(256))),
            ("sub", json!("a\0")),
            ("aud", json!("other")),
            ("aud", json!([])),
            ("aud", json!({ "tenantry": true })),
            ("aud", json!(["tenantry", "other"])),
            ("azp", json!("other")),
            ("azp", json!(["tenantry"])),
            ("nonce", json!("m")),
            ("nonce", json!(1)),
            ("nonce", json!(null)),
            ("exp", json!(at - 120)),
            ("exp", json!("tomorrow")),
            ("exp", json!(1e300)),
            ("iat", json!(at + 121)),
            ("iat", json!("now")),
            ("nbf", json!(at + 121)),
        ] {
            let mut claims = claims();
            claims[name] = value.clone();
            assert!(verify(sign(&claims, Some("k1"))).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn a_token_that_no_key_of_the_provider_signed_is_rejected() {
        assert!(verify(sign(&claims(), Some("k2"))).is_err());
        let text = sign(&claims(), Some("k1"));
        let parts: Vec<&str> = text.expose().split('.').collect();
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        for (header, signature) in [
            (json!({ "alg": "none" }), ""),
            (json!({ "alg": "none" }), parts[2]),
            (json!({ "alg": "HS256", "kid": "k1" }), parts[2]),
            (json!({ "alg": "ES256", "kid": "k1" }), parts[2]),
            (json!({ "alg": "EdDSA", "kid": "k1", "crit": ["b64"] }), parts[2]),
        ] {
            let text = format!("{}.{}.{signature}", part(header), parts[1]);
            assert!(verify(Secret::new(text.clone())).is_err(), "{text}");
        }
        for text in ["", "a.b.c", parts[1]] {
            assert!(verify(Secret::new(text.to_owned())).is_err(), "{text}");
        }
    }
}
