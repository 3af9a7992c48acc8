//! The monthly quota of requests.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::http::family::Family;

use crate::support::accounts::TestAccount;
use crate::support::app::{CreatedKey, TestSettings};
use crate::support::client::{TestClient, TestResponse};
use crate::support::spec::operations;
use crate::support::{TestApp, with_settings};

/// A server whose trial plan has this monthly quota of requests.
fn with_quota(requests: impl Into<Value>) -> TestSettings {
    let plans = json!({ "trial": { "requests_per_month": requests.into() } });
    with_settings(&[("PLANS", &plans.to_string())])
}

/// Sends this many successful requests.
async fn spend(client: &TestClient, requests: u64) {
    for _ in 0..requests {
        client.get("/me").await.assert_status(200);
    }
}

/// The organization's usage as its key reads it. This request itself is not counted yet.
async fn requests_used(app: &TestApp, acme: &CreatedKey) -> u64 {
    let response = app.key(&acme.api_key).get("/usage/summary").await.assert_status(200);
    response.body["requests_used"].as_u64().unwrap()
}

#[track_caller]
fn assert_quota_exceeded(response: TestResponse, code: &str, (limit, count): (u64, u64)) {
    let response = response.assert_error(429, code);
    assert_eq!(response.plan_limit(), ("requests", limit, count));
    // From 2036-05-08T09:56:42.855Z to the end of May.
    assert_eq!(response.header("retry-after"), "2037798");
}

#[tokio::test]
async fn an_exceeded_quota_is_rejected_in_every_family_s_format() {
    with_quota(6)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let org_path = format!("/api/user/organizations/{}", ann.org_id);
            let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
            let scopes = json!({ "name": "t", "scopes": ["*"] });
            let (unpinned, _) = app.create_token(&ann.cookie, scopes.clone()).await;
            let mut pinned = scopes;
            pinned["metadata"] = json!({ "organizationId": ann.org_id });
            let (pinned, _) = app.create_token(&ann.cookie, pinned).await;
            let (access, _) = app.exchange(&key).await;
            // All credentials use the same quota, and the exchange used it as well.
            for client in [app.key(&key), app.key(&pinned), app.bearer(&access)] {
                client.get("/me").await.assert_status(200);
            }
            app.key(&unpinned).get(&org_path).await.assert_status(200);
            app.key(&pinned).get("/api/user/me").await.assert_status(200);

            let spent = (6, 6);
            for client in [app.key(&key), app.key(&pinned), app.bearer(&access)] {
                assert_quota_exceeded(client.get("/me").await, "quota_exceeded", spent);
                assert_quota_exceeded(client.get(&org_path).await, "USAGE_LIMIT_ERROR", spent);
                let rejected = client.get("/v1/organization/me").await;
                assert_eq!(rejected.error()["retryable"], true);
                assert_eq!(rejected.error()["retry_after"], 2_037_798);
                assert_quota_exceeded(rejected, "quota_exceeded", spent);
            }
            assert_quota_exceeded(
                app.key(&unpinned).get(&org_path).await,
                "USAGE_LIMIT_ERROR",
                spent,
            );
            let me = app.key(&pinned).get("/api/user/me").await;
            assert_quota_exceeded(me, "USAGE_LIMIT_ERROR", spent);
            // A request outside an organization uses no quota.
            app.key(&unpinned).get("/api/user/me").await.assert_status(200);
            let rotate = app.key(&key).post("/v1/admin/key/rotate", json!({})).await;
            assert_quota_exceeded(rotate, "QUOTA_EXCEEDED", spent);
            let audit = app.key(&key).get("/v1/admin/audit-log").await;
            assert_quota_exceeded(audit, "QUOTA_EXCEEDED", spent);
        })
        .await;
}

#[tokio::test]
async fn requests_with_a_session_use_no_quota() {
    with_quota(0)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let org_path = format!("/api/user/organizations/{}", ann.org_id);
            let request = json!({ "name": "k", "scopes": ["*"] });
            let key = app.create_key(&ann, request).await.api_key;
            assert_quota_exceeded(app.key(&key).get("/me").await, "quota_exceeded", (0, 0));
            for client in [app.session(&ann.cookie), app.bearer(&ann.token)] {
                for path in ["/me", "/auth/me", "/api/user/me", &org_path] {
                    client.get(path).await.assert_status(200);
                }
            }
            app.app.meter.flush().await.unwrap();
            assert_eq!(app.count("select sum(requests)::bigint from usage_daily").await, 0);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_one_server_the_quota_is_exact_under_concurrent_requests_and_flushes() {
    with_quota(30)
        .run(async |app| {
            let acme = app.sign_up().await;
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..20 {
                let (client, meter) = (app.key(&acme.api_key), app.app.meter.clone());
                tasks.spawn(async move {
                    let mut passed = 0;
                    for _ in 0..5 {
                        let response = client.get("/me").await;
                        if response.status == 429 {
                            assert_quota_exceeded(response, "quota_exceeded", (30, 30));
                        } else {
                            response.assert_status(200);
                            passed += 1;
                        }
                        meter.flush().await.unwrap();
                    }
                    passed
                });
            }
            assert_eq!(tasks.join_all().await.into_iter().sum::<u64>(), 30);
            assert_eq!(requests_used(app, &acme).await, 30);
        })
        .await;
}

#[tokio::test]
async fn requests_over_the_quota_are_counted_as_denied_and_not_as_used() {
    with_quota(2)
        .run(async |app| {
            let acme = app.sign_up().await;
            let client = app.key(&acme.api_key);
            spend(&client, 2).await;
            for _ in 0..3 {
                assert_quota_exceeded(client.get("/me").await, "quota_exceeded", (2, 2));
            }
            app.app.meter.flush().await.unwrap();
            let sums = "select (sum(requests) * 100 + sum(denied))::bigint from usage_daily";
            assert_eq!(app.count(sums).await, 203);
            assert_quota_exceeded(client.get("/me").await, "quota_exceeded", (2, 2));
            // Another organization has its own quota.
            spend(&app.key(&app.sign_up().await.api_key), 1).await;
        })
        .await;
}

#[tokio::test]
async fn a_rate_limited_request_uses_no_quota() {
    let trial = r#"{"trial":{"requests_per_minute":2,"requests_per_month":3}}"#;
    with_settings(&[("PLANS", trial), ("LIMITS_PROFILE", "usual")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let client = app.key(&acme.api_key);
            spend(&client, 2).await;
            for _ in 0..5 {
                client.get("/me").await.assert_error(429, "rate_limited");
            }
            app.app.meter.flush().await.unwrap();
            let sums = "select (sum(requests) * 100 + sum(denied))::bigint from usage_daily";
            assert_eq!(app.count(sums).await, 205);
            // Without rate limits the rest of the monthly quota is available.
            let other = app.replica_with(&[("LIMITS_PROFILE", "off")]);
            let client = other.key(&acme.api_key);
            spend(&client, 1).await;
            other.app.meter.flush().await.unwrap();
            assert_quota_exceeded(client.get("/me").await, "quota_exceeded", (3, 3));
            other.close();
        })
        .await;
}

/// The snapshot of all families' errors includes the account family's error for a spent quota.
#[tokio::test]
async fn no_route_of_the_account_family_is_metered() {
    // The exchange uses the one request.
    with_quota(1)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
            let pinned = json!({ "name": "t", "scopes": ["*"],
                                 "metadata": { "organizationId": ann.org_id } });
            let (pinned, _) = app.create_token(&ann.cookie, pinned).await;
            let (access, _) = app.exchange(&key).await;
            let mut routes = operations();
            routes.retain(|it| Family::from_path(&it.path) == Family::Account);
            assert!(routes.len() >= 5, "the account's routes were not found");
            // Signing out ends the session, so it comes last.
            routes.sort_by_key(|it| it.id() == "logOut");
            for route in routes {
                let send = async |client: TestClient| {
                    let client = client.with("content-type", "application/json");
                    client.send(&route.method, &route.path, "{}").await
                };
                for client in [app.key(&key), app.key(&pinned), app.bearer(&access)] {
                    let response = send(client).await;
                    let expected = if route.requires_credential() { 403 } else { 400 };
                    assert_eq!(response.status, expected, "{}: {}", route.path, response.text);
                }
                if route.requires_credential() {
                    send(app.bearer(&ann.token)).await.assert_status(200);
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_request_rejected_for_missing_scopes_counts_as_used() {
    with_quota(2)
        .run(async |app| {
            let acme = app.sign_up().await;
            let ci = app.create_key_with(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
            app.key(&ci.api_key).get("/me/api-keys").await.assert_error(403, "forbidden");
            let rejected = app.key(&ci.api_key).get("/me/api-keys").await;
            assert_quota_exceeded(rejected, "quota_exceeded", (2, 2));
        })
        .await;
}

#[tokio::test]
async fn with_an_exceeded_quota_usage_can_be_read_and_keys_can_be_revoked() {
    with_quota(4)
        .run(async |app| {
            let ann: TestAccount = app.sign_up_account("ann@example.com").await;
            let org_path = format!("/api/user/organizations/{}", ann.org_id);
            let create = async |name: &str| {
                app.create_key(&ann, json!({ "name": name, "scopes": ["*"] })).await
            };
            let (key, a, b, c) =
                (create("k").await, create("a").await, create("b").await, create("c").await);
            let client = app.key(&key.api_key);
            spend(&client, 4).await;
            assert_quota_exceeded(client.get("/me").await, "quota_exceeded", (4, 4));
            for (path, pointer) in [
                ("/usage/summary", "/requests_used"),
                ("/usage/today", "/requests_used"),
                ("/v1/organization/usage", "/requests/used"),
                (&format!("{org_path}/usage"), "/data/requests/used"),
            ] {
                let response = client.get(path).await.assert_status(200);
                assert!(response.body.pointer(pointer).unwrap().as_u64().unwrap() >= 4, "{path}");
            }
            client.delete(&format!("/me/api-keys/{}", a.key_id)).await.assert_status(204);
            let path = format!("/v1/organization/api-keys/{}", b.key_id);
            client.delete(&path).await.assert_status(200);
            client.delete(&format!("{org_path}/api-keys/{}", c.key_id)).await.assert_status(200);
            // Only deletion is free of the quota on this path.
            client.get(&path).await.assert_error(429, "quota_exceeded");
            client.post("/v1/admin/key/revoke", json!({})).await.assert_status(200);
            client.get("/usage/summary").await.assert_error(401, "unauthorized");
        })
        .await;
}

#[tokio::test]
async fn a_plan_change_applies_the_new_quota_at_once() {
    with_quota(2)
        .run(async |app| {
            let acme = app.sign_up().await;
            let client = app.key(&acme.api_key);
            let path = format!("/v1/admin/billing/org/{}/plan", acme.org_id);
            let change = async |tier: &str| {
                let master = app.master_with_idempotency_key("BILLING_PLAN", tier);
                master.post(&path, json!({ "tier": tier })).await.assert_status(200);
            };
            spend(&client, 2).await;
            assert_quota_exceeded(client.get("/me").await, "quota_exceeded", (2, 2));
            // Requests without a limit count, too.
            change("enterprise").await;
            spend(&client, 3).await;
            change("trial").await;
            assert_quota_exceeded(client.get("/me").await, "quota_exceeded", (2, 5));
            change("starter").await;
            spend(&client, 1).await;
        })
        .await;
}

#[tokio::test]
async fn a_plan_without_a_quota_rejects_no_request_and_reports_null() {
    with_quota(Value::Null)
        .run(async |app| {
            let acme = app.sign_up().await;
            spend(&app.key(&acme.api_key), 3).await;
            let summary = app.key(&acme.api_key).get("/usage/summary").await.assert_status(200);
            assert_eq!(summary.body["requests_limit"], Value::Null);
            let usage =
                app.key(&acme.api_key).get("/v1/organization/usage").await.assert_status(200);
            assert_eq!(usage.body["requests"], json!({ "used": 4, "limit": null }));
        })
        .await;
}

#[tokio::test]
async fn a_new_month_begins_with_nothing_used() {
    with_quota(2)
        .run(async |app| {
            let acme = app.sign_up().await;
            let client = app.key(&acme.api_key);
            spend(&client, 2).await;
            app.app.meter.flush().await.unwrap();
            // One millisecond before June.
            app.clock.advance(TimeDelta::milliseconds(2_037_797_145 - 1));
            let rejected = client.get("/me").await.assert_error(429, "quota_exceeded");
            assert_eq!(rejected.header("retry-after"), "1");
            app.clock.advance(TimeDelta::milliseconds(1));
            spend(&client, 2).await;
            let rejected = client.get("/me").await.assert_error(429, "quota_exceeded");
            assert_eq!(rejected.header("retry-after"), (30 * 86_400).to_string());
            assert_eq!(requests_used(app, &acme).await, 2);
        })
        .await;
}

#[tokio::test]
async fn two_servers_exceed_the_quota_only_by_counts_not_yet_exchanged() {
    with_quota(10)
        .run(async |app| {
            let acme = app.sign_up().await;
            let other = app.replica();
            let (here, there) = (app.key(&acme.api_key), other.key(&acme.api_key));
            spend(&here, 6).await;
            app.app.meter.flush().await.unwrap();
            // The other server has not flushed for the organization: it knows only its own count.
            spend(&there, 3).await;
            other.app.meter.flush().await.unwrap();
            spend(&there, 1).await;
            assert_quota_exceeded(there.get("/me").await, "quota_exceeded", (10, 10));
            // This server knows only its own 6, so it accepts 4 more.
            spend(&here, 4).await;
            assert_quota_exceeded(here.get("/me").await, "quota_exceeded", (10, 10));
            other.app.meter.flush().await.unwrap();
            app.app.meter.flush().await.unwrap();
            assert_quota_exceeded(here.get("/me").await, "quota_exceeded", (10, 14));
            assert_eq!(requests_used(app, &acme).await, 14);
            other.close();
        })
        .await;
}

#[tokio::test]
async fn a_new_server_learns_the_usage_with_its_first_flush() {
    with_quota(3)
        .run(async |app| {
            let acme = app.sign_up().await;
            spend(&app.key(&acme.api_key), 3).await;
            app.app.meter.flush().await.unwrap();
            let replica = app.replica();
            let client = replica.key(&acme.api_key);
            spend(&client, 1).await;
            replica.app.meter.flush().await.unwrap();
            assert_quota_exceeded(client.get("/me").await, "quota_exceeded", (3, 4));
            replica.close();
        })
        .await;
}

#[tokio::test]
async fn the_quota_is_enforced_while_usage_cannot_be_read_or_written() {
    with_quota(3)
        .run(async |app| {
            let acme = app.sign_up().await;
            let client = app.key(&acme.api_key);
            spend(&client, 1).await;
            app.app.meter.flush().await.unwrap();
            app.execute("alter table usage_daily rename to away").await;
            spend(&client, 1).await;
            app.app.meter.flush().await.unwrap_err();
            spend(&client, 1).await;
            assert_quota_exceeded(client.get("/me").await, "quota_exceeded", (3, 3));
            app.app.meter.flush().await.unwrap_err();
            app.execute("alter table away rename to usage_daily").await;
            assert_quota_exceeded(client.get("/me").await, "quota_exceeded", (3, 3));
            assert_eq!(requests_used(app, &acme).await, 3);
        })
        .await;
}

#[tokio::test]
async fn an_exchange_and_a_refresh_use_the_month_s_quota() {
    with_quota(2)
        .run(async |app| {
            let acme = app.sign_up().await;
            let (_, refresh_token) = app.exchange(&acme.api_key).await;
            let body = json!({ "refresh_token": refresh_token });
            let refreshed = app.anonymous().post("/auth/refresh", body).await.assert_status(200);
            let body = json!({ "refresh_token": refreshed.body["refresh_token"] });
            for (path, body) in [
                ("/auth/refresh", body),
                ("/auth/token-exchange", json!({ "api_key": acme.api_key })),
            ] {
                assert_quota_exceeded(
                    app.anonymous().post(path, body).await,
                    "quota_exceeded",
                    (2, 2),
                );
            }
            assert_quota_exceeded(
                app.key(&acme.api_key).get("/me").await,
                "quota_exceeded",
                (2, 2),
            );
            assert_eq!(requests_used(app, &acme).await, 2);
        })
        .await;
}
