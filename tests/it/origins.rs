//! Which origins' scripts may use an organization's keys.

use serde_json::json;

use crate::support::client::{TestClient, TestResponse};
use crate::support::{TestApp, run, with_settings};

const SETTINGS: [(&str, &str); 2] =
    [("PUBLIC_URL", "https://api.example.com"), ("DASHBOARD_ORIGINS", "https://dash.example.com")];

/// Creates an organization with these allowed origins; returns its API key.
async fn provision(app: &TestApp, id: &str, origins: &str) -> String {
    let request = json!({ "org_id": id, "name": id, "domain": "general", "tier": "starter",
                          "allowed_origins": origins });
    let operator = app.master_with_idempotency_key("ORG_CREATE", id);
    let created = operator.post("/v1/admin/org/create", request).await.assert_status(201);
    created.body["api_key"].as_str().unwrap().to_owned()
}

async fn preflight(app: &TestApp, origin: &str) -> TestResponse {
    let client =
        app.anonymous().with("origin", origin).with("access-control-request-method", "GET");
    let client = client.with("access-control-request-headers", "x-api-key");
    client.send("OPTIONS", "/me", "").await
}

/// Sets an organization's allowed origins.
async fn set_allowed_origins(client: &TestClient, org_id: &str, origins: &[&str]) -> TestResponse {
    let path = format!("/api/user/organizations/{org_id}");
    client.put(&path, json!({ "allowedOrigins": origins })).await
}

#[tokio::test]
async fn a_key_is_accepted_from_allowed_and_trusted_origins_and_from_no_other() {
    with_settings(&SETTINGS)
        .run(async |app| {
            let key = provision(app, "acme", "https://acme.example.com").await;
            provision(app, "other", "https://other.example.com").await;
            let (access, _) = app.exchange(&key).await;
            for (origin, is_allowed) in [
                ("https://acme.example.com", true),
                ("https://ACME.example.com:443", true),
                ("https://api.example.com", true),
                ("https://dash.example.com", true),
                ("https://other.example.com", false),
                ("https://acme.example.com.evil.example", false),
                ("https://evil-acme.example.com", false),
                ("https://acme.example.com:8443", false),
                ("http://acme.example.com", false),
                ("https://sub.acme.example.com", false),
                ("https://acme.example.com/", false),
                ("null", false),
                ("", false),
                ("*", false),
            ] {
                for client in [app.key(&key), app.bearer(&key), app.bearer(&access)] {
                    let response = client.with("origin", origin).get("/me").await;
                    if is_allowed {
                        response.assert_status(200);
                    } else {
                        response.assert_error(403, "forbidden");
                    }
                }
                let exchange = app.anonymous().with("origin", origin);
                let exchange = exchange.post("/auth/token-exchange", json!({ "api_key": key }));
                let status = exchange.await.status.as_u16();
                assert_eq!(status, if is_allowed { 200 } else { 403 }, "{origin}");
            }
            let (_, refresh) = app.exchange(&key).await;
            let refreshing = json!({ "refresh_token": refresh });
            let evil = app.anonymous().with("origin", "https://evil.example");
            let rejected = evil.post("/auth/refresh", refreshing.clone()).await;
            rejected.assert_error(403, "forbidden");
            // The rejected request did not use up the refresh token.
            let client = app.anonymous().with("origin", "https://acme.example.com");
            client.post("/auth/refresh", refreshing).await.assert_status(200);
            let two_origins = app.key(&key).with("origin", "https://acme.example.com");
            let two_origins = two_origins.with("origin", "https://evil.example");
            two_origins.get("/me").await.assert_error(403, "forbidden");
            // A server sends no origin.
            app.key(&key).get("/me").await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn an_organization_without_allowed_origins_accepts_every_origin() {
    run(async |app| {
        let acme = app.sign_up().await;
        let client = app.key(&acme.api_key).with("origin", "https://anywhere.example");
        client.get("/me").await.assert_status(200);
        app.key(&acme.api_key).with("origin", "null").get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn allowed_origins_apply_at_once_to_api_keys_and_not_to_tokens_of_accounts() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
        let pinned = json!({ "name": "t", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (token, _) = app.create_token(&ann.cookie, pinned).await;
        let other_origin = |client: TestClient| client.with("origin", "https://elsewhere.example");
        other_origin(app.key(&key)).get("/me").await.assert_status(200);
        let session = app.session(&ann.cookie);
        set_allowed_origins(&session, &ann.org_id, &["https://app.example.com"])
            .await
            .assert_status(200);
        other_origin(app.key(&key)).get("/me").await.assert_error(403, "forbidden");
        other_origin(app.key(&token)).get("/me").await.assert_status(200);
        other_origin(app.bearer(&ann.token)).get("/me").await.assert_status(200);
        set_allowed_origins(&session, &ann.org_id, &[]).await.assert_status(200);
        other_origin(app.key(&key)).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_rejected_origin_is_in_the_organization_s_audit_log() {
    run(async |app| {
        let key = provision(app, "acme", "https://acme.example.com").await;
        app.key(&key).with("origin", "https://evil.example").get("/me").await.assert_status(403);
        app.app.rejections.flush().await.unwrap();
        let audit = "/v1/organization/audit-log?event_type=api_key.refused";
        let audit = app.key(&key).get(audit).await.assert_status(200);
        assert_eq!(audit.body["data"][0]["detail"], json!({ "reason": "origin", "count": 1 }));
    })
    .await;
}

#[tokio::test]
async fn a_429_is_readable_from_an_allowed_origin_with_a_key_and_not_without_a_credential() {
    let plans = r#"{"starter":{"requests_per_minute":1}}"#;
    let limits = r#"{"address":{"quota":1,"window_s":600}}"#;
    let more = [("LIMITS_PROFILE", "usual"), ("PLANS", plans), ("LIMITS", limits)];
    with_settings(&[&SETTINGS[..], &more].concat())
        .run(async |app| {
            let key = provision(app, "acme", "https://acme.example.com").await;
            let origin = "https://acme.example.com";
            let (client, anonymous) = (app.key(&key), app.anonymous());
            for (client, statuses, rejected_readable_by) in
                [(client, [200, 429], origin), (anonymous, [401, 429], "")]
            {
                for status in statuses {
                    let response = client.with("origin", origin).get("/auth/verify").await;
                    let response = response.assert_status(status);
                    let allowed = response.header("access-control-allow-origin");
                    assert_eq!(
                        allowed,
                        if status == 401 { origin } else { rejected_readable_by },
                        "{status}"
                    );
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_preflight_passes_for_trusted_origins_and_for_an_organization_s_allowed_origins() {
    with_settings(&SETTINGS)
        .run(async |app| {
            provision(app, "acme", "https://acme.example.com,http://localhost:5173").await;
            for (origin, is_allowed, credentials) in [
                ("https://api.example.com", true, true),
                ("https://dash.example.com", true, true),
                ("https://acme.example.com", true, false),
                ("http://localhost:5173", true, false),
                ("https://evil.example", false, false),
                ("https://acme.example.com.evil.example", false, false),
                ("https://acme.example.com:8443", false, false),
                ("http://acme.example.com", false, false),
                ("null", false, false),
                ("*", false, false),
            ] {
                let response = preflight(app, origin).await;
                let allowed = response.header("access-control-allow-origin");
                assert_eq!(allowed, if is_allowed { origin } else { "" });
                let with_credentials = response.header("access-control-allow-credentials");
                let expected = if credentials { "true" } else { "" };
                assert_eq!(with_credentials, expected, "{origin}");
                let varies: Vec<_> = response.headers.get_all("vary").iter().collect();
                assert_eq!(varies, ["origin, access-control-request-headers"], "{origin}");
                let requested = response.header("access-control-allow-headers");
                assert_eq!(requested, if is_allowed { "x-api-key" } else { "" }, "{origin}");
                assert_eq!(response.header("access-control-max-age"), "600");
                let methods = response.header("access-control-allow-methods");
                assert_eq!(methods, "GET,POST,PUT,PATCH,DELETE");
            }
        })
        .await;
}

#[tokio::test]
async fn the_allowed_origins_of_a_suspended_or_deleted_organization_pass_no_preflight() {
    run(async |app| {
        let key = provision(app, "acme", "https://acme.example.com").await;
        let allowed_origin = async || {
            let response = preflight(app, "https://acme.example.com").await;
            response.header("access-control-allow-origin").to_owned()
        };
        assert_eq!(allowed_origin().await, "https://acme.example.com");
        let read = app.key(&key).with("origin", "https://acme.example.com").get("/me").await;
        let read = read.assert_status(200);
        assert_eq!(read.header("access-control-allow-origin"), "https://acme.example.com");
        assert_eq!(read.header("access-control-allow-credentials"), "");
        app.execute("update organizations set suspended_at = now() where handle = 'acme'").await;
        assert_eq!(allowed_origin().await, "");
        app.execute(
            "update organizations set suspended_at = null, deleted_at = now()
             where handle = 'acme'",
        )
        .await;
        assert_eq!(allowed_origin().await, "");
    })
    .await;
}
