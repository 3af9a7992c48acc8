//! Load shedding: which requests an overloaded server rejects, and in which order.

use axum::body::Body;
use serde_json::json;
use tenantry::app::in_flight::{Cost, RequestPermit};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::support::accounts::PASSWORD;
use crate::support::client::{TestClient, TestResponse};
use crate::support::waiting::wait_until_async;
use crate::support::{TestApp, with_settings};

/// Acquires permits until none is left for requests of this cost.
fn exhaust_permits(app: &TestApp, cost: Cost, permits: &mut Vec<RequestPermit>) {
    while let Some(permit) = app.app.in_flight.acquire(cost) {
        permits.push(permit);
    }
}

#[tokio::test]
async fn hashing_is_shed_first_then_writes_then_reads_then_key_checks_and_health_never() {
    with_settings(&[("MAX_IN_FLIGHT", "10")])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
            let credentials = json!({ "email": "ann@example.com", "password": PASSWORD });
            let statuses = async || {
                let key = app.key(&key);
                let responses = [
                    app.anonymous().post("/auth/login", credentials.clone()).await,
                    app.key("garbage").post("/me/api-keys", json!({})).await,
                    key.get("/v1/organization/usage").await,
                    key.get("/auth/verify").await,
                    app.anonymous().get("/health/live").await,
                    app.anonymous().get("/health/ready").await,
                ];
                for shed in responses.iter().filter(|it| it.status == 503) {
                    assert_eq!(shed.header("retry-after"), "1");
                }
                responses.map(|it| it.status.as_u16())
            };
            let mut permits = Vec::new();
            assert_eq!(statuses().await, [200, 401, 200, 200, 200, 200]);
            for (cost, expected) in [
                (Cost::Hashing, [503, 401, 200, 200, 200, 200]),
                (Cost::Write, [503, 503, 200, 200, 200, 200]),
                (Cost::Read, [503, 503, 503, 200, 200, 200]),
                (Cost::Check, [503, 503, 503, 503, 200, 200]),
            ] {
                exhaust_permits(app, cost, &mut permits);
                assert_eq!(statuses().await, expected, "{cost:?}");
            }
            permits.clear();
            assert_eq!(statuses().await, [200, 401, 200, 200, 200, 200]);
            assert_eq!(app.app.in_flight.total(), 0);
        })
        .await;
}

#[tokio::test]
async fn concurrent_requests_are_limited_per_organization_across_its_keys() {
    with_settings(&[("MAX_IN_FLIGHT_PER_CALLER", "2")])
        .run(async |app| {
            let (acme, other) = (app.sign_up().await, app.sign_up().await);
            let second = app.create_key_with(&acme.api_key, json!({})).await;
            let subject = app.subject_of(&acme.org_id).await;
            let permits = [(); 2].map(|()| app.app.in_flight.acquire_for(subject));
            for (path, code) in [
                ("/me", "rate_limited"),
                ("/v1/organization/me", "rate_limited"),
                ("/api/user/organizations/x", "RATE_LIMIT_ERROR"),
            ] {
                for key in [&acme.api_key, &second.api_key] {
                    let rejected = app.key(key).get(path).await.assert_error(429, code);
                    assert_eq!(rejected.header("retry-after"), "1");
                }
            }
            app.key(&other.api_key).get("/me").await.assert_status(200);
            drop(permits);
            app.key(&acme.api_key).get("/me").await.assert_status(200);
        })
        .await;
}

/// A request whose body has begun. The rest of the body is sent through `rest`.
struct SlowUpload {
    rest: UnboundedSender<Result<&'static str, String>>,
    response: JoinHandle<TestResponse>,
}

/// Sends the beginning of a body to a path, and returns when the server waits for the rest.
async fn start_slow_upload(app: &TestApp, client: TestClient, path: &'static str) -> SlowUpload {
    let (rest, receiver) = unbounded_channel();
    rest.send(Ok("{")).unwrap();
    let body = Body::from_stream(UnboundedReceiverStream::new(receiver));
    let before = app.app.in_flight.waiting();
    let is_form = path.starts_with("/oauth2/");
    let media_type = if is_form { "application/x-www-form-urlencoded" } else { "application/json" };
    let client = client.with("content-type", media_type);
    let response = tokio::spawn(async move { client.send("POST", path, body).await });
    let is_seen = async || app.app.in_flight.waiting() != before || response.is_finished();
    wait_until_async("the server waits for the rest of the body", is_seen).await;
    SlowUpload { rest, response }
}

#[tokio::test]
async fn requests_with_incomplete_bodies_do_not_block_other_requests() {
    with_settings(&[("MAX_IN_FLIGHT", "10")])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let acme = app.sign_up().await;
            let mut waiting = Vec::new();
            for _ in 0..10 {
                waiting.push(start_slow_upload(app, app.anonymous(), "/auth/token-exchange").await);
                waiting.push(start_slow_upload(app, app.key(&acme.api_key), "/me/api-keys").await);
                let operator = app.master_with_idempotency_key("ORG_CREATE", "evt_1");
                waiting.push(start_slow_upload(app, operator, "/v1/admin/org/create").await);
                waiting.push(start_slow_upload(app, app.anonymous(), "/webhooks/stripe").await);
            }
            assert_eq!((app.app.in_flight.waiting(), app.app.in_flight.total()), (40, 0));
            app.sign_in(&ann.email, PASSWORD).await.assert_status(200);
            app.key(&acme.api_key).post("/me/api-keys", json!({})).await.assert_status(201);
            for slow in waiting {
                drop(slow.rest);
                let status = slow.response.await.unwrap().status.as_u16();
                assert!([400, 401].contains(&status), "{status}");
            }
            assert_eq!((app.app.in_flight.waiting(), app.app.in_flight.total()), (0, 0));
        })
        .await;
}

#[tokio::test]
async fn clients_that_introspect_slowly_leave_every_permit_to_verifiers() {
    with_settings(&[("MAX_IN_FLIGHT", "10")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let mut waiting = Vec::new();
            for _ in 0..20 {
                waiting.push(start_slow_upload(app, app.anonymous(), "/oauth2/introspect").await);
            }
            assert_eq!(app.app.verifications_in_flight.total(), 0);
            assert_eq!((app.app.in_flight.waiting(), app.app.in_flight.total()), (20, 0));
            let check = app.verifier().post("/v1/verify", json!({ "key": acme.api_key })).await;
            assert_eq!(check.assert_status(200).body["valid"], true);
            let introspected = format!("token={}", acme.api_key);
            let active = app.verifier().post_form("/oauth2/introspect", &introspected).await;
            assert_eq!(active.assert_status(200).body["active"], true);
            for slow in waiting {
                drop(slow.rest);
                assert_eq!(slow.response.await.unwrap().status, 401);
            }
        })
        .await;
}

#[tokio::test]
async fn a_request_acquires_its_permit_when_its_body_is_complete() {
    with_settings(&[("MAX_IN_FLIGHT", "10")])
        .run(async |app| {
            let shed = start_slow_upload(app, app.anonymous(), "/signup").await;
            let served = start_slow_upload(app, app.anonymous(), "/signup").await;
            let mut permits = Vec::new();
            exhaust_permits(app, Cost::Check, &mut permits);
            shed.rest.send(Ok("}")).unwrap();
            drop(shed.rest);
            shed.response.await.unwrap().assert_error(503, "service_unavailable");
            permits.clear();
            served.rest.send(Ok("}")).unwrap();
            drop(served.rest);
            served.response.await.unwrap().assert_status(201);
        })
        .await;
}

#[tokio::test]
async fn the_number_of_incomplete_bodies_is_limited_per_caller() {
    with_settings(&[("MAX_IN_FLIGHT_PER_CALLER", "2")])
        .run(async |app| {
            let (acme, other) = (app.sign_up().await, app.sign_up().await);
            let mut waiting = Vec::new();
            for _ in 0..2 {
                waiting.push(start_slow_upload(app, app.key(&acme.api_key), "/me/api-keys").await);
            }
            let rejected = start_slow_upload(app, app.key(&acme.api_key), "/me/api-keys").await;
            let rejected = rejected.response.await.unwrap().assert_error(429, "rate_limited");
            assert_eq!(rejected.header("retry-after"), "1");
            app.key(&acme.api_key).post("/me/api-keys", json!({})).await.assert_status(201);
            waiting.push(start_slow_upload(app, app.key(&other.api_key), "/me/api-keys").await);
            assert_eq!(app.app.in_flight.waiting(), 3);
        })
        .await;
}
