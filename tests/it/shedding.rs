//! What a server with too much to do leaves undone, and in which order.

use serde_json::json;
use tenantry::app::in_flight::{Cost, Place};
use tenantry::model::limit::Subject;

use crate::support::people::PASSWORD;
use crate::support::{TestApp, with};

/// Fills places until those of this cost have none left.
fn fill(app: &TestApp, cost: Cost, held: &mut Vec<Place>) {
    while let Some(place) = app.app.in_flight.enter(cost) {
        held.push(place);
    }
}

#[tokio::test]
async fn passwords_and_mails_are_shed_first_then_changes_then_reading_and_never_health() {
    with(&[("MAX_IN_FLIGHT", "10")])
        .run(async |app| {
            let ann = app.sign_up_person("ann@example.com").await;
            let key = app.make_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
            let shown = json!({ "email": "ann@example.com", "password": PASSWORD });
            let statuses = async || {
                let key = app.key(&key);
                let answers = [
                    app.anon().post("/auth/login", shown.clone()).await,
                    app.key("garbage").post("/me/api-keys", json!({})).await,
                    key.get("/v1/organization/usage").await,
                    key.get("/auth/verify").await,
                    app.anon().get("/health/live").await,
                    app.anon().get("/health/ready").await,
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
            assert_eq!(app.app.in_flight.now(), 0);
        })
        .await;
}

#[tokio::test]
async fn one_key_takes_only_its_own_places() {
    with(&[("MAX_IN_FLIGHT_PER_CALLER", "2")])
        .run(async |app| {
            let (acme, other) = (app.sign_up().await, app.sign_up().await);
            let id = tenantry::model::ids::KeyId::parse(&acme.key_id).unwrap();
            let subject = Subject::id(id.uuid());
            let held = [(); 2].map(|()| app.app.in_flight.enter_as(subject));
            for (path, code) in [
                ("/me", "rate_limited"),
                ("/v1/organization/me", "rate_limited"),
                ("/api/user/organizations/x", "RATE_LIMIT_ERROR"),
            ] {
                let refused = app.key(&acme.api_key).get(path).await.has_failed(429, code);
                assert_eq!(refused.header("retry-after"), "1");
            }
            app.key(&other.api_key).get("/me").await.has_status(200);
            drop(held);
            app.key(&acme.api_key).get("/me").await.has_status(200);
        })
        .await;
}
