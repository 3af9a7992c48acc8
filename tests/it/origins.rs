//! Which pages' scripts may use an organization's keys (contract §1, *CORS*).

use serde_json::json;

use crate::support::client::{TestClient, TestResponse};
use crate::support::{TestApp, run, with_settings};

const SETTINGS: [(&str, &str); 2] =
    [("PUBLIC_URL", "https://api.example.com"), ("DASHBOARD_ORIGINS", "https://dash.example.com")];

/// An organization whose list is `origins`; its key.
async fn provision(app: &TestApp, id: &str, origins: &str) -> String {
    let request = json!({ "org_id": id, "name": id, "domain": "general", "tier": "starter",
                          "allowed_origins": origins });
    let operator = app.master_with_idempotency_key("ORG_CREATE", id);
    let made = operator.post("/v1/admin/org/create", request).await.assert_status(201);
    made.body["api_key"].as_str().unwrap().to_owned()
}

async fn preflight(app: &TestApp, origin: &str) -> TestResponse {
    let page = app.anonymous().with("origin", origin).with("access-control-request-method", "GET");
    let page = page.with("access-control-request-headers", "x-api-key");
    page.send("OPTIONS", "/me", "").await
}

/// Sets the list of the caller's organization.
async fn set_list(actor: &TestClient, org_id: &str, origins: &[&str]) -> TestResponse {
    let path = format!("/api/user/organizations/{org_id}");
    actor.put(&path, json!({ "allowedOrigins": origins })).await
}

#[tokio::test]
async fn a_key_is_used_by_the_pages_of_its_list_and_ours_and_by_no_other() {
    with_settings(&SETTINGS)
        .run(async |app| {
            let key = provision(app, "acme", "https://acme.example.com").await;
            provision(app, "other", "https://other.example.com").await;
            let (access, _) = app.exchange(&key).await;
            for (origin, passes) in [
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
                for actor in [app.key(&key), app.bearer(&key), app.bearer(&access)] {
                    let answer = actor.with("origin", origin).get("/me").await;
                    if passes {
                        answer.assert_status(200);
                    } else {
                        answer.assert_error(403, "forbidden");
                    }
                }
                let exchange = app.anonymous().with("origin", origin);
                let exchange = exchange.post("/auth/token-exchange", json!({ "api_key": key }));
                let status = exchange.await.status.as_u16();
                assert_eq!(status, if passes { 200 } else { 403 }, "{origin}");
            }
            let (_, refresh) = app.exchange(&key).await;
            let refreshing = json!({ "refresh_token": refresh });
            let elsewhere = app.anonymous().with("origin", "https://evil.example");
            let refused = elsewhere.post("/auth/refresh", refreshing.clone()).await;
            refused.assert_error(403, "forbidden");
            // Nothing was spent by that.
            let page = app.anonymous().with("origin", "https://acme.example.com");
            page.post("/auth/refresh", refreshing).await.assert_status(200);
            let two = app.key(&key).with("origin", "https://acme.example.com");
            let two = two.with("origin", "https://evil.example");
            two.get("/me").await.assert_error(403, "forbidden");
            // A server sends no origin.
            app.key(&key).get("/me").await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn an_organization_without_a_list_is_open_to_every_page() {
    run(async |app| {
        let acme = app.sign_up().await;
        let page = app.key(&acme.api_key).with("origin", "https://anywhere.example");
        page.get("/me").await.assert_status(200);
        app.key(&acme.api_key).with("origin", "null").get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_list_holds_from_the_next_request_on_and_for_every_key_but_no_person_s_token() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
        let pinned = json!({ "name": "t", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (token, _) = app.create_token(&ann.cookie, pinned).await;
        let elsewhere = |actor: TestClient| actor.with("origin", "https://elsewhere.example");
        elsewhere(app.key(&key)).get("/me").await.assert_status(200);
        let session = app.session(&ann.cookie);
        set_list(&session, &ann.org_id, &["https://app.example.com"]).await.assert_status(200);
        elsewhere(app.key(&key)).get("/me").await.assert_error(403, "forbidden");
        elsewhere(app.key(&token)).get("/me").await.assert_status(200);
        elsewhere(app.bearer(&ann.token)).get("/me").await.assert_status(200);
        set_list(&session, &ann.org_id, &[]).await.assert_status(200);
        elsewhere(app.key(&key)).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_refused_page_is_told_to_the_organization_s_trail() {
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
async fn a_page_of_the_list_reads_when_to_come_again_and_a_stranger_s_does_not() {
    let plans = r#"{"starter":{"requests_per_minute":1}}"#;
    let limits = r#"{"address":{"quota":1,"window_s":600}}"#;
    let more = [("LIMITS_PROFILE", "usual"), ("PLANS", plans), ("LIMITS", limits)];
    with_settings(&[&SETTINGS[..], &more].concat())
        .run(async |app| {
            let key = provision(app, "acme", "https://acme.example.com").await;
            let origin = "https://acme.example.com";
            let (page, stranger) = (app.key(&key), app.anonymous());
            for (page, statuses, reader) in [(page, [200, 429], origin), (stranger, [401, 429], "")]
            {
                for status in statuses {
                    let answer = page.with("origin", origin).get("/auth/verify").await;
                    let answer = answer.assert_status(status);
                    let reads = answer.header("access-control-allow-origin");
                    assert_eq!(reads, if status == 401 { origin } else { reader }, "{status}");
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_preflight_passes_for_our_pages_and_for_those_on_an_active_organization_s_list() {
    with_settings(&SETTINGS)
        .run(async |app| {
            provision(app, "acme", "https://acme.example.com,http://localhost:5173").await;
            for (origin, shown, credentials) in [
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
                let answer = preflight(app, origin).await;
                let named = answer.header("access-control-allow-origin");
                assert_eq!(named, if shown { origin } else { "" });
                let with_credentials = answer.header("access-control-allow-credentials");
                let expected = if credentials { "true" } else { "" };
                assert_eq!(with_credentials, expected, "{origin}");
                let mut varies = answer.headers.get_all("vary").iter();
                let varies =
                    varies.any(|it| it.to_str().unwrap().to_lowercase().contains("origin"));
                assert!(varies, "{origin}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_suspended_or_deleted_organization_s_list_admits_nobody() {
    run(async |app| {
        let key = provision(app, "acme", "https://acme.example.com").await;
        let shown = async || {
            let answer = preflight(app, "https://acme.example.com").await;
            answer.header("access-control-allow-origin").to_owned()
        };
        assert_eq!(shown().await, "https://acme.example.com");
        let read = app.key(&key).with("origin", "https://acme.example.com").get("/me").await;
        let read = read.assert_status(200);
        assert_eq!(read.header("access-control-allow-origin"), "https://acme.example.com");
        assert_eq!(read.header("access-control-allow-credentials"), "");
        app.execute("update organizations set suspended_at = now() where handle = 'acme'").await;
        assert_eq!(shown().await, "");
        app.execute(
            "update organizations set suspended_at = null, deleted_at = now()
             where handle = 'acme'",
        )
        .await;
        assert_eq!(shown().await, "");
    })
    .await;
}
