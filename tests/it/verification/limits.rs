//! Which rate limits and quotas a check counts against.

use serde_json::json;

use super::{code, verify};
use crate::support::rate_limits::with_limits;
use crate::support::{TestApp, run, with_settings};

async fn used(app: &TestApp, key: &str) -> u64 {
    let usage = app.key(key).get("/usage/today").await.assert_status(200);
    usage.body["requests_used"].as_u64().unwrap()
}

#[tokio::test]
async fn a_check_takes_its_cost_from_the_monthly_quota_and_a_rejected_one_takes_nothing() {
    let plans = r#"{"trial":{"requests_per_month":10}}"#;
    with_settings(&[("PLANS", plans)])
        .run(async |app| {
            let acme = app.sign_up().await;
            let cost = |cost: u32| json!({ "cost": cost });
            let verdict = verify(app, &acme.api_key, cost(7)).await;
            assert_eq!(verdict["quota"]["used"], 7);
            let forbidden =
                app.create_key_with(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
            let scopes = json!({ "scopes": [["docs:read"]], "cost": 2 });
            assert_eq!(code(app, &forbidden.api_key, scopes).await, "scope_missing");
            // Creating the key was the 8th request.
            let verdict = verify(app, &acme.api_key, cost(3)).await;
            assert_eq!(
                (&verdict["code"], &verdict["quota"]["used"]),
                (&json!("quota_exceeded"), &json!(8))
            );
            assert!(verdict["retry_after"].as_u64().unwrap() > 3_600);
            assert_eq!(code(app, &acme.api_key, cost(2)).await, "valid");
            assert_eq!(code(app, &acme.api_key, cost(1)).await, "quota_exceeded");
            assert_eq!(code(app, &acme.api_key, cost(0)).await, "valid");
            app.app.meter.flush().await.unwrap();
            let requests = "select sum(requests)::bigint from usage_daily";
            assert_eq!(app.count(requests).await, 10);
            let rejected = "select sum(denied)::bigint from usage_daily";
            assert_eq!(app.count(rejected).await, 3);
        })
        .await;
}

#[tokio::test]
async fn a_dry_run_counts_and_records_nothing() {
    let plans = r#"{"trial":{"requests_per_month":5,"requests_per_minute":2}}"#;
    with_settings(&[("PLANS", plans), ("LIMITS_PROFILE", "usual")])
        .run(async |app| {
            let acme = app.sign_up().await;
            for _ in 0..5 {
                let verdict = verify(app, &acme.api_key, json!({ "dry_run": true })).await;
                assert_eq!(
                    (&verdict["code"], &verdict["quota"]["used"]),
                    (&json!("valid"), &json!(1))
                );
                assert_eq!(verdict["limits"][0]["remaining"], 1);
                assert_eq!(code(app, "garbage", json!({ "dry_run": true })).await, "key_malformed");
            }
            let too_many = json!({ "dry_run": true, "cost": 6 });
            assert_eq!(code(app, &acme.api_key, too_many).await, "quota_exceeded");
            app.app.meter.flush().await.unwrap();
            assert_eq!(app.count("select count(*) from usage_daily").await, 0);
            app.app.rejections.flush().await.unwrap();
            assert_eq!(app.count("select count(*) from denials").await, 0);
        })
        .await;
}

#[tokio::test]
async fn a_check_counts_once_against_the_plan_s_requests_per_minute() {
    let plans = r#"{"trial":{"requests_per_minute":2,"requests_per_month":100}}"#;
    with_settings(&[("PLANS", plans), ("LIMITS_PROFILE", "usual")])
        .run(async |app| {
            let acme = app.sign_up().await;
            for remaining in [1, 0] {
                let verdict = verify(app, &acme.api_key, json!({ "cost": 10 })).await;
                assert_eq!(verdict["code"], "valid");
                let limit = &verdict["limits"][0];
                assert_eq!(limit["name"], "org");
                assert_eq!((&limit["limit"], &limit["remaining"]), (&json!(2), &json!(remaining)));
            }
            let verdict = verify(app, &acme.api_key, json!({ "cost": 10 })).await;
            assert_eq!(verdict["code"], "rate_limited");
            assert!((1..=30).contains(&verdict["retry_after"].as_u64().unwrap()));
            app.app.meter.flush().await.unwrap();
            let requests = "select sum(requests)::bigint from usage_daily";
            assert_eq!(app.count(requests).await, 20, "the rejected check took no quota");
        })
        .await;
}

#[tokio::test]
async fn unknown_keys_count_against_the_client_s_limit_and_never_block_a_valid_key() {
    with_limits(r#"{"checked_unknown_keys":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let acme = app.sign_up().await;
            let from = |ip: &str| json!({ "client": { "ip": ip } });
            for client in ["203.0.113.1", "203.0.113.2"] {
                for expected in ["key_malformed", "key_malformed", "key_malformed", "rate_limited"]
                {
                    assert_eq!(code(app, "garbage", from(client)).await, expected, "{client}");
                }
            }
            // A key that was valid once counts as one that never was.
            let revoked = app.create_key_with(&acme.api_key, json!({ "name": "ci" })).await;
            let path = format!("/v1/organization/api-keys/{}", revoked.key_id);
            app.key(&acme.api_key).delete(&path).await.assert_status(200);
            for expected in ["key_revoked", "key_revoked", "key_revoked", "rate_limited"] {
                assert_eq!(code(app, &revoked.api_key, from("203.0.113.4")).await, expected);
            }
            // A verifier that reports no client has a bucket of its own.
            for expected in ["key_malformed", "key_malformed", "key_malformed", "rate_limited"] {
                assert_eq!(code(app, "garbage", json!({})).await, expected);
            }
            for client in [from("203.0.113.1"), from("203.0.113.3"), json!({})] {
                assert_eq!(code(app, &acme.api_key, client).await, "valid");
            }
            let limited = verify(app, "garbage", json!({})).await;
            assert!(limited["retry_after"].as_u64().unwrap() >= 1);
        })
        .await;
}

#[tokio::test]
async fn a_check_updates_the_time_of_the_key_s_last_use() {
    run(async |app| {
        let acme = app.sign_up().await;
        assert_eq!(code(app, &acme.api_key, json!({})).await, "valid");
        assert_eq!(used(app, &acme.api_key).await, 1);
        let used_keys = "select count(*) from api_keys where last_used_at is not null";
        assert_eq!(app.count(used_keys).await, 1);
    })
    .await;
}
