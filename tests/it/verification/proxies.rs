//! `/v1/verify/forward`, `/nginx` and `/envoy`

use serde_json::json;

use super::key_with_scope;
use crate::support::client::{TestClient, TestResponse};
use crate::support::socket::{SocketServer, parse_status, send_raw};
use crate::support::{TestApp, run, with_settings};

const ROUTES: [&str; 3] = ["/v1/verify/forward", "/v1/verify/nginx", "/v1/verify/envoy"];

/// The headers of a positive answer.
const HEADERS: [&str; 10] = [
    "x-tenantry-organization",
    "x-tenantry-key",
    "x-tenantry-account",
    "x-tenantry-plan",
    "x-tenantry-scopes",
    "x-tenantry-external-id",
    "x-tenantry-token",
    "x-tenantry-status",
    "ratelimit",
    "ratelimit-policy",
];

/// The proxy, with a client's key.
fn proxy(app: &TestApp, key: &str) -> TestClient {
    app.verifier().with("x-api-key", key)
}

fn is_empty(response: &TestResponse, name: &str) -> bool {
    response.header(name).is_empty()
}

#[tokio::test]
async fn a_positive_answer_has_every_header_and_no_body() {
    run(async |app| {
        let acme = app.sign_up().await;
        for route in ROUTES {
            let response = proxy(app, &acme.api_key).get(route).await.assert_status(200);
            for name in HEADERS {
                assert!(!is_empty(&response, name), "{route}: {name}");
                assert_eq!(response.headers.get_all(name).iter().count(), 1, "{name}");
            }
            assert_eq!(response.text, "");
            assert_eq!(response.header("x-tenantry-organization"), acme.org_id);
            assert_eq!(response.header("x-tenantry-key"), acme.key_id);
            assert_eq!(response.header("x-tenantry-account"), "-");
            assert_eq!(response.header("x-tenantry-scopes"), "*");
            assert_eq!(response.header("x-tenantry-status"), "200");
            assert_eq!(response.header("cache-control"), "no-store");
            assert!(is_empty(&response, "set-cookie"));
        }
        let envoy = proxy(app, &acme.api_key).get("/v1/verify/envoy").await;
        let removed = envoy.header("x-envoy-auth-headers-to-remove");
        assert_eq!(removed, "x-api-key,authorization,x-tenantry-verifier");
    })
    .await;
}

#[tokio::test]
async fn the_scopes_of_a_personal_token_are_those_that_its_account_s_role_permits() {
    with_settings(&[("SCOPES", "docs:read,docs:write")])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            app.invite_and_accept(&ann, &ben, "member").await;
            let request = json!({ "name": "ci", "scopes": ["*"],
                                  "metadata": { "organizationId": ann.org_id } });
            let (token, _) = app.create_token(&ben.cookie, request).await;
            let form = format!("token={token}");
            let introspected = app.verifier().post_form("/oauth2/introspect", &form).await;
            let client = app.verifier().with("authorization", &format!("Bearer {token}"));
            for route in ROUTES {
                let response = client.get(route).await.assert_status(200);
                let scopes = response.header("x-tenantry-scopes");
                assert_eq!(scopes, introspected.body["scope"], "{route}");
                for lacking in ["*", "members:write", "audit:read"] {
                    assert!(!scopes.split(' ').any(|scope| scope == lacking), "{scopes}");
                }
            }
        })
        .await;
}

#[tokio::test]
async fn every_invalid_credential_gets_the_same_401_but_for_the_request_id() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let revoked = key_with_scope(app, &ann, "trademarks:read").await;
        app.execute("update api_keys set revoked_at = now(), name_held = false").await;
        let unknown = app.app.config.keys.format.generate(&*app.app.entropy);
        for route in ROUTES {
            let mut seen = Vec::new();
            for key in ["garbage", "", unknown.expose(), &revoked] {
                let response = proxy(app, key).get(route).await.assert_status(401);
                let headers: Vec<_> = response
                    .headers
                    .iter()
                    .filter(|(name, _)| *name != "x-request-id")
                    .map(|(name, value)| format!("{name}: {value:?}"))
                    .collect();
                let body = response.body_without_request();
                seen.push((headers, body.to_string()));
            }
            seen.dedup();
            assert_eq!(seen.len(), 1, "{route}: {seen:#?}");
        }
    })
    .await;
}

#[tokio::test]
async fn each_verdict_has_the_status_that_the_proxy_passes_on() {
    let plans = r#"{"starter":{"requests_per_month":1}}"#;
    with_settings(&[("PLANS", plans)])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let narrow = key_with_scope(app, &ann, "trademarks:read").await;
            let acme = app.sign_up().await;
            app.execute(
                "update organizations set suspended_at = now() where handle like 'org_%'
                         and id in (select organization_id from api_keys where name is null)",
            )
            .await;
            let check = async |client: &TestClient, route: &str, statuses: (u16, u16)| {
                let separator = if route.contains('?') { "" } else { "?" };
                for (path, status) in
                    [("/v1/verify/forward", statuses.0), ("/v1/verify/nginx", statuses.1)]
                {
                    let response = client.get(&format!("{path}{separator}{route}")).await;
                    let response = response.assert_status(status);
                    let challenge = response.header("www-authenticate");
                    assert_eq!(challenge.is_empty(), status != 401, "{path}");
                    let header = response.header("x-tenantry-status").to_owned();
                    assert_eq!(header, statuses.0.to_string(), "{path}");
                }
            };
            check(&proxy(app, &narrow), "scope=trademarks:read", (200, 200)).await;
            check(&proxy(app, &narrow), "scope=docs:read", (403, 403)).await;
            check(&proxy(app, &narrow), "scope=docs:read&scope=trademarks:read", (200, 200)).await;
            check(&proxy(app, &narrow), "scope=docs:read+trademarks:read", (403, 403)).await;
            check(&proxy(app, "garbage"), "", (401, 401)).await;
            check(&app.verifier(), "", (401, 401)).await;
            let both =
                proxy(app, &narrow).with("authorization", &format!("Bearer {}", acme.api_key));
            check(&both, "", (400, 401)).await;
            check(&proxy(app, &narrow), "scope=docs", (503, 503)).await;
            check(&proxy(app, &narrow), "scopes=docs:read", (503, 503)).await;
            app.execute("update organizations set plan = 'starter'").await;
            let full = proxy(app, &narrow);
            check(&full, "", (429, 403)).await;
            app.execute("update organizations set suspended_at = now()").await;
            check(&full, "", (403, 403)).await;
        })
        .await;
}

#[tokio::test]
async fn headers_that_a_backend_may_mistake_for_ours_are_rejected() {
    run(async |app| {
        let acme = app.sign_up().await;
        for name in [
            "x_tenantry_organization",
            "x.tenantry.organization",
            "x-tenantry_key",
            "x_api_key",
            "x-api.key",
            "x!tenantry!organization",
        ] {
            for (route, status) in ROUTES.into_iter().zip([400, 401, 400]) {
                let client = proxy(app, &acme.api_key).with(name, "org_victim");
                let response = client.get(route).await;
                assert_eq!(response.status.as_u16(), status, "{route} {name}");
            }
        }
        // Other names with such characters are the client's business.
        let client = proxy(app, &acme.api_key).with("x_custom.header", "1");
        client.get("/v1/verify/forward").await.assert_status(200);
    })
    .await;
}

/// A proxy passes the client's method on. Other routes answer preflights without credentials.
#[tokio::test]
async fn no_method_and_no_origin_passes_without_a_credential() {
    run(async |app| {
        let acme = app.sign_up().await;
        for route in [&ROUTES[..], &["/v1/verify/envoy/", "/v1/verify/envoy/v1/any/path"]].concat()
        {
            for method in
                ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"]
            {
                let client = app.verifier().with("origin", "https://app.example.com");
                let client = client.with("access-control-request-method", "GET");
                let response = client.send(method, route, "").await;
                assert_eq!(response.status.as_u16(), 401, "{method} {route}");
                let client = client.with("x-api-key", &acme.api_key);
                let response = client.send(method, route, "").await;
                assert_eq!(response.status.as_u16(), 200, "{method} {route}: {}", response.text);
            }
        }
    })
    .await;
}

/// Waiting for a body would delay the answer, and what arrives of it must not be taken for the next
/// request.
#[tokio::test]
async fn a_check_neither_reads_nor_awaits_a_body() {
    run(async |app| {
        let acme = app.sign_up().await;
        let server = SocketServer::start(app);
        let secret = "verifier-gateway-0123456789abcdef0123456789";
        for (key, status) in [(acme.api_key.as_str(), 200), ("garbage", 401)] {
            let head = format!(
                "POST /v1/verify/forward HTTP/1.1\r\nHost: t\r\nX-Api-Key: {key}\r\n\
                 X-Tenantry-Verifier: {secret}\r\nContent-Length: 1000\r\n\r\n"
            );
            let next = "GET /health/live HTTP/1.1\r\nHost: t\r\n\r\n";
            // A server that reads the body answers the next request, too.
            let request = [head.as_bytes(), &[b'x'; 1000], next.as_bytes()].concat();
            let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
            let response = send_raw(stream, &request).await;
            assert_eq!(parse_status(&response), status);
            assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{response}");
            assert!(response.to_lowercase().contains("\r\nconnection: close\r\n"), "{response}");
        }
    })
    .await;
}

#[tokio::test]
async fn requirements_for_envoy_are_in_headers_that_are_sent_once() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let key = key_with_scope(app, &ann, "trademarks:read").await;
        let envoy = |scope: &str| proxy(app, &key).with("x-tenantry-scope", scope);
        let path = "/v1/verify/envoy/docs?scope=docs:write&x=1";
        envoy("trademarks:read").get(path).await.assert_status(200);
        envoy("docs:read,trademarks:read").get(path).await.assert_status(200);
        envoy("docs:read trademarks:read").get(path).await.assert_error(403, "forbidden");
        // A second header could be the client's and add an alternative.
        let twice = envoy("docs:read").with("x-tenantry-scope", "trademarks:read");
        twice.get(path).await.assert_error(503, "service_unavailable");
        proxy(app, &key).with("x-tenantry-cost", "-1").get(path).await.assert_status(503);
    })
    .await;
}

#[tokio::test]
async fn a_rejection_is_listed_with_the_original_method_and_path_but_no_key() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let key = key_with_scope(app, &ann, "trademarks:read").await;
        let client = proxy(app, &key)
            .with("x-forwarded-method", "DELETE")
            .with("x-forwarded-uri", &format!("/docs/{key}/7?token={key}"))
            .with("x-forwarded-for", "198.51.100.1, 203.0.113.9");
        client.get("/v1/verify/forward?scope=docs:write").await.assert_status(403);
        let path = format!("/api/user/organizations/{}/api-keys", ann.org_id);
        let request = json!({ "name": "reader", "scopes": ["audit:read"] });
        let reader = app.session(&ann.cookie).post(&path, request).await.assert_status(201);
        let reader = app.key(reader.body["data"]["key"].as_str().unwrap());
        let list = reader.get("/v1/organization/denials").await.assert_status(200);
        let rejection = &list.body["data"][0];
        assert_eq!(rejection["method"], "DELETE");
        assert_eq!(rejection["path"], "/docs/…/7");
        assert_eq!(rejection["address"], "203.0.113.9");
        assert_eq!(rejection["status"], 403);
    })
    .await;
}
