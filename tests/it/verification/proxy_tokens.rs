//! Short-lived tokens for proxies, in `X-Tenantry-Token`.

use serde_json::{Value, json};

use super::tokens::{claims, with_private_keys};
use crate::support::client::{TestClient, TestResponse};
use crate::support::{TestApp, run};

const ROUTES: [&str; 3] = ["/v1/verify/forward", "/v1/verify/nginx", "/v1/verify/envoy"];

/// A check of a key at a route, with a token for the audience.
async fn check(app: &TestApp, key: &str, route: &str, audience: &str) -> TestResponse {
    let client = app.verifier().with("x-api-key", key);
    if route.ends_with("envoy") {
        return client.with("x-tenantry-token-audience", audience).get(route).await;
    }
    let audience: String = url::form_urlencoded::byte_serialize(audience.as_bytes()).collect();
    client.get(&format!("{route}?token=1&aud={audience}")).await
}

/// The size of Tenantry's own headers of a response, with the rate limits.
fn size(response: &TestResponse) -> usize {
    let is_own = |name: &str| name.starts_with("x-tenantry-") || name.starts_with("ratelimit");
    let own = response.headers.iter().filter(|(name, _)| is_own(name.as_str()));
    own.map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

#[tokio::test]
async fn a_valid_key_gets_a_token_in_a_header_where_the_proxy_asks_for_one() {
    with_private_keys(&[])
        .run(async |app| {
            let acme = app.sign_up().await;
            for route in ROUTES {
                let response = check(app, &acme.api_key, route, "api").await.assert_status(200);
                let claims = claims(app, response.header("x-tenantry-token"), "api").await;
                assert_eq!(claims["sub"], acme.org_id);
                assert_eq!(claims["scope"], "*");
                let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
                assert_eq!(life, 60);
                assert!(size(&response) <= 2048);
                let client = app.verifier().with("x-api-key", &acme.api_key);
                let without = client.get(route).await.assert_status(200);
                assert_eq!(without.header("x-tenantry-token"), "-");
                for key in ["garbage", ""] {
                    let rejected = check(app, key, route, "api").await.assert_status(401);
                    assert_eq!(rejected.header("x-tenantry-token"), "");
                }
            }
            // Envoy's check has its requirements in headers alone.
            let client = app.verifier().with("x-api-key", &acme.api_key);
            let response = client.get("/v1/verify/envoy?token=1&aud=api").await.assert_status(200);
            assert_eq!(response.header("x-tenantry-token"), "-");
        })
        .await;
}

/// Asserts a 503, and a log line that names the parameter.
async fn assert_misconfigured(client: &TestClient, path: &str, name: &str) {
    let start = crate::support::leaks::capture_log();
    let response = client.get(path).await.assert_error(503, "service_unavailable");
    assert!(!response.text.contains(name), "{}", response.text);
    let log = start.log();
    let id = response.header("x-request-id");
    let is_ours = |line: &&str| line.contains(id) && line.contains(&format!("name=\"{name}\""));
    let line = log.lines().find(is_ours).unwrap_or_else(|| panic!("{path}: {log}"));
    assert!(line.contains("a proxy's check is misconfigured"), "{line}");
}

#[tokio::test]
async fn a_wrong_request_for_a_token_is_the_operator_s_mistake_and_is_logged() {
    with_private_keys(&[])
        .run(async |app| {
            let acme = app.sign_up().await;
            let client = app.verifier().with("x-api-key", &acme.api_key);
            let long = format!("token=1&aud={}", "a".repeat(257));
            for (query, name) in [
                ("token=1", "aud"),
                ("token=1&aud=", "aud"),
                ("token=1&aud=tenantry", "aud"),
                ("token=1&aud=a&aud=b", "aud"),
                (&long, "aud"),
                ("aud=api", "token"),
                ("token=0&aud=api", "token"),
                ("token=true&aud=api", "token"),
                ("token=1&token=1&aud=api", "token"),
            ] {
                for route in &ROUTES[..2] {
                    let path = format!("{route}?{query}");
                    assert_misconfigured(&client, &path, name).await;
                }
            }
            let header = "x-tenantry-token-audience";
            for audience in ["", "tenantry", &"a".repeat(257)] {
                let client = client.with(header, audience);
                assert_misconfigured(&client, "/v1/verify/envoy", header).await;
            }
            // A second header could be the client's.
            let twice = client.with(header, "a").with(header, "b");
            assert_misconfigured(&twice, "/v1/verify/envoy", header).await;
        })
        .await;
}

#[tokio::test]
async fn a_proxy_s_request_for_a_token_is_misconfigured_if_there_is_no_signing_key() {
    run(async |app| {
        let acme = app.sign_up().await;
        let client = app.verifier().with("x-api-key", &acme.api_key);
        for path in ["/v1/verify/forward?token=1&aud=a", "/v1/verify/nginx?token=1&aud=a"] {
            assert_misconfigured(&client, path, "token").await;
        }
        let envoy = client.with("x-tenantry-token-audience", "a");
        assert_misconfigured(&envoy, "/v1/verify/envoy", "token").await;
        client.get("/v1/verify/forward").await.assert_status(200);
    })
    .await;
}

/// A key with this many scopes of 30 characters.
async fn key_with_scopes(app: &TestApp, parent: &str, count: usize) -> String {
    let scopes: Vec<String> = (0..count).map(scope).collect();
    let request = json!({ "name": format!("{count} scopes"), "scopes": scopes });
    app.create_key_with(parent, request).await.api_key
}

fn scope(number: usize) -> String {
    format!("documents-of-department:read{number:0>2}")
}

#[tokio::test]
async fn a_token_that_makes_the_headers_too_long_lacks_its_scopes_or_is_left_out() {
    let all: Vec<String> = (0..60).map(scope).collect();
    let plans = r#"{"trial":{"requests_per_minute":1000000}}"#;
    let settings = [("SCOPES", &*all.join(",")), ("PLANS", plans), ("LIMITS_PROFILE", "usual")];
    with_private_keys(&settings)
        .run(async |app| {
            let acme = app.sign_up().await;
            let long = "a".repeat(100);
            for (count, audience, has_token, has_scope) in [
                (5, "api", true, true),
                (20, "api", true, false),
                (33, &long, false, false),
                (60, &long, true, false),
            ] {
                let key = key_with_scopes(app, &acme.api_key, count).await;
                for route in ROUTES {
                    let response = check(app, &key, route, audience).await.assert_status(200);
                    assert!(size(&response) <= 2048, "{count}: {}", size(&response));
                    assert_ne!(response.header("ratelimit"), "-");
                    let token = response.header("x-tenantry-token");
                    assert_eq!(token != "-", has_token, "{count}: {token}");
                    if has_token {
                        let claims = claims(app, token, audience).await;
                        assert_eq!(claims["scope"] != Value::Null, has_scope, "{count}");
                        assert_eq!(claims["sub"], acme.org_id);
                    }
                }
            }
            // An audience of the greatest length.
            let audience = "é".repeat(256);
            let response = check(app, &acme.api_key, ROUTES[0], &audience).await.assert_status(200);
            assert!(size(&response) <= 2048);
            claims(app, response.header("x-tenantry-token"), &audience).await;
        })
        .await;
}
