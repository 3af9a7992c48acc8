//! Rate limits: each limit on its routes, with its family's errors.

use serde_json::json;
use tenantry::model::rate_limit::RateLimit;

use crate::support::accounts::PASSWORD;
use crate::support::app::master_key;
use crate::support::rate_limits::{
    assert_retry_after, client_from, header_number, send_until_limited, with_limits,
    with_limits_behind_proxy,
};
use crate::support::with_settings;

#[tokio::test]
async fn requests_without_a_credential_are_limited_for_each_address() {
    with_limits_behind_proxy(r#"{"address":{"quota":5,"window_s":600}}"#)
        .run(async |app| {
            let one = client_from(app, "192.0.2.1");
            for path in ["/me", "/auth/me", "/v1/organization/me", "/api/user/me", "/openapi.json"]
            {
                one.get(path).await;
            }
            for (path, code) in [
                ("/me", "rate_limited"),
                ("/auth/me", "RATE_LIMIT_EXCEEDED"),
                ("/v1/organization/me", "rate_limited"),
                ("/api/user/me", "RATE_LIMIT_ERROR"),
                ("/.well-known/jwks.json", "rate_limited"),
                ("/openapi.json", "rate_limited"),
            ] {
                let rejected = one.get(path).await.assert_error(429, code);
                assert_retry_after(&rejected, "address");
            }
            for path in ["/health/live", "/health/ready"] {
                one.get(path).await.assert_status(200);
            }
            client_from(app, "192.0.2.2").get("/me").await.assert_error(401, "unauthorized");
        })
        .await;
}

#[tokio::test]
async fn an_ipv6_64_network_is_one_client_and_a_mapped_ipv4_address_is_the_ipv4_client() {
    with_limits_behind_proxy(r#"{"address":{"quota":10,"window_s":600}}"#)
        .run(async |app| {
            let mut number = 0;
            let (passed, _) = send_until_limited(async || {
                number += 1;
                client_from(app, &format!("2001:DB8::{number:x}")).get("/me").await
            })
            .await;
            assert_eq!(passed, 10);
            client_from(app, "2001:db8:0:1::1").get("/me").await.assert_status(401);
            for address in ["192.0.2.1", "::ffff:192.0.2.1", "::FFFF:C000:201"] {
                for _ in 0..3 {
                    client_from(app, address).get("/me").await.assert_status(401);
                }
            }
            client_from(app, "192.0.2.1").get("/me").await.assert_status(401);
            client_from(app, "::ffff:192.0.2.1").get("/me").await.assert_status(429);
            // Clients without a valid address share one limit.
            for garbage in ["", "garbage", "1.2.3.4.5", ";", "192.0.2.1:"] {
                client_from(app, garbage).get("/me").await.assert_status(401);
                client_from(app, garbage).get("/me").await.assert_status(401);
            }
            client_from(app, "more garbage").get("/me").await.assert_status(429);
        })
        .await;
}

#[tokio::test]
async fn a_forwarded_address_from_an_untrusted_peer_is_ignored() {
    with_limits(r#"{"address":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let hops = vec!["10.0.0.1"; 50].join(", ");
            for forged in ["192.0.2.1", "192.0.2.2", &hops] {
                client_from(app, forged).get("/me").await.assert_status(401);
            }
            client_from(app, "192.0.2.3").get("/me").await.assert_status(429);
        })
        .await;
}

#[tokio::test]
async fn an_organization_is_limited_by_its_plan_and_responses_have_rate_limit_headers() {
    with_settings(&[
        ("LIMITS_PROFILE", "usual"),
        ("PLANS", r#"{"trial":{"requests_per_minute":5},"starter":{"requests_per_minute":50}}"#),
    ])
    .run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let first = app.key(&acme.api_key).get("/me").await.assert_status(200);
        assert_eq!(first.header("ratelimit-policy"), r#""org";q=5;w=60"#);
        assert_eq!(header_number(first.header("ratelimit"), "r"), 4);
        assert_eq!(header_number(first.header("ratelimit"), "t"), 12);
        let second = app.create_key_with(&acme.api_key, json!({ "name": "ci" })).await;
        for left in [2, 1, 0] {
            let response =
                app.key(&second.api_key).get("/v1/organization/me").await.assert_status(200);
            assert_eq!(header_number(response.header("ratelimit"), "r"), left);
        }
        for key in [&acme.api_key, &second.api_key] {
            let rejected = app.key(key).get("/me").await.assert_error(429, "rate_limited");
            assert!((1..=12).contains(&assert_retry_after(&rejected, "org")));
        }
        let rejected = app.key(&acme.api_key).get("/v1/organization/me").await;
        assert_retry_after(&rejected.assert_error(429, "rate_limited"), "org");
        let own = app.key(&acme.api_key).get("/v1/admin/audit-log").await.assert_status(429);
        assert_eq!(own.body["error"]["code"], "RATE_LIMITED");
        let tenant = format!("/api/user/organizations/{}", acme.org_id);
        app.key(&acme.api_key).get(&tenant).await.assert_error(429, "RATE_LIMIT_ERROR");
        app.key(&other.api_key).get("/me").await.assert_status(200);
        // Another plan applies at once. Without a limit there is no header.
        app.execute("update organizations set plan = 'starter' where handle <> 'system'").await;
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        app.execute("update organizations set plan = 'enterprise' where handle <> 'system'").await;
        let free = app.key(&acme.api_key).get("/me").await.assert_status(200);
        assert_eq!(free.header("ratelimit"), "");
    })
    .await;
}

#[tokio::test]
async fn requests_without_an_organization_are_limited_per_account() {
    with_limits(r#"{"account":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let ben = app.sign_up_account("ben@example.com").await;
            for client in [app.session(&ann.cookie), app.bearer(&ann.token)] {
                client.get("/api/user/me").await.assert_status(200);
            }
            app.bearer(&ann.token).get("/auth/me").await.assert_status(200);
            let rejected = app.bearer(&ann.token).get("/auth/me").await;
            assert_retry_after(&rejected.assert_error(429, "RATE_LIMIT_EXCEEDED"), "account");
            app.session(&ann.cookie)
                .get("/api/user/me")
                .await
                .assert_error(429, "RATE_LIMIT_ERROR");
            app.session(&ben.cookie).get("/api/user/me").await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn invalid_credentials_are_limited_and_a_valid_one_passes_from_the_same_address() {
    with_limits(r#"{"unknown_keys":{"quota":4,"window_s":600}}"#)
        .run(async |app| {
            let acme = app.sign_up().await;
            let unknown = app.app.config.keys.format.generate(&*app.app.entropy);
            let (passed, rejected) =
                send_until_limited(async || app.key(unknown.expose()).get("/me").await).await;
            assert_eq!(passed, 4);
            assert_retry_after(&rejected, "unknown_keys");
            app.key("garbage").get("/auth/verify").await.assert_error(429, "rate_limited");
            app.bearer("a.b.c").get("/api/user/me").await.assert_error(429, "RATE_LIMIT_ERROR");
            app.key(&acme.api_key).get("/me").await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn sign_up_and_sign_in_share_a_limit_for_each_address_on_all_routes() {
    with_limits_behind_proxy(r#"{"sign_in":{"quota":5,"window_s":600}}"#)
        .run(async |app| {
            let credentials = json!({ "email": "ann@example.com", "password": PASSWORD });
            let routes = [
                ("/signup", json!({}), "rate_limited"),
                ("/auth/signup", credentials.clone(), "RATE_LIMIT_EXCEEDED"),
                ("/auth/login", credentials.clone(), "RATE_LIMIT_EXCEEDED"),
                ("/api/auth/sign-up/email", json!({}), "RATE_LIMIT_ERROR"),
                ("/api/auth/sign-in/email", credentials, "RATE_LIMIT_ERROR"),
            ];
            for (path, request, _) in &routes {
                let response = client_from(app, "192.0.2.1").post(path, request.clone()).await;
                assert_ne!(response.status, 429, "{path}");
            }
            for (path, request, code) in &routes {
                let rejected = client_from(app, "192.0.2.1").post(path, request.clone()).await;
                assert_retry_after(&rejected.assert_error(429, code), "sign_in");
            }
            client_from(app, "192.0.2.2").post("/signup", json!({})).await.assert_status(201);
        })
        .await;
}

#[tokio::test]
async fn checks_of_tokens_of_mailed_links_share_a_limit_on_all_routes() {
    with_limits(r#"{"token_checks":{"quota":2,"window_s":300}}"#)
        .run(async |app| {
            let token =
                tenantry::model::key_format::KeyFormat::link_token().generate(&*app.app.entropy);
            let request = json!({ "token": token.expose() });
            let reset = json!({ "token": token.expose(), "newPassword": PASSWORD });
            let anon = app.anonymous();
            anon.post("/api/auth/verify-email", request.clone()).await.assert_status(401);
            anon.post("/api/auth/reset-password", reset.clone()).await.assert_status(401);
            for (path, request) in [
                ("/api/auth/claim-key", request.clone()),
                ("/api/auth/verify-email", request),
                ("/api/auth/reset-password", reset),
            ] {
                let rejected = anon.post(path, request).await.assert_error(429, "RATE_LIMIT_ERROR");
                assert_retry_after(&rejected, "token_checks");
            }
        })
        .await;
}

#[tokio::test]
async fn key_creation_is_limited_per_organization_on_all_routes_together() {
    with_limits(r#"{"key_mint":{"quota":4,"window_s":3600}}"#)
        .run(async |app| {
            let (acme, other) = (app.sign_up().await, app.sign_up().await);
            let key = app.key(&acme.api_key);
            let tenant = format!("/api/user/organizations/{}/api-keys", acme.org_id);
            let request = |name: &str| json!({ "name": name, "scopes": ["usage:read"] });
            key.post("/me/api-keys", json!({})).await.assert_status(201);
            key.post("/v1/organization/api-keys", request("a")).await.assert_status(201);
            let created = key.post(&tenant, request("b")).await.assert_status(201);
            let id = created.body["data"]["id"].as_str().unwrap();
            key.post(&format!("{tenant}/{id}/rotate"), json!({})).await.assert_status(200);
            let rejected = key.post("/me/api-keys", json!({})).await;
            assert_retry_after(&rejected.assert_error(429, "rate_limited"), "key_mint");
            let rejected = key.post("/v1/organization/api-keys", request("c")).await;
            assert_retry_after(&rejected.assert_error(429, "rate_limited"), "key_mint");
            key.post(&tenant, request("d")).await.assert_error(429, "RATE_LIMIT_ERROR");
            let own = key.post("/v1/admin/key/rotate", json!({})).await.assert_status(429);
            assert_eq!(own.body["error"]["code"], "RATE_LIMITED");
            app.key(&other.api_key).post("/me/api-keys", json!({})).await.assert_status(201);
        })
        .await;
}

#[tokio::test]
async fn a_limit_that_is_only_observed_counts_requests_and_rejects_none() {
    with_limits(r#"{"unknown_keys":{"quota":1,"window_s":600,"only_observed":true}}"#)
        .run(async |app| {
            for left in [0, 0, 0] {
                let response =
                    app.key("garbage").get("/me").await.assert_error(401, "unauthorized");
                assert_eq!(header_number(response.header("ratelimit"), "r"), left);
                assert_eq!(response.header("retry-after"), "");
            }
        })
        .await;
}

#[tokio::test]
async fn with_rate_limits_off_the_plan_s_quota_and_plan_limits_still_apply() {
    let trial = r#"{"trial":{"requests_per_minute":1,"requests_per_month":3,"projects":1}}"#;
    with_settings(&[("LIMITS_PROFILE", "off"), ("PLANS", trial)])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            for _ in 0..200 {
                let response = app.key("garbage").get("/me").await.assert_status(401);
                assert_eq!(response.header("ratelimit"), "");
            }
            app.create_project(&ann, "one").await;
            let projects = format!("/api/user/organizations/{}/projects", ann.org_id);
            let second = app.session(&ann.cookie).post(&projects, json!({ "name": "two" })).await;
            second.assert_error(403, "PLAN_LIMIT_REACHED");
            let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
            for _ in 0..3 {
                app.key(&key).get("/me").await.assert_status(200);
            }
            app.key(&key).get("/me").await.assert_error(429, "quota_exceeded");
        })
        .await;
}

#[tokio::test]
async fn rate_limited_admin_requests_have_retry_after_for_master_keys_and_api_keys() {
    with_settings(&[
        ("LIMITS_PROFILE", "usual"),
        ("LIMITS", r#"{"master_failures":{"quota":1},"master_requests":{"quota":1}}"#),
        ("PLANS", r#"{"trial":{"requests_per_minute":1}}"#),
    ])
    .run(async |app| {
        let acme = app.sign_up().await;
        let usage = format!("/v1/admin/org/{}/usage", acme.org_id);
        for (key, limit) in
            [("wrong", "master_failures"), (&*master_key("ORG_USAGE"), "master_requests")]
        {
            assert_ne!(app.key(key).get(&usage).await.status, 429);
            let rejected = app.key(key).get(&usage).await.assert_error(429, "rate_limited");
            assert_retry_after(&rejected, limit);
        }
        app.key(&acme.api_key).get("/v1/admin/audit-log").await.assert_status(200);
        let rejected = app.key(&acme.api_key).get("/v1/admin/audit-log").await;
        assert_retry_after(&rejected.assert_error(429, "rate_limited"), "org");
    })
    .await;
}

#[tokio::test]
async fn creation_of_organizations_is_limited_per_account() {
    with_limits(r#"{"organizations":{"quota":2}}"#)
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            let create = async |cookie: &str| {
                let request = json!({ "name": "Acme" });
                app.session(cookie).post("/api/user/organizations", request).await
            };
            create(&ann.cookie).await.assert_status(201);
            create(&ann.cookie).await.assert_status(201);
            let rejected = create(&ann.cookie).await.assert_error(429, "RATE_LIMIT_ERROR");
            assert_retry_after(&rejected, "organizations");
            create(&ben.cookie).await.assert_status(201);
        })
        .await;
}

#[tokio::test]
async fn changes_by_accounts_are_limited_per_organization_and_revocations_are_not() {
    with_limits(r#"{"changes":{"quota":6,"window_s":600}}"#)
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let dora = app.verified_account("dora@example.com").await;
            let path = format!("/api/user/organizations/{}/api-keys", ann.org_id);
            let created = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
            let of_key = format!("{path}/{}", created.key_id);
            let session = app.session(&ann.cookie);
            let metadata = json!({ "metadata": { "large": "x".repeat(3_000) } });
            let (passed, rejected) =
                send_until_limited(async || session.put(&of_key, metadata.clone()).await).await;
            assert_eq!(passed, 5, "creating the key was the first change");
            assert_retry_after(&rejected, "changes");
            let scopes = json!({ "name": "t", "scopes": ["*"] });
            let (token, _) = app.create_token(&ann.cookie, scopes).await;
            let by_token = app.key(&token).put(&of_key, json!({ "enabled": false })).await;
            assert_retry_after(&by_token.assert_error(429, "RATE_LIMIT_ERROR"), "changes");
            // Reads, requests with API keys, other organizations and revocations are not limited.
            session.get(&path).await.assert_status(200);
            let by_key = app.key(&created.api_key);
            let own = format!("/v1/organization/api-keys/{}", created.key_id);
            by_key.patch(&own, json!({ "metadata": { "by": "key" } })).await.assert_status(200);
            app.create_key(&dora, json!({ "name": "k", "scopes": ["*"] })).await;
            session.delete(&of_key).await.assert_status(200);
            session.post("/api/auth/sign-out", json!({})).await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn changes_to_an_account_are_limited() {
    with_limits(r#"{"changes":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let session = app.session(&ann.cookie);
            let mut number = 0;
            let (passed, rejected) = send_until_limited(async || {
                number += 1;
                let name = json!({ "fullName": format!("Ann {number}") });
                session.put("/api/user/me", name).await
            })
            .await;
            assert_eq!(passed, 3);
            assert_retry_after(&rejected, "changes");
        })
        .await;
}

#[test]
fn the_readme_s_table_of_limits_is_complete() {
    let readme = include_str!("../../README.md");
    let (_, table) = readme.split_once("\n| limit | for each |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: Vec<_> = rows.map(|(name, _)| name).collect();
    let known: Vec<_> =
        std::iter::once("org").chain(RateLimit::ALL.map(RateLimit::as_str)).collect();
    assert_eq!(documented, known);
}
