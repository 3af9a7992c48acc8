//! Access tokens of accounts: claims, expiry, forged tokens and key rotation.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};

use crate::support::app::text;
use crate::support::{run, with_settings};

/// `openssl genpkey -algorithm ed25519 -outform DER | base64 -w0`, twice.
const ED25519: &str = "MC4CAQAwBQYDK2VwBCIEIIgd9QjEpAZu3+7nwitf6u5KbavrYipHROCB9+gCegjq";
const ANOTHER: &str = "MC4CAQAwBQYDK2VwBCIEIE6v5KsSiEavMRA5IV8qlB4HlTQXakzRVjf6rhx53A8M";

fn part(token: &str, at: usize) -> Value {
    let part = token.split('.').nth(at).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_contains_its_account_and_session_and_expires_after_a_day() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        assert_eq!(part(&ann.token, 0), json!({ "typ": "JWT", "alg": "HS256", "kid": "j2" }));
        let claims = part(&ann.token, 1);
        assert_eq!(claims["sub"], ann.id);
        assert!(text(&claims["sid"]).starts_with("sess_"));
        assert_eq!(claims["aud"], "tenantry");
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(life, 24 * 60 * 60);
        app.clock.advance(TimeDelta::hours(24) - TimeDelta::seconds(1));
        app.bearer(&ann.token).get("/auth/me").await.assert_status(200);
        app.clock.advance(TimeDelta::seconds(1));
        app.bearer(&ann.token).get("/auth/me").await.assert_error(401, "AUTHENTICATION_ERROR");
        let user = app.bearer(&ann.token).get("/api/user/me").await;
        user.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_forged_token_is_rejected_whatever_its_header_contains() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let claims = part(&ann.token, 1);
        let attacker = EncodingKey::from_secret(b"a secret of the attacker's own, 32 bytes");
        let jwk = json!({ "kty": "oct", "k": "YSBzZWNyZXQgb2YgdGhlIGF0dGFja2Vy", "alg": "HS256" });
        let sign = |header: &Header| jsonwebtoken::encode(header, &claims, &attacker).unwrap();
        let hs256 = || Header { kid: Some("j2".to_owned()), ..Header::new(Algorithm::HS256) };
        let forged = [
            sign(&hs256()),
            sign(&Header { jwk: serde_json::from_value(jwk).ok(), ..hs256() }),
            sign(&Header { jku: Some("https://evil.example/jwks.json".to_owned()), ..hs256() }),
            sign(&Header { kid: None, ..hs256() }),
            sign(&Header { kid: Some("../../dev/null".to_owned()), ..hs256() }),
            format!("{}.{}", ann.token, "x.y"),
            format!("{}.", ann.token.rsplit_once('.').unwrap().0),
        ];
        for token in forged {
            let response = app.bearer(&token).get("/api/user/me").await;
            response.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
        }
        let huge = format!("{}{}", ann.token, "x".repeat(1024 * 1024));
        app.bearer(&huge).get("/auth/me").await.assert_status(401);
    })
    .await;
}

#[tokio::test]
async fn with_a_private_key_tokens_can_be_verified_with_the_published_public_key() {
    let keys = format!("e2:{ED25519},e1:{ANOTHER}");
    with_settings(&[("JWT_PRIVATE_KEYS", &keys), ("OAUTH", "off")])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let header = part(&ann.token, 0);
            assert_eq!((&header["alg"], &header["kid"]), (&json!("EdDSA"), &json!("e2")));
            app.bearer(&ann.token).get("/auth/me").await.assert_status(200);

            let published = app.anonymous().get("/.well-known/jwks.json").await.assert_status(200);
            let jwks: jsonwebtoken::jwk::JwkSet = serde_json::from_value(published.body).unwrap();
            assert_eq!(jwks.keys.len(), 2);
            let key = DecodingKey::from_jwk(jwks.find("e2").unwrap()).unwrap();
            let mut validation = Validation::new(Algorithm::EdDSA);
            validation.set_audience(&["tenantry"]);
            let read = jsonwebtoken::decode::<Value>(&ann.token, &key, &validation).unwrap();
            assert_eq!(read.claims["sub"], ann.id);

            // The public key is not accepted as a shared secret.
            let public = text(&part(&ann.token, 0)["kid"]);
            let x = serde_json::to_value(jwks.find("e2").unwrap()).unwrap()["x"].clone();
            let secret = EncodingKey::from_secret(x.as_str().unwrap().as_bytes());
            let header = Header { kid: Some(public), ..Header::new(Algorithm::HS256) };
            let forged = jsonwebtoken::encode(&header, &part(&ann.token, 1), &secret).unwrap();
            app.bearer(&forged).get("/auth/me").await.assert_status(401);
        })
        .await;
}

#[tokio::test]
async fn keys_can_be_rotated_from_a_secret_to_a_private_key_to_the_next() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let first = format!("e1:{ED25519}");
        let both = app.replica_with(&[("JWT_PRIVATE_KEYS", &first)]);
        both.bearer(&ann.token).get("/auth/me").await.assert_status(200);
        let ben = both.sign_up_account("ben@example.com").await;
        let next = format!("e2:{ANOTHER},e1:{ED25519}");
        let next = both.replica_with(&[("JWT_PRIVATE_KEYS", &next)]);
        next.bearer(&ben.token).get("/auth/me").await.assert_status(200);
        // Removing a key from the configuration ends its tokens.
        let gone = format!("e2:{ANOTHER}");
        let gone = both.replica_with(&[("JWT_PRIVATE_KEYS", &gone)]);
        gone.bearer(&ben.token).get("/auth/me").await.assert_status(401);
        for replica in [both, next, gone] {
            replica.app.meter.flush().await.unwrap();
            replica.close();
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_private_key_nothing_is_published() {
    with_settings(&[("OAUTH", "off")])
        .run(async |app| {
            let published = app.anonymous().get("/.well-known/jwks.json").await.assert_status(200);
            assert_eq!(published.body, json!({ "keys": [] }));
        })
        .await;
}
