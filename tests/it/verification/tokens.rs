//! `POST /v1/verify/token`. Tokens for proxies are in `proxy_tokens`.

use chrono::TimeDelta;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::{Value, json};

use super::{code, key_with_scope, verify};
use crate::support::app::{PRIVATE_KEYS, TestSettings, text};
use crate::support::client::TestResponse;
use crate::support::requests::Fixtures;
use crate::support::spec::operations;
use crate::support::{TestApp, run, with_settings};

pub const AUDIENCE: &str = "https://search.example.com";

/// A server that can sign tokens.
pub fn with_private_keys(settings: &[(&str, &str)]) -> TestSettings {
    with_settings(&[&[("JWT_PRIVATE_KEYS", PRIVATE_KEYS)], settings].concat())
}

/// The claims of a token, which is verified with the published keys as a service does it.
pub async fn claims(app: &TestApp, token: &str, audience: &str) -> Value {
    let jwks = app.anonymous().get("/.well-known/jwks.json").await.assert_status(200);
    let jwks: JwkSet = serde_json::from_value(jwks.body).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    let expected = Header { kid: Some("e1".to_owned()), ..Header::new(Algorithm::EdDSA) };
    assert_eq!(header, Header { typ: Some("at+jwt".to_owned()), ..expected });
    let key = DecodingKey::from_jwk(jwks.find("e1").unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[audience]);
    validation.set_issuer(&["http://127.0.0.1:8080"]);
    jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims
}

/// Asks for a token for a key, with these additions to the request.
async fn ask(app: &TestApp, key: &str, additions: Value) -> TestResponse {
    let mut request = json!({ "key": key, "audience": AUDIENCE });
    request.as_object_mut().unwrap().extend(additions.as_object().unwrap().clone());
    app.verifier().post("/v1/verify/token", request).await
}

#[tokio::test]
async fn a_valid_key_gets_a_token_that_its_audience_verifies_with_the_published_keys() {
    with_private_keys(&[])
        .run(async |app| {
            let acme = app.sign_up().await;
            let response = ask(app, &acme.api_key, json!({})).await.assert_status(200);
            let (mut verdict, token) = (response.body.clone(), text(&response.body["token"]));
            assert_eq!(verdict["expires_at"], "2036-05-08T09:57:42.000Z");
            let claims = claims(app, &token, AUDIENCE).await;
            let expected = json!({
                "iss": "http://127.0.0.1:8080", "aud": AUDIENCE, "sub": acme.org_id,
                "client_id": acme.key_id, "key_id": acme.key_id, "scope": "*", "plan": "trial",
                "iat": 2_093_853_402, "exp": 2_093_853_462, "jti": claims["jti"],
            });
            assert_eq!(claims, expected);
            let again = ask(app, &acme.api_key, json!({})).await.assert_status(200);
            assert_ne!(again.body["token"], token.as_str(), "a jti is used once");
            // The rest is the verdict of a check, which counts once.
            let object = verdict.as_object_mut().unwrap();
            object.remove("token");
            object.remove("expires_at");
            let mut check = verify(app, &acme.api_key, json!({})).await;
            assert_eq!(
                (&verdict["quota"]["used"], &check["quota"]["used"]),
                (&json!(1), &json!(3))
            );
            check["quota"] = verdict["quota"].clone();
            check["request_id"] = verdict["request_id"].clone();
            assert_eq!(verdict, check);
        })
        .await;
}

#[tokio::test]
async fn a_token_has_the_scopes_that_were_asked_for_if_the_key_has_them_all() {
    with_private_keys(&[("SCOPES", "docs:read,docs:write")])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let key = key_with_scope(app, &ann, "docs:*").await;
            let scope = async |additions: Value| {
                let response = ask(app, &key, additions).await.assert_status(200);
                claims(app, &text(&response.body["token"]), AUDIENCE).await["scope"].clone()
            };
            assert_eq!(scope(json!({})).await, "docs:*");
            assert_eq!(scope(json!({ "scopes": null })).await, "docs:*");
            assert_eq!(scope(json!({ "scopes": ["docs:read"] })).await, "docs:read");
            let both = json!({ "scopes": ["docs:write", "docs:read"] });
            assert_eq!(scope(both).await, "docs:write docs:read");
            let more = json!({ "scopes": ["docs:read", "usage:read"] });
            let rejected = ask(app, &key, more).await.assert_status(200);
            assert_eq!(rejected.body["code"], "scope_missing");
            assert_eq!(rejected.body["missing_scopes"], json!(["usage:read"]));
            assert_eq!(rejected.body["token"], Value::Null);
        })
        .await;
}

#[tokio::test]
async fn a_personal_token_s_scopes_are_those_that_its_account_s_role_permits() {
    with_private_keys(&[("SCOPES", "docs:read,docs:write")])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            app.invite_and_accept(&ann, &ben, "member").await;
            let request = json!({ "name": "ci", "scopes": ["*"],
                                  "metadata": { "organizationId": ann.org_id } });
            let (token, id) = app.create_token(&ben.cookie, request).await;
            let issued = ask(app, &token, json!({})).await.assert_status(200);
            let claims = claims(app, &text(&issued.body["token"]), AUDIENCE).await;
            assert_eq!((&claims["sub"], &claims["key_id"]), (&json!(ann.org_id), &json!(id)));
            assert_eq!(claims["account_id"], ben.id);
            let scopes: Vec<_> = claims["scope"].as_str().unwrap().split(' ').collect();
            assert!(scopes.contains(&"docs:*"), "{scopes:?}");
            assert!(!scopes.contains(&"docs:read"), "docs:* covers it: {scopes:?}");
            // Each scope passes a check, and a member lacks none of them.
            for scope in &scopes {
                let required = json!({ "scopes": [[scope]] });
                assert_eq!(code(app, &token, required).await, "valid", "{scope}");
            }
            for lacking in ["*", "members:*", "members:write", "audit:read"] {
                assert!(!scopes.contains(&lacking), "{lacking}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_token_expires_with_its_key_at_the_latest() {
    with_private_keys(&[])
        .run(async |app| {
            let acme = app.sign_up().await;
            let lifetime = async |key: &str, additions: Value| {
                let response = ask(app, key, additions).await.assert_status(200);
                let claims = claims(app, &text(&response.body["token"]), AUDIENCE).await;
                claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
            };
            for seconds in [10, 61, 300] {
                let additions = json!({ "expires_in": seconds });
                assert_eq!(lifetime(&acme.api_key, additions).await, seconds);
            }
            // The clock is at 09:56:42.855.
            let request = json!({ "name": "a", "expires_at": "2036-05-08T09:57:12.999Z" });
            let key = app.create_key_with(&acme.api_key, request).await.api_key;
            assert_eq!(lifetime(&key, json!({ "expires_in": 300 })).await, 30);
            assert_eq!(lifetime(&key, json!({ "expires_in": 10 })).await, 10);
            app.clock.advance(TimeDelta::seconds(20));
            assert_eq!(lifetime(&key, json!({})).await, 10);
        })
        .await;
}

#[tokio::test]
async fn only_a_valid_verdict_has_a_token() {
    with_private_keys(&[("PLANS", r#"{"starter":{"requests_per_month":0}}"#)])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let key = key_with_scope(app, &ann, "trademarks:read").await;
            let unknown = app.app.config.keys.format.generate(&*app.app.entropy);
            let check = async |key: &str, additions: Value, expected: &str| {
                let response = ask(app, key, additions).await.assert_status(200);
                assert_eq!(response.body["code"], expected);
                assert_eq!(response.body["valid"], false);
                assert_eq!(response.body["token"], Value::Null, "{expected}");
                assert_eq!(response.body["expires_at"], Value::Null, "{expected}");
            };
            let from = |ip: &str| json!({ "client": { "ip": ip } });
            check("garbage", json!({}), "key_malformed").await;
            check(unknown.expose(), json!({}), "key_unknown").await;
            let request = json!({ "name": "ci", "scopes": ["*"], "allowedIps": ["203.0.113.9"] });
            let bound = app.create_key(&ann, request).await.api_key;
            check(&bound, json!({}), "address_unknown").await;
            check(&bound, from("192.0.2.7"), "address_not_allowed").await;
            let passed = ask(app, &bound, from("203.0.113.9")).await.assert_status(200);
            assert!(passed.body["token"].is_string());
            app.execute("update organizations set allowed_origins = '{https://a.example}'").await;
            let origin = json!({ "client": { "origin": "https://evil.example" } });
            check(&key, origin, "origin_not_allowed").await;
            let scopes = json!({ "scopes": ["docs:read"] });
            check(&key, scopes, "scope_missing").await;
            app.execute("update organizations set plan = 'starter'").await;
            check(&key, json!({}), "quota_exceeded").await;
            app.execute("update api_keys set enabled = false").await;
            check(&key, json!({}), "key_disabled").await;
            app.execute("update api_keys set expires_at = now() - interval '1 second'").await;
            check(&key, json!({}), "key_expired").await;
            app.execute("update api_keys set superseded_at = now(), name_held = false").await;
            check(&key, json!({}), "key_rotated").await;
            app.execute("update api_keys set revoked_at = now()").await;
            check(&key, json!({}), "key_revoked").await;
            app.execute("update organizations set suspended_at = now()").await;
            check(&key, json!({}), "organization_suspended").await;
        })
        .await;
}

#[tokio::test]
async fn invalid_requests_name_every_problem_and_check_nothing() {
    with_private_keys(&[])
        .run(async |app| {
            let acme = app.sign_up().await;
            let key = &acme.api_key;
            let valid = json!({ "key": key, "audience": "a" });
            let with = |name: &str, value: Value| {
                let mut request = valid.clone();
                request[name] = value;
                request
            };
            let many: Vec<String> = (0..17).map(|number| format!("docs:a{number}")).collect();
            for (request, fields) in [
                (json!({}), vec!["key", "audience"]),
                (
                    json!({ "key": "", "audience": "", "expires_in": 9 }),
                    vec!["key", "audience", "expires_in"],
                ),
                (
                    json!({ "key": "k".repeat(513), "audience": "a".repeat(257) }),
                    vec!["key", "audience"],
                ),
                (with("audience", json!("a\u{0}")), vec!["audience"]),
                (with("audience", json!("tenantry")), vec!["audience"]),
                (with("audience", json!(["a"])), vec!["audience"]),
                (with("audience", Value::Null), vec!["audience"]),
                (with("expires_in", json!(9)), vec!["expires_in"]),
                (with("expires_in", json!(301)), vec!["expires_in"]),
                (with("expires_in", json!(1.5)), vec!["expires_in"]),
                (with("expires_in", json!("60")), vec!["expires_in"]),
                (with("scopes", json!([])), vec!["scopes"]),
                (with("scopes", json!([["docs:read"]])), vec!["scopes"]),
                (with("scopes", json!("docs:read")), vec!["scopes"]),
                (with("scopes", json!(["docs"])), vec!["scopes"]),
                (with("scopes", json!(["docs:read", "docs:read"])), vec!["scopes"]),
                (with("scopes", json!(many)), vec!["scopes"]),
                (with("client", json!({ "ip": "nowhere" })), vec!["client"]),
                (with("expiresIn", json!(60)), vec!["expiresIn"]),
            ] {
                let rejected = app.verifier().post("/v1/verify/token", request).await;
                let rejected = rejected.assert_error(400, "validation_error");
                assert_eq!(rejected.invalid_fields(), fields, "{}", rejected.text);
            }
            let twice = format!(r#"{{"key":"{key}","audience":"a","audience":"b"}}"#);
            let client = app.verifier().with("content-type", "application/json");
            let rejected = client.send("POST", "/v1/verify/token", twice).await;
            let rejected = rejected.assert_error(400, "validation_error");
            assert_eq!(rejected.invalid_fields(), ["audience"]);
            for audience in ["a".repeat(256), "é".repeat(256)] {
                let request = with("audience", json!(audience));
                let issued = app.verifier().post("/v1/verify/token", request).await;
                let token = text(&issued.assert_status(200).body["token"]);
                assert_eq!(claims(app, &token, &audience).await["aud"], audience.as_str());
            }
            let check = verify(app, key, json!({})).await;
            assert_eq!(check["quota"]["used"], 3, "the two valid requests and this one");
        })
        .await;
}

#[tokio::test]
async fn without_jwt_private_keys_nothing_is_checked_or_issued() {
    run(async |app| {
        let acme = app.sign_up().await;
        for key in [acme.api_key.as_str(), "garbage"] {
            let conflict = ask(app, key, json!({})).await.assert_error(409, "conflict");
            assert!(conflict.text.contains("JWT_PRIVATE_KEYS"), "{}", conflict.text);
        }
        let check = verify(app, &acme.api_key, json!({})).await;
        assert_eq!(check["quota"]["used"], 1, "this check alone");
    })
    .await;
}

/// Asserts that no endpoint that needs a credential accepts one of these texts.
pub async fn assert_no_endpoint_accepts(app: &TestApp, fixtures: &Fixtures, tokens: &[String]) {
    let mut tried = 0;
    for operation in operations().iter().filter(|it| it.requires_credential()) {
        if operation.is_signed() {
            continue;
        }
        let (path, body) = (fixtures.path(operation), fixtures.body(operation));
        let content_type = operation.content_type().unwrap_or("application/json");
        for token in tokens {
            for client in [
                app.bearer(token),
                app.key(token),
                app.session(token),
                app.anonymous().with("x-tenantry-verifier", token),
            ] {
                let client = client.with("content-type", content_type);
                let response = client.send(&operation.method, &path, body.clone()).await;
                // To a proxy's client, the check is unavailable.
                let status = if operation.is_for_proxies() { 503 } else { 401 };
                response.assert_status(status);
                tried += 1;
            }
        }
    }
    assert!(tried > 250 * tokens.len(), "{tried}");
}

#[tokio::test]
async fn no_endpoint_of_tenantry_accepts_the_token_as_a_credential() {
    for import in ["off", "on"] {
        with_private_keys(&[("KEY_IMPORT", import)])
            .run(async |app| {
                let fixtures = Fixtures::new(app).await;
                let mut tokens = Vec::new();
                for audience in [AUDIENCE, "http://127.0.0.1:8080", "Tenantry"] {
                    let request = json!({ "audience": audience });
                    let issued = ask(app, &fixtures.acme.api_key, request).await;
                    tokens.push(text(&issued.assert_status(200).body["token"]));
                }
                assert_no_endpoint_accepts(app, &fixtures, &tokens).await;
                for token in &tokens {
                    let anonymous = app.anonymous();
                    let exchange = json!({ "api_key": token });
                    anonymous.post("/auth/token-exchange", exchange).await.assert_status(401);
                    let refresh = json!({ "refresh_token": token });
                    anonymous.post("/auth/refresh", refresh).await.assert_status(401);
                    assert_ne!(code(app, token, json!({})).await, "valid");
                    let body = format!("token={token}");
                    let inactive = app.verifier().post_form("/oauth2/introspect", &body).await;
                    assert_eq!(inactive.assert_status(200).text, r#"{"active":false}"#);
                }
            })
            .await;
    }
}
