//! What a server with too much to do leaves undone, and in which order.

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

/// Fills places until those of this cost have none left.
fn fill(app: &TestApp, cost: Cost, held: &mut Vec<RequestPermit>) {
    while let Some(place) = app.app.in_flight.acquire(cost) {
        held.push(place);
    }
}

#[tokio::test]
async fn passwords_and_mails_are_shed_first_then_changes_then_reading_and_never_health() {
    with_settings(&[("MAX_IN_FLIGHT", "10")])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
            let shown = json!({ "email": "ann@example.com", "password": PASSWORD });
            let statuses = async || {
                let key = app.key(&key);
                let answers = [
                    app.anonymous().post("/auth/login", shown.clone()).await,
                    app.key("garbage").post("/me/api-keys", json!({})).await,
                    key.get("/v1/organization/usage").await,
                    key.get("/auth/verify").await,
                    app.anonymous().get("/health/live").await,
                    app.anonymous().get("/health/ready").await,
                ];
                for shed in answers.iter().filter(|it| it.status == 503) {
                    assert_eq!(shed.header("retry-after"), "1");
                }
                answers.map(|it| it.status.as_u16())
            };
            let mut held = Vec::new();
            assert_eq!(statuses().await, [200, 401, 200, 200, 200, 200]);
            for (cost, expected) in [
                (Cost::Hashing, [503, 401, 200, 200, 200, 200]),
                (Cost::Write, [503, 503, 200, 200, 200, 200]),
                (Cost::Read, [503, 503, 503, 200, 200, 200]),
                (Cost::Check, [503, 503, 503, 503, 200, 200]),
            ] {
                fill(app, cost, &mut held);
                assert_eq!(statuses().await, expected, "{cost:?}");
            }
            held.clear();
            assert_eq!(statuses().await, [200, 401, 200, 200, 200, 200]);
            assert_eq!(app.app.in_flight.running_total(), 0);
        })
        .await;
}

#[tokio::test]
async fn one_organization_takes_only_its_own_places_whichever_of_its_keys_it_uses() {
    with_settings(&[("MAX_IN_FLIGHT_PER_CALLER", "2")])
        .run(async |app| {
            let (acme, other) = (app.sign_up().await, app.sign_up().await);
            let second = app.mint(&acme.api_key, json!({})).await;
            let subject = app.subject_of(&acme.org_id).await;
            let held = [(); 2].map(|()| app.app.in_flight.acquire_for(subject));
            for (path, code) in [
                ("/me", "rate_limited"),
                ("/v1/organization/me", "rate_limited"),
                ("/api/user/organizations/x", "RATE_LIMIT_ERROR"),
            ] {
                for key in [&acme.api_key, &second.api_key] {
                    let refused = app.key(key).get(path).await.assert_error(429, code);
                    assert_eq!(refused.header("retry-after"), "1");
                }
            }
            app.key(&other.api_key).get("/me").await.assert_status(200);
            drop(held);
            app.key(&acme.api_key).get("/me").await.assert_status(200);
        })
        .await;
}

/// Sends the beginning of a body, and the rest of it once that is handed over.
struct SlowUpload {
    rest: UnboundedSender<Result<&'static str, String>>,
    answer: JoinHandle<TestResponse>,
}

/// Starts to send a body to a path, and waits until the server waits for the rest.
async fn start_slow_upload(app: &TestApp, actor: TestClient, path: &'static str) -> SlowUpload {
    let (rest, receiver) = unbounded_channel();
    rest.send(Ok("{")).unwrap();
    let body = Body::from_stream(UnboundedReceiverStream::new(receiver));
    let waiting = app.app.in_flight.arriving();
    let actor = actor.with("content-type", "application/json");
    let answer = tokio::spawn(async move { actor.send("POST", path, body).await });
    let is_seen = async || app.app.in_flight.arriving() != waiting || answer.is_finished();
    wait_until_async("the server waits for the rest of the body", is_seen).await;
    SlowUpload { rest, answer }
}

#[tokio::test]
async fn requests_whose_bodies_do_not_arrive_keep_nobody_else_from_theirs() {
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
            assert_eq!((app.app.in_flight.arriving(), app.app.in_flight.running_total()), (40, 0));
            app.sign_in(&ann.email, PASSWORD).await.assert_status(200);
            app.key(&acme.api_key).post("/me/api-keys", json!({})).await.assert_status(201);
            for slow in waiting {
                drop(slow.rest);
                let status = slow.answer.await.unwrap().status.as_u16();
                assert!([400, 401].contains(&status), "{status}");
            }
            assert_eq!((app.app.in_flight.arriving(), app.app.in_flight.running_total()), (0, 0));
        })
        .await;
}

#[tokio::test]
async fn a_request_takes_its_permit_when_its_body_is_whole() {
    with_settings(&[("MAX_IN_FLIGHT", "10")])
        .run(async |app| {
            let shed = start_slow_upload(app, app.anonymous(), "/signup").await;
            let served = start_slow_upload(app, app.anonymous(), "/signup").await;
            let mut held = Vec::new();
            fill(app, Cost::Check, &mut held);
            shed.rest.send(Ok("}")).unwrap();
            drop(shed.rest);
            shed.answer.await.unwrap().assert_error(503, "service_unavailable");
            held.clear();
            served.rest.send(Ok("}")).unwrap();
            drop(served.rest);
            served.answer.await.unwrap().assert_status(201);
        })
        .await;
}

#[tokio::test]
async fn of_one_caller_no_more_bodies_are_waited_for_than_it_has_places() {
    with_settings(&[("MAX_IN_FLIGHT_PER_CALLER", "2")])
        .run(async |app| {
            let (acme, other) = (app.sign_up().await, app.sign_up().await);
            let mut waiting = Vec::new();
            for _ in 0..2 {
                waiting.push(start_slow_upload(app, app.key(&acme.api_key), "/me/api-keys").await);
            }
            let refused = start_slow_upload(app, app.key(&acme.api_key), "/me/api-keys").await;
            let refused = refused.answer.await.unwrap().assert_error(429, "rate_limited");
            assert_eq!(refused.header("retry-after"), "1");
            app.key(&acme.api_key).post("/me/api-keys", json!({})).await.assert_status(201);
            waiting.push(start_slow_upload(app, app.key(&other.api_key), "/me/api-keys").await);
            assert_eq!(app.app.in_flight.arriving(), 3);
        })
        .await;
}
