//! `/usage/today`, `/usage/summary`

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::locks::TableLock;
use crate::support::{TestApp, run};

const COUNT_REQUESTS: &str = "select sum(requests)::bigint from usage_daily";

async fn read_usage(app: &TestApp, key: &str, path: &str) -> Value {
    app.key(key).get(path).await.assert_status(200).body
}

#[tokio::test]
async fn requests_before_this_one_are_counted_at_once() {
    run(async |app| {
        let acme = app.sign_up().await;
        for _ in 0..3 {
            app.key(&acme.api_key).get("/me").await.assert_status(200);
        }
        insta::assert_json_snapshot!(read_usage(app, &acme.api_key, "/usage/today").await);
        insta::assert_json_snapshot!(read_usage(app, &acme.api_key, "/usage/summary").await);
    })
    .await;
}

/// Some dashboards read `start` and `end`.
#[tokio::test]
async fn a_period_begins_and_ends_under_both_names() {
    run(async |app| {
        let acme = app.sign_up().await;
        for path in ["/usage/today", "/usage/summary", "/usage/summary?month=2036-02"] {
            let usage = read_usage(app, &acme.api_key, path).await;
            assert!(usage["start"].is_string() && usage["end"].is_string(), "{usage}");
            assert_eq!(usage["start"], usage["period_start"]);
            assert_eq!(usage["end"], usage["period_end"]);
        }
    })
    .await;
}

#[tokio::test]
async fn only_the_organization_s_own_authenticated_requests_count() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        app.key(&other.api_key).get("/me").await.assert_status(200);
        app.key("garbage").get("/me").await.assert_status(401);
        let (token, _) = app.exchange(&acme.api_key).await;
        app.bearer(&token).get("/me").await.assert_status(200);
        // The exchange is one of the requests.
        assert_eq!(read_usage(app, &acme.api_key, "/usage/today").await["requests_used"], 2);
    })
    .await;
}

#[tokio::test]
async fn a_day_and_a_month_end_at_midnight_utc() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        app.clock.advance(TimeDelta::days(1));
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        assert_eq!(read_usage(app, &acme.api_key, "/usage/today").await["requests_used"], 1);
        assert_eq!(read_usage(app, &acme.api_key, "/usage/summary").await["requests_used"], 3);
        app.clock.advance(TimeDelta::days(30));
        assert_eq!(read_usage(app, &acme.api_key, "/usage/summary").await["requests_used"], 0);
        let may = read_usage(app, &acme.api_key, "/usage/summary?month=2036-05").await;
        assert_eq!(may["requests_used"], 4);
        assert_eq!(may["period_start"], "2036-05-01T00:00:00.000Z");
        assert_eq!(may["period_end"], "2036-06-01T00:00:00.000Z");
    })
    .await;
}

#[tokio::test]
async fn an_invalid_month_is_rejected_by_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        for month in ["2036-13", "may", "2036-5", "2036-05&month=2036-06"] {
            let response =
                app.key(&acme.api_key).get(&format!("/usage/summary?month={month}")).await;
            let response = response.assert_error(422, "validation_error");
            assert_eq!(response.invalid_fields(), ["month"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_rejected_request_counts_as_used_and_as_denied() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
        app.key(&ci.api_key).get("/me/api-keys").await.assert_status(403);
        app.app.meter.flush().await.unwrap();
        let sums = "select (sum(requests) * 100 + sum(denied))::bigint from usage_daily";
        assert_eq!(app.count(sums).await, 201);
    })
    .await;
}

#[tokio::test]
async fn last_use_is_stored_and_never_moves_back() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.clock.advance(TimeDelta::seconds(5));
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        app.app.meter.flush().await.unwrap();
        app.clock.advance(TimeDelta::seconds(-3));
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        app.app.meter.flush().await.unwrap();
        let body = read_usage(app, &acme.api_key, "/me").await;
        assert_eq!(body["api_keys"][0]["last_used_at"], "2036-05-08T09:56:47.855Z");
    })
    .await;
}

#[tokio::test]
async fn requests_are_counted_once_even_if_a_flush_is_cancelled() {
    run(async |app| {
        let acme = app.sign_up().await;
        let send = async || app.key(&acme.api_key).get("/me").await.assert_status(200);
        // The rows are inserted first and then updated.
        for round in 1..=2 {
            send().await;
            let mut lock = TableLock::before_write(app.superuser().await, "usage_daily").await;
            let statement = lock.cancel(app.app.meter.flush()).await;
            assert!(statement.contains("insert into usage_daily"), "{statement}");
            send().await;
            lock.release().await;
            app.app.meter.flush().await.unwrap();
            assert_eq!(app.count(COUNT_REQUESTS).await, 4 * round - 2);

            send().await;
            let mut lock = TableLock::before_commit(app.superuser().await, "usage_daily").await;
            assert_eq!(lock.cancel(app.app.meter.flush()).await, "COMMIT");
            send().await;
            lock.release().await;
            app.app.meter.flush().await.unwrap();
            assert_eq!(app.count(COUNT_REQUESTS).await, 4 * round);
        }
        assert_eq!(read_usage(app, &acme.api_key, "/usage/today").await["requests_used"], 8);
    })
    .await;
}

#[tokio::test]
async fn counts_that_could_not_be_written_are_written_later() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        app.execute("alter table usage_daily rename to away").await;
        app.app.meter.flush().await.unwrap_err();
        app.execute("alter table away rename to usage_daily").await;
        assert_eq!(read_usage(app, &acme.api_key, "/usage/today").await["requests_used"], 1);
    })
    .await;
}
