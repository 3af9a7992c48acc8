//! `GET /api/user/organizations/{organizationId}/usage`

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{assert_readable_by_members_and_keys, organization_path, shared_organization, token};
use crate::support::accounts::TestAccount;
use crate::support::{TestApp, run};

const USAGE: &str = "/usage";

async fn usage(app: &TestApp, account: &TestAccount) -> Value {
    app.app.meter.flush().await.unwrap();
    let response =
        app.session(&account.cookie).get(&organization_path(&account.org_id, USAGE)).await;
    response.assert_status(200).body["data"].clone()
}

#[tokio::test]
async fn the_usage_is_read_by_every_member() {
    run(async |app| assert_readable_by_members_and_keys(app, USAGE, "usage:read", "member").await)
        .await;
}

#[tokio::test]
async fn requests_are_reported_by_day_and_by_key_with_the_most_used_key_first() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let host = shared_organization(app).await;
        let ci = app.create_key(&ann, json!({ "name": "ci", "scopes": ["usage:read"] })).await;
        let (own, logs) =
            (organization_path(&ann.org_id, USAGE), organization_path(&ann.org_id, "/audit-logs"));
        for _ in 0..3 {
            app.key(&ci.api_key).get(&own).await.assert_status(200);
        }
        app.key(&ci.api_key).get(&logs).await.assert_status(403);
        app.clock.advance(TimeDelta::days(1));
        app.key(&ci.api_key).get("/me").await.assert_status(200);
        let unpinned = app.key(&token(app, &ann, json!(["*"]), None).await);
        for _ in 0..2 {
            unpinned.get(&own).await.assert_status(200);
        }
        let pinned = app.key(&token(app, &ann, json!(["*"]), Some(&ann.org_id)).await);
        pinned.get("/v1/organization/me").await.assert_status(200);
        // Requests in another organization are reported there.
        app.clock.advance(TimeDelta::hours(1));
        unpinned.get(&organization_path(&host.org_id, USAGE)).await.assert_status(200);
        insta::assert_json_snapshot!(usage(app, &ann).await);
        let elsewhere = usage(app, &host).await;
        assert_eq!(elsewhere["requests"]["used"], 1);
        assert_eq!(elsewhere["keys"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_month_ends_at_midnight_utc_and_the_next_begins_at_zero() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ci = app.create_key(&ann, json!({ "name": "ci", "scopes": ["*"] })).await;
        app.key(&ci.api_key).get("/me").await.assert_status(200);
        app.app.meter.flush().await.unwrap();
        app.execute("update usage_daily set day = '2036-04-30'").await;
        assert_eq!(usage(app, &ann).await["daily"], json!([]));
        app.execute("update usage_daily set day = '2036-05-31'").await;
        assert_eq!(usage(app, &ann).await["daily"][0]["day"], "2036-05-31");
        app.execute("update usage_daily set day = '2036-06-01'").await;
        let none = usage(app, &ann).await;
        assert_eq!(none["requests"], json!({ "used": 0, "limit": 100_000 }));
        assert_eq!(none["keys"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn at_most_100_keys_are_listed_and_all_are_counted() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        app.execute(
            "insert into usage_daily (organization_id, key_id, day, requests, denied)
             select o.id, gen_random_uuid(), '2036-05-08', n, 0
             from organizations o, generate_series(1, 101) n",
        )
        .await;
        let usage = usage(app, &ann).await;
        let keys = usage["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 100);
        assert_eq!((&keys[0]["requests"], &keys[99]["requests"]), (&json!(101), &json!(2)));
        assert_eq!(usage["requests"]["used"], 101 * 102 / 2);
    })
    .await;
}
