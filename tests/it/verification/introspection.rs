//! `POST /oauth2/introspect` (RFC 7662)

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{key_with_scope, verify};
use crate::organization::peppers::imported;
use crate::support::client::{TestClient, TestResponse};
use crate::support::rate_limits::with_limits;
use crate::support::{TestApp, run, with_settings};

const PATH: &str = "/oauth2/introspect";
const INACTIVE: &str = r#"{"active":false}"#;
const SECRET: &str = "verifier-gateway-0123456789abcdef0123456789";

async fn introspect(app: &TestApp, token: &str) -> TestResponse {
    let body = format!("token={token}&token_type_hint=access_token&other=1");
    let response = app.verifier().post_form(&format!("{PATH}?a=b&token=x"), &body).await;
    let response = response.assert_status(200);
    assert_eq!(response.header("cache-control"), "no-store");
    assert_eq!(response.header("content-type"), "application/json");
    response
}

/// A client that authenticates with Basic.
pub fn basic(app: &TestApp, text: &str) -> TestClient {
    app.anonymous().with("authorization", &format!("Basic {}", BASE64_STANDARD.encode(text)))
}

#[tokio::test]
async fn an_active_key_is_described_with_its_organization() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({ "name": "ci", "scopes": ["usage:read", "trademarks:read"],
                              "expires_at": "2036-06-01T00:00:00.999Z" });
        let key = app.create_key_with(&acme.api_key, request).await;
        let expected = json!({
            "active": true, "scope": "usage:read trademarks:read", "client_id": key.key_id,
            "sub": acme.org_id, "exp": 2_095_891_200, "iat": 2_093_853_402,
            "iss": "http://127.0.0.1:8080", "token_type": "api_key",
        });
        assert_eq!(introspect(app, &key.api_key).await.body, expected);
        let never = introspect(app, &acme.api_key).await.body;
        assert_eq!((&never["active"], never.get("exp")), (&json!(true), None));
    })
    .await;
}

/// Some systems issue JWTs as API keys.
#[tokio::test]
async fn an_imported_key_that_has_the_form_of_a_jwt_is_active() {
    with_settings(&[("KEY_IMPORT", "on"), ("OAUTH", "on")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let key = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
            let keys = vec![imported(app, 1, &acme.org_id, key)];
            tenantry::domain::keys::import::import(&app.app, keys).await.unwrap();
            assert_eq!(introspect(app, key).await.body["active"], true);
            assert_eq!(introspect(app, &key[..key.len() - 1]).await.text, INACTIVE);
        })
        .await;
}

#[tokio::test]
async fn an_active_personal_token_is_described_with_its_account_and_within_its_role() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        let request = json!({ "name": "ci", "scopes": ["members:*", "trademarks:read"],
                              "metadata": { "organizationId": ann.org_id } });
        let (token, id) = app.create_token(&ben.cookie, request).await;
        let active = introspect(app, &token).await.body;
        let expected = json!({
            "active": true, "scope": "trademarks:read members:read", "client_id": id,
            "sub": ann.org_id, "account_id": ben.id, "iat": 2_093_853_402,
            "iss": "http://127.0.0.1:8080", "token_type": "personal_token",
        });
        assert_eq!(active, expected);
        app.execute("update users set role = 'admin' where role = 'member'").await;
        assert_eq!(introspect(app, &token).await.body["scope"], "members:* trademarks:read");
    })
    .await;
}

/// A client that sees the response cannot tell the reason.
#[tokio::test]
async fn every_token_that_is_not_active_gets_the_same_response_byte_for_byte() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let key = key_with_scope(app, &ann, "trademarks:read").await;
        let request = json!({ "name": "pat", "scopes": ["trademarks:read"] });
        let (token, _) = app.create_token(&ann.cookie, request).await;
        let request = json!({ "name": "ci", "scopes": ["*"], "allowedIps": ["192.0.2.0/24"] });
        let bound = app.create_key(&ann, request).await.api_key;
        let acme = app.sign_up().await;
        let (access, refresh) = app.exchange(&acme.api_key).await;
        let unknown = app.app.config.keys.format.generate(&*app.app.entropy);
        let (long, longest) = ("a".repeat(513), "a".repeat(60_000));
        for other in [
            "garbage",
            "%00",
            "%FF",
            unknown.expose(),
            &bound,
            &access,
            &refresh,
            &ann.token,
            &ann.cookie,
            SECRET,
            &long,
            &longest,
        ] {
            assert_eq!(introspect(app, other).await.text, INACTIVE);
        }
        let inactive = async |change: &'static str| {
            app.execute(change).await;
            assert_eq!(introspect(app, &key).await.text, INACTIVE, "{change}");
        };
        assert_eq!(introspect(app, &key).await.body["active"], true);
        inactive("update api_keys set enabled = false").await;
        inactive("update api_keys set expires_at = now() - interval '1 second'").await;
        inactive("update api_keys set superseded_at = now(), name_held = false").await;
        inactive("update api_keys set revoked_at = now()").await;
        assert_eq!(introspect(app, &token).await.body["active"], true);
        app.execute("update accounts set is_active = false").await;
        assert_eq!(introspect(app, &token).await.text, INACTIVE, "an inactive account");
        app.execute("update accounts set is_active = true").await;
        app.execute("update organizations set suspended_at = now()").await;
        assert_eq!(introspect(app, &token).await.text, INACTIVE, "a suspended organization");
        inactive("update organizations set deleted_at = now()").await;
    })
    .await;
}

#[tokio::test]
async fn introspection_counts_against_no_limit_and_a_key_over_its_quota_is_active() {
    let plans = r#"{"trial":{"requests_per_month":2,"requests_per_minute":2}}"#;
    with_settings(&[("PLANS", plans), ("LIMITS_PROFILE", "usual")])
        .run(async |app| {
            let acme = app.sign_up().await;
            for _ in 0..5 {
                assert_eq!(introspect(app, &acme.api_key).await.body["active"], true);
            }
            app.app.meter.flush().await.unwrap();
            assert_eq!(app.count("select count(*) from usage_daily").await, 0);
            let used = "select count(*) from api_keys where last_used_at is not null";
            assert_eq!(app.count(used).await, 1, "the key was used");
            for expected in ["valid", "valid", "quota_exceeded"] {
                assert_eq!(verify(app, &acme.api_key, json!({})).await["code"], expected);
            }
            assert_eq!(introspect(app, &acme.api_key).await.body["active"], true);
        })
        .await;
}

#[tokio::test]
async fn an_inactive_key_counts_against_its_verifier_s_limit_and_is_in_its_organization_s_lists() {
    with_limits(r#"{"checked_unknown_keys":{"quota":4,"window_s":600}}"#)
        .run(async |app| {
            let acme = app.sign_up().await;
            let revoked = app.create_key_with(&acme.api_key, json!({ "name": "ci" })).await;
            let path = format!("/v1/organization/api-keys/{}", revoked.key_id);
            app.key(&acme.api_key).delete(&path).await.assert_status(200);
            for token in [&*revoked.api_key, "garbage"].repeat(3) {
                assert_eq!(introspect(app, token).await.text, INACTIVE);
            }
            // The answer stays the same; a check without a client's address shows the limit.
            let code = verify(app, "garbage", json!({})).await["code"].clone();
            assert_eq!(code, "rate_limited");
            assert_eq!(introspect(app, &acme.api_key).await.body["active"], true);
            let list = app.key(&acme.api_key).get("/v1/organization/denials").await;
            let rejections = list.assert_status(200).body["data"].clone();
            assert_eq!(rejections.as_array().unwrap().len(), 3);
            assert_eq!(rejections[0]["path"], PATH);
            assert!(rejections[0]["detail"].as_str().unwrap().contains("gateway"));
            app.app.rejections.flush().await.unwrap();
            let audit = "/v1/organization/audit-log?event_type=api_key.refused";
            let events = app.key(&acme.api_key).get(audit).await.assert_status(200);
            assert_eq!(
                events.body["data"][0]["detail"],
                json!({ "reason": "revoked", "count": 3 })
            );
        })
        .await;
}

#[tokio::test]
async fn a_verifier_authenticates_in_three_ways_and_no_other() {
    let odd = "s+cret/with=odd:characters%20and&more";
    let keys = format!("gateway:{SECRET},my_api:{odd}");
    with_settings(&[("VERIFIER_KEYS", &keys)])
        .run(async |app| {
            app.seen_secrets.lock().unwrap().push(odd.to_owned());
            let acme = app.sign_up().await;
            let body = format!("token={}", acme.api_key);
            let encoded: String = url::form_urlencoded::byte_serialize(odd.as_bytes()).collect();
            for client in [
                app.verifier(),
                app.anonymous().with("x-tenantry-verifier", odd),
                app.anonymous().with("authorization", &format!("Bearer {odd}")),
                basic(app, &format!("gateway:{SECRET}")),
                basic(app, &format!("my_api:{encoded}")),
                basic(app, &format!("my%5Fapi:{encoded}")),
                // Sent by software that ignores RFC 6749.
                basic(app, &format!("my_api:{odd}")),
            ] {
                let active = client.post_form(PATH, &body).await.assert_status(200);
                assert_eq!(active.body["sub"], acme.org_id);
            }
            for client in [
                app.anonymous(),
                basic(app, &format!("my_api:{SECRET}")),
                basic(app, &format!("gateway:{encoded}")),
                basic(app, &format!("my%5Fapi:{odd}")),
                basic(app, &format!(":{SECRET}")),
                basic(app, SECRET),
                app.anonymous().with("authorization", "Basic ***"),
                app.anonymous().with("authorization", "Basic"),
                app.key(SECRET),
                basic(app, &format!("gateway:{SECRET}")).with("authorization", "Basic YTpi"),
            ] {
                let rejected = client.post_form(PATH, &body).await;
                let rejected = rejected.assert_error(401, "invalid_client");
                assert!(rejected.header("www-authenticate").starts_with("Basic realm="));
                assert!(!rejected.text.contains("active"), "{}", rejected.text);
            }
            // A secret in the body is not read.
            let in_body = format!("{body}&client_id=gateway&client_secret={SECRET}");
            app.anonymous().post_form(PATH, &in_body).await.assert_error(401, "invalid_client");
            // Basic is for introspection alone.
            let check = json!({ "key": acme.api_key });
            let client = basic(app, &format!("gateway:{SECRET}"));
            client.post("/v1/verify", check).await.assert_error(401, "unauthorized");
        })
        .await;
}

#[tokio::test]
async fn invalid_requests_have_the_errors_of_rfc_6749() {
    run(async |app| {
        let form = "application/x-www-form-urlencoded";
        let verifier = app.verifier().with("content-type", form);
        let reject = async |body: &str, description: &str| {
            let rejected = verifier.send("POST", PATH, body.to_owned()).await;
            let rejected = rejected.assert_error(400, "invalid_request");
            let expected = json!({ "error": "invalid_request", "error_description": description });
            assert_eq!(rejected.body, expected);
            assert_eq!(rejected.header("cache-control"), "no-store");
        };
        for body in ["", "token=", "token", "Token=x", "token_type_hint=a", "{\"token\":\"x\"}"] {
            reject(body, "`token` is required").await;
        }
        reject("token=x&token=x", "`token` must not be repeated").await;
        reject(
            "token=x&%C3%A9=1&%C3%A9=2&token=y",
            "`?` must not be repeated; `token` must not be repeated",
        )
        .await;
        let send = async |client: TestClient, body: String, status: u16| {
            client.send("POST", PATH, body).await.assert_error(status, "invalid_request");
        };
        let typed = |content_type: &str| app.verifier().with("content-type", content_type);
        for content_type in [
            "application/json",
            "text/plain",
            "",
            "multipart/form-data",
            "application/x-www-form-urlencoded; charset=latin1",
        ] {
            send(typed(content_type), "token=x".to_owned(), 415).await;
        }
        let charset = format!("{form}; charset=UTF-8");
        typed(&charset).send("POST", PATH, "token=x").await.assert_status(200);
        send(app.verifier(), "token=x".to_owned(), 415).await;
        send(verifier.with("content-encoding", "gzip"), "token=x".to_owned(), 415).await;
        send(verifier.with("content-type", form), "token=x".to_owned(), 415).await;
        send(verifier.clone(), format!("token={}", "x".repeat(65_536)), 413).await;
        for method in ["GET", "PUT", "DELETE"] {
            let rejected = app.verifier().send(method, PATH, "").await;
            let rejected = rejected.assert_error(405, "invalid_request");
            assert_eq!(rejected.header("allow"), "POST");
        }
        app.verifier().get("/oauth2/other").await.assert_error(404, "not_found");
    })
    .await;
}

#[tokio::test]
async fn without_verifiers_and_oauth_there_is_no_introspection() {
    with_settings(&[("VERIFIER_KEYS", ""), ("OAUTH", "off")])
        .run(async |app| {
            let response = app.anonymous().post_form(PATH, "token=x").await;
            response.assert_error(404, "not_found");
        })
        .await;
}

#[tokio::test]
async fn without_its_database_introspection_is_unavailable_and_never_inactive() {
    with_settings(&[("VERIFY_TIMEOUT_MS", "100")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let mut lock = app.superuser().await;
            sqlx::raw_sql("begin; lock table api_keys").execute(&mut lock).await.unwrap();
            let body = format!("token={}", acme.api_key);
            let response = app.verifier().post_form(PATH, &body).await;
            let response = response.assert_error(503, "temporarily_unavailable");
            assert_eq!(response.header("retry-after"), "1");
            assert_ne!(response.body["active"], Value::Bool(false));
            sqlx::raw_sql("rollback").execute(&mut lock).await.unwrap();
        })
        .await;
}
