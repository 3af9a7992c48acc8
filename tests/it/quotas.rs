//! The monthly quota of requests.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::http::family::Family;

use crate::support::accounts::TestAccount;
use crate::support::app::{CreatedKey, TestSettings};
use crate::support::client::{TestClient, TestResponse};
use crate::support::spec::operations;
use crate::support::{TestApp, with_settings};

/// A server whose trial plan holds so many requests a month.
fn with_quota(requests: impl Into<Value>) -> TestSettings {
    let plans = json!({ "trial": { "requests_per_month": requests.into() } });
    with_settings(&[("PLANS", &plans.to_string())])
}

/// Spends an organization's requests.
async fn spend(actor: &TestClient, requests: u64) {
    for _ in 0..requests {
        actor.get("/me").await.assert_status(200);
    }
}

/// What the organization has used, as its key reads it; that does not count before it is written.
async fn used(app: &TestApp, acme: &CreatedKey) -> u64 {
    let answer = app.key(&acme.api_key).get("/usage/summary").await.assert_status(200);
    answer.body["requests_used"].as_u64().unwrap()
}

#[track_caller]
fn assert_quota_exceeded(answer: TestResponse, word: &str, (limit, used): (u64, u64)) {
    let answer = answer.assert_error(429, word);
    assert_eq!(answer.plan_limit(), ("requests", limit, used));
    // From 2036-05-08T09:56:42.855Z to the end of May.
    assert_eq!(answer.header("retry-after"), "2037798");
}

#[tokio::test]
async fn whoever_has_spent_the_quota_is_told_so_in_every_family_s_words() {
    with_quota(6)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let own = format!("/api/user/organizations/{}", ann.org_id);
            let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
            let scopes = json!({ "name": "t", "scopes": ["*"] });
            let (unpinned, _) = app.create_token(&ann.cookie, scopes.clone()).await;
            let mut pinned = scopes;
            pinned["metadata"] = json!({ "organizationId": ann.org_id });
            let (pinned, _) = app.create_token(&ann.cookie, pinned).await;
            let (access, _) = app.exchange(&key).await;
            // All of them use the same quota, and so did the exchange.
            for actor in [app.key(&key), app.key(&pinned), app.bearer(&access)] {
                actor.get("/me").await.assert_status(200);
            }
            app.key(&unpinned).get(&own).await.assert_status(200);
            app.key(&pinned).get("/api/user/me").await.assert_status(200);

            let spent = (6, 6);
            for actor in [app.key(&key), app.key(&pinned), app.bearer(&access)] {
                assert_quota_exceeded(actor.get("/me").await, "quota_exceeded", spent);
                assert_quota_exceeded(actor.get(&own).await, "USAGE_LIMIT_ERROR", spent);
                let refused = actor.get("/v1/organization/me").await;
                assert_eq!(refused.error()["retryable"], true);
                assert_eq!(refused.error()["retry_after"], 2_037_798);
                assert_quota_exceeded(refused, "quota_exceeded", spent);
            }
            assert_quota_exceeded(app.key(&unpinned).get(&own).await, "USAGE_LIMIT_ERROR", spent);
            let me = app.key(&pinned).get("/api/user/me").await;
            assert_quota_exceeded(me, "USAGE_LIMIT_ERROR", spent);
            // Outside an organization nobody's quota is used.
            app.key(&unpinned).get("/api/user/me").await.assert_status(200);
            let rotate = app.key(&key).post("/v1/admin/key/rotate", json!({})).await;
            assert_quota_exceeded(rotate, "QUOTA_EXCEEDED", spent);
            let audit = app.key(&key).get("/v1/admin/audit-log").await;
            assert_quota_exceeded(audit, "QUOTA_EXCEEDED", spent);
        })
        .await;
}

#[tokio::test]
async fn people_in_a_session_go_on() {
    with_quota(0)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let own = format!("/api/user/organizations/{}", ann.org_id);
            let request = json!({ "name": "k", "scopes": ["*"] });
            let key = app.create_key(&ann, request).await.api_key;
            assert_quota_exceeded(app.key(&key).get("/me").await, "quota_exceeded", (0, 0));
            for actor in [app.session(&ann.cookie), app.bearer(&ann.token)] {
                for path in ["/me", "/auth/me", "/api/user/me", &own] {
                    actor.get(path).await.assert_status(200);
                }
            }
            app.app.meter.flush().await.unwrap();
            assert_eq!(app.count("select sum(requests)::bigint from usage_daily").await, 0);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_one_server_exactly_as_many_pass_as_the_plan_holds_while_it_is_being_written() {
    with_quota(30)
        .run(async |app| {
            let acme = app.sign_up().await;
            let mut callers = tokio::task::JoinSet::new();
            for _ in 0..20 {
                let (actor, meter) = (app.key(&acme.api_key), app.app.meter.clone());
                callers.spawn(async move {
                    let mut passed = 0;
                    for _ in 0..5 {
                        let answer = actor.get("/me").await;
                        if answer.status == 429 {
                            assert_quota_exceeded(answer, "quota_exceeded", (30, 30));
                        } else {
                            answer.assert_status(200);
                            passed += 1;
                        }
                        meter.flush().await.unwrap();
                    }
                    passed
                });
            }
            assert_eq!(callers.join_all().await.into_iter().sum::<u64>(), 30);
            assert_eq!(used(app, &acme).await, 30);
        })
        .await;
}

#[tokio::test]
async fn refused_requests_are_told_as_denied_and_never_as_used() {
    with_quota(2)
        .run(async |app| {
            let acme = app.sign_up().await;
            let actor = app.key(&acme.api_key);
            spend(&actor, 2).await;
            for _ in 0..3 {
                assert_quota_exceeded(actor.get("/me").await, "quota_exceeded", (2, 2));
            }
            app.app.meter.flush().await.unwrap();
            let sums = "select (sum(requests) * 100 + sum(denied))::bigint from usage_daily";
            assert_eq!(app.count(sums).await, 203);
            assert_quota_exceeded(actor.get("/me").await, "quota_exceeded", (2, 2));
            // Another organization's is its own.
            spend(&app.key(&app.sign_up().await.api_key), 1).await;
        })
        .await;
}

#[tokio::test]
async fn a_request_that_came_too_often_uses_none_of_the_month() {
    let trial = r#"{"trial":{"requests_per_minute":2,"requests_per_month":3}}"#;
    with_settings(&[("PLANS", trial), ("LIMITS_PROFILE", "usual")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let actor = app.key(&acme.api_key);
            spend(&actor, 2).await;
            for _ in 0..5 {
                actor.get("/me").await.assert_error(429, "rate_limited");
            }
            app.app.meter.flush().await.unwrap();
            let sums = "select (sum(requests) * 100 + sum(denied))::bigint from usage_daily";
            assert_eq!(app.count(sums).await, 205);
            // Where no rate is limited, what is left of the month is there.
            let other = app.replica_with(&[("LIMITS_PROFILE", "off")]);
            let actor = other.key(&acme.api_key);
            spend(&actor, 1).await;
            other.app.meter.flush().await.unwrap();
            assert_quota_exceeded(actor.get("/me").await, "quota_exceeded", (3, 3));
            other.close();
        })
        .await;
}

/// That the account family has words for a spent quota is shown by the snapshot of all dialects.
#[tokio::test]
async fn no_route_of_the_account_family_is_metered() {
    // What the exchange uses.
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
            // Signing out ends what asks.
            routes.sort_by_key(|it| it.id() == "logOut");
            for route in routes {
                let send = async |actor: TestClient| {
                    let actor = actor.with("content-type", "application/json");
                    actor.send(&route.method, &route.path, "{}").await
                };
                for actor in [app.key(&key), app.key(&pinned), app.bearer(&access)] {
                    let answer = send(actor).await;
                    let expected = if route.requires_credential() { 403 } else { 400 };
                    assert_eq!(answer.status, expected, "{}: {}", route.path, answer.text);
                }
                if route.requires_credential() {
                    send(app.bearer(&ann.token)).await.assert_status(200);
                }
            }
        })
        .await;
}

#[tokio::test]
async fn what_is_denied_for_another_reason_counts_as_used() {
    with_quota(2)
        .run(async |app| {
            let acme = app.sign_up().await;
            let ci = app.mint(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
            app.key(&ci.api_key).get("/me/api-keys").await.assert_error(403, "forbidden");
            let refused = app.key(&ci.api_key).get("/me/api-keys").await;
            assert_quota_exceeded(refused, "quota_exceeded", (2, 2));
        })
        .await;
}

#[tokio::test]
async fn whoever_has_spent_the_quota_can_see_it_and_end_keys() {
    with_quota(4)
        .run(async |app| {
            let ann: TestAccount = app.sign_up_account("ann@example.com").await;
            let own = format!("/api/user/organizations/{}", ann.org_id);
            let make = async |name: &str| {
                app.create_key(&ann, json!({ "name": name, "scopes": ["*"] })).await
            };
            let (key, a, b, c) =
                (make("k").await, make("a").await, make("b").await, make("c").await);
            let actor = app.key(&key.api_key);
            spend(&actor, 4).await;
            assert_quota_exceeded(actor.get("/me").await, "quota_exceeded", (4, 4));
            for (path, place) in [
                ("/usage/summary", "/requests_used"),
                ("/usage/today", "/requests_used"),
                ("/v1/organization/usage", "/requests/used"),
                (&format!("{own}/usage"), "/data/requests/used"),
            ] {
                let answer = actor.get(path).await.assert_status(200);
                assert!(answer.body.pointer(place).unwrap().as_u64().unwrap() >= 4, "{path}");
            }
            actor.delete(&format!("/me/api-keys/{}", a.key_id)).await.assert_status(204);
            let path = format!("/v1/organization/api-keys/{}", b.key_id);
            actor.delete(&path).await.assert_status(200);
            actor.delete(&format!("{own}/api-keys/{}", c.key_id)).await.assert_status(200);
            // Only that of these routes.
            actor.get(&path).await.assert_error(429, "quota_exceeded");
            actor.post("/v1/admin/key/revoke", json!({})).await.assert_status(200);
            actor.get("/usage/summary").await.assert_error(401, "unauthorized");
        })
        .await;
}

#[tokio::test]
async fn another_plan_s_quota_holds_at_once_both_ways() {
    with_quota(2)
        .run(async |app| {
            let acme = app.sign_up().await;
            let actor = app.key(&acme.api_key);
            let path = format!("/v1/admin/billing/org/{}/plan", acme.org_id);
            let change = async |tier: &str| {
                let master = app.master_with_idempotency_key("BILLING_PLAN", tier);
                master.post(&path, json!({ "tier": tier })).await.assert_status(200);
            };
            spend(&actor, 2).await;
            assert_quota_exceeded(actor.get("/me").await, "quota_exceeded", (2, 2));
            // Without limit it is counted all the same.
            change("enterprise").await;
            spend(&actor, 3).await;
            change("trial").await;
            assert_quota_exceeded(actor.get("/me").await, "quota_exceeded", (2, 5));
            change("starter").await;
            spend(&actor, 1).await;
        })
        .await;
}

#[tokio::test]
async fn a_plan_without_a_quota_refuses_nobody_and_says_null() {
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
            let actor = app.key(&acme.api_key);
            spend(&actor, 2).await;
            app.app.meter.flush().await.unwrap();
            // A moment before June.
            app.clock.advance(TimeDelta::milliseconds(2_037_797_145 - 1));
            let refused = actor.get("/me").await.assert_error(429, "quota_exceeded");
            assert_eq!(refused.header("retry-after"), "1");
            app.clock.advance(TimeDelta::milliseconds(1));
            spend(&actor, 2).await;
            let refused = actor.get("/me").await.assert_error(429, "quota_exceeded");
            assert_eq!(refused.header("retry-after"), (30 * 86_400).to_string());
            assert_eq!(used(app, &acme).await, 2);
        })
        .await;
}

#[tokio::test]
async fn two_servers_let_in_at_most_what_each_did_not_know_of_the_other() {
    with_quota(10)
        .run(async |app| {
            let acme = app.sign_up().await;
            let other = app.replica();
            let (here, there) = (app.key(&acme.api_key), other.key(&acme.api_key));
            spend(&here, 6).await;
            app.app.meter.flush().await.unwrap();
            // The other one has not written for the organization yet, so it knows of nothing.
            spend(&there, 3).await;
            other.app.meter.flush().await.unwrap();
            spend(&there, 1).await;
            assert_quota_exceeded(there.get("/me").await, "quota_exceeded", (10, 10));
            // This one knows of its own 6: 4 more, as many as the other let in since.
            spend(&here, 4).await;
            assert_quota_exceeded(here.get("/me").await, "quota_exceeded", (10, 10));
            other.app.meter.flush().await.unwrap();
            app.app.meter.flush().await.unwrap();
            assert_quota_exceeded(here.get("/me").await, "quota_exceeded", (10, 14));
            assert_eq!(used(app, &acme).await, 14);
            other.close();
        })
        .await;
}

#[tokio::test]
async fn a_server_that_was_just_started_knows_with_its_first_batch_what_was_used() {
    with_quota(3)
        .run(async |app| {
            let acme = app.sign_up().await;
            spend(&app.key(&acme.api_key), 3).await;
            app.app.meter.flush().await.unwrap();
            let fresh = app.replica();
            let actor = fresh.key(&acme.api_key);
            spend(&actor, 1).await;
            fresh.app.meter.flush().await.unwrap();
            assert_quota_exceeded(actor.get("/me").await, "quota_exceeded", (3, 4));
            fresh.close();
        })
        .await;
}

/// The key is looked up, and nothing else is asked.
#[tokio::test]
async fn no_request_waits_for_the_database_to_know_what_was_used() {
    with_quota(3)
        .run(async |app| {
            let acme = app.sign_up().await;
            let actor = app.key(&acme.api_key);
            spend(&actor, 1).await;
            app.app.meter.flush().await.unwrap();
            app.execute("alter table usage_daily rename to away").await;
            spend(&actor, 1).await;
            app.app.meter.flush().await.unwrap_err();
            spend(&actor, 1).await;
            assert_quota_exceeded(actor.get("/me").await, "quota_exceeded", (3, 3));
            app.app.meter.flush().await.unwrap_err();
            app.execute("alter table away rename to usage_daily").await;
            assert_quota_exceeded(actor.get("/me").await, "quota_exceeded", (3, 3));
            assert_eq!(used(app, &acme).await, 3);
        })
        .await;
}

#[tokio::test]
async fn an_exchange_and_a_refresh_use_the_month_s_quota() {
    with_quota(2)
        .run(async |app| {
            let acme = app.sign_up().await;
            let (_, refresh_token) = app.exchange(&acme.api_key).await;
            let shown = json!({ "refresh_token": refresh_token });
            let next = app.anonymous().post("/auth/refresh", shown).await.assert_status(200);
            let shown = json!({ "refresh_token": next.body["refresh_token"] });
            for (path, shown) in [
                ("/auth/refresh", shown),
                ("/auth/token-exchange", json!({ "api_key": acme.api_key })),
            ] {
                assert_quota_exceeded(
                    app.anonymous().post(path, shown).await,
                    "quota_exceeded",
                    (2, 2),
                );
            }
            assert_quota_exceeded(
                app.key(&acme.api_key).get("/me").await,
                "quota_exceeded",
                (2, 2),
            );
            assert_eq!(used(app, &acme).await, 2);
        })
        .await;
}
