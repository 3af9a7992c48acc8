//! Requests of one organization or account wait for each other, and do not delay other callers.

use serde_json::{Value, json};

use crate::support::client::TestClient;
use crate::support::waiting::wait_until_async;
use crate::support::{TestApp, run};

/// The number of the pool's 10 connections that one caller's requests may use: a quarter, rounded
/// up.
const SHARE: i64 = 3;

/// Sends `requests` of one caller, which need a lock that `lock` takes on a connection of the test.
/// Asserts that `SHARE` of them wait for it in the database, that the others wait for the share,
/// and that requests of other callers succeed meanwhile.
async fn assert_other_callers_succeed(
    app: &TestApp,
    lock: &'static str,
    requests: Vec<(TestClient, &'static str, &'static str, Value)>,
) {
    let others = [app.sign_up().await, app.sign_up().await];
    let mut lock_connection = app.connect().await;
    sqlx::raw_sql(lock).execute(&mut lock_connection).await.unwrap();
    let mut blocked = tokio::task::JoinSet::new();
    let sent = requests.len();
    for (client, method, path, body) in requests {
        let client = client.with("content-type", "application/json");
        blocked.spawn(async move { client.send(method, path, body.to_string()).await });
    }
    let are_waiting =
        async || app.lock_waiters().await >= SHARE && app.app.in_flight.total() >= sent;
    wait_until_async("every request runs, and a share of them waits for the lock", are_waiting)
        .await;
    for number in 0..5 {
        app.sign_up().await;
        let other = app.key(&others[number % 2].api_key);
        other.post("/me/api-keys", json!({})).await.assert_status(201);
        other.get("/usage/today").await.assert_status(200);
        let waiting = app.lock_waiters().await;
        assert!(waiting <= SHARE, "{waiting} connections wait for one caller's lock");
    }
    sqlx::raw_sql("rollback").execute(&mut lock_connection).await.unwrap();
    for response in blocked.join_all().await {
        let status = response.status.as_u16();
        // A request waited too long for the share or the lock (429, 503), or the refresh token had
        // been used (401).
        assert!(status < 300 || [401, 429, 503].contains(&status), "{}", response.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lock_contention_in_one_organization_does_not_fail_requests_of_other_callers() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.execute("update organizations set name = 'acme' where handle <> 'system'").await;
        let mut requests = Vec::new();
        for number in 0..30 {
            let client = match number % 3 {
                0 => app.key(&app.create_key_with(&acme.api_key, json!({})).await.api_key),
                _ => app.key(&acme.api_key),
            };
            let body = json!({ "name": format!("k{number}") });
            requests.push((client, "POST", "/me/api-keys", body));
        }
        let lock = "begin; select from organizations where name = 'acme' for update";
        assert_other_callers_succeed(app, lock, requests).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lock_contention_on_one_account_does_not_fail_requests_of_other_callers() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let requests = (0..30).map(|number| {
            let body = json!({ "fullName": format!("Ann {number}") });
            (app.session(&ann.cookie), "PUT", "/api/user/me", body)
        });
        let lock = "begin; select from accounts for update";
        assert_other_callers_succeed(app, lock, requests.collect()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lock_contention_on_one_refresh_token_does_not_fail_requests_of_other_callers() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (_, refresh_token) = app.exchange(&acme.api_key).await;
        let requests = (0..30).map(|_| {
            let body = json!({ "refresh_token": refresh_token });
            (app.anonymous(), "POST", "/auth/refresh", body)
        });
        let lock = "begin; select from refresh_tokens for update";
        assert_other_callers_succeed(app, lock, requests.collect()).await;
    })
    .await;
}
