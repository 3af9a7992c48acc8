//! `GET /v1/organization/audit-log`, and which events are recorded

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{create, create_named, path};
use crate::support::{TestApp, run};

async fn events(app: &TestApp, key: &str, query: &str) -> Vec<Value> {
    let path = format!("/v1/organization/audit-log?{query}");
    let body = app.key(key).get(&path).await.assert_status(200).body;
    body["data"].as_array().unwrap().clone()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event_type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_change_leaves_exactly_one_row_and_a_rejected_change_none() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        let client = app.key(&acme.api_key);
        client.patch(&path(&ci.key_id), json!({ "name": "cd" })).await.assert_status(200);
        client.patch(&path(&ci.key_id), json!({ "nom": "cd" })).await.assert_status(400);
        let rotate = format!("{}/rotate", path(&ci.key_id));
        let grace = json!({ "grace_period": 60 });
        client.post(&rotate, grace.clone()).await.assert_status(200);
        client.post(&rotate, grace).await.assert_status(409);
        client.delete(&path(&ci.key_id)).await.assert_status(200);
        client.delete(&path(&ci.key_id)).await.assert_status(200);
        let events = events(app, &acme.api_key, "").await;
        let expected = [
            "api_key.revoked",
            "api_key.rotated",
            "api_key.updated",
            "api_key.created",
            "organization.signed_up",
        ];
        assert_eq!(types(&events), expected);
        insta::assert_json_snapshot!(events[2]);
    })
    .await;
}

#[tokio::test]
async fn the_audit_log_is_filtered_by_type_and_time_and_read_in_pages() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.clock.advance(TimeDelta::seconds(1));
        create_named(app, &acme.api_key, "a").await;
        app.clock.advance(TimeDelta::seconds(1));
        create_named(app, &acme.api_key, "b").await;
        let created = events(app, &acme.api_key, "event_type=api_key.created").await;
        assert_eq!(created.len(), 2);
        let (second, third) = ("2036-05-08T09:56:43.855Z", "2036-05-08T09:56:44.855Z");
        let since = events(app, &acme.api_key, &format!("since={second}")).await;
        assert_eq!(since, created);
        let within = events(app, &acme.api_key, &format!("since={second}&until={third}")).await;
        assert_eq!(within, created[1..]);
        let page = app.key(&acme.api_key).get("/v1/organization/audit-log?limit=1").await;
        let cursor = page.body["pagination"]["cursor"].as_str().unwrap().to_owned();
        let next = events(app, &acme.api_key, &format!("limit=1&cursor={cursor}")).await;
        assert_eq!(next, created[1..]);
    })
    .await;
}

#[tokio::test]
async fn an_organization_reads_only_its_own_audit_log_and_needs_the_scope() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        create_named(app, &other.api_key, "theirs").await;
        assert_eq!(types(&events(app, &acme.api_key, "").await), ["organization.signed_up"]);
        let ci =
            create(app, &acme.api_key, json!({ "name": "ci", "scopes": ["usage:read"] })).await;
        let response = app.key(&ci.api_key).get("/v1/organization/audit-log").await;
        let response = response.assert_error(403, "forbidden");
        assert_eq!(response.error()["missing_scopes"], json!(["audit:read"]));
    })
    .await;
}

#[tokio::test]
async fn every_invalid_filter_is_rejected_by_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        let query = "event_type=never.was&since=yesterday&until=2036-05-08&limit=0";
        let path = format!("/v1/organization/audit-log?{query}");
        let response =
            app.key(&acme.api_key).get(&path).await.assert_error(400, "validation_error");
        assert_eq!(response.invalid_fields(), ["event_type", "since", "until", "limit"]);
    })
    .await;
}

#[tokio::test]
async fn a_rejected_known_key_is_recorded_once_however_often_it_is_presented() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        app.key(&acme.api_key).delete(&path(&ci.key_id)).await.assert_status(200);
        for _ in 0..50 {
            app.key(&ci.api_key).get("/me").await.assert_status(401);
        }
        app.app.rejections.flush().await.unwrap();
        app.app.rejections.flush().await.unwrap();
        let rejections = events(app, &acme.api_key, "event_type=api_key.refused").await;
        assert_eq!(rejections.len(), 1);
        assert_eq!(rejections[0]["detail"], json!({ "reason": "revoked", "count": 50 }));
        assert_eq!(rejections[0]["target"], ci.key_id);
        assert_eq!(rejections[0]["address"], "192.0.2.7");
    })
    .await;
}

#[tokio::test]
async fn an_event_contains_the_change_and_never_more_than_2_kib() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        let client = app.key(&acme.api_key);
        let change = async |change: Value| {
            client.patch(&path(&ci.key_id), change).await.assert_status(200);
            events(app, &acme.api_key, "limit=1").await[0]["detail"].clone()
        };
        let detail = change(json!({ "metadata": { "team": "ops" } })).await;
        let (none, one) = (json!({ "metadata": {} }), json!({ "metadata": { "team": "ops" } }));
        assert_eq!(detail, json!({ "before": none, "after": one }));
        let detail = change(json!({ "name": "cd", "metadata": { "team": "ops" } })).await;
        let (before, after) = (json!({ "name": "ci" }), json!({ "name": "cd" }));
        assert_eq!(detail, json!({ "before": before, "after": after }));
        // The largest settings, twice, so that the event has them before and after.
        for letter in ["x", "y"] {
            // The tests' own address is included, so that the key stays usable.
            let networks = (0..99).map(|number| format!("2001:db8:a{number:x}::/64"));
            let ips: Vec<String> = networks.chain(["192.0.2.0/24".to_owned()]).collect();
            let name = letter.repeat(255);
            let metadata = json!({ "large": letter.repeat(3_900), "team": null });
            change(json!({ "name": name, "metadata": metadata, "allowed_ips": ips })).await;
            let widen = json!({ "allowed_ips": [] });
            change(widen).await;
        }
        let largest = "select max(octet_length(detail::text)) from audit_events";
        let largest: i32 =
            sqlx::query_scalar(largest).fetch_one(&mut app.connect().await).await.unwrap();
        assert!((1_000..=2_300).contains(&largest), "{largest}");
    })
    .await;
}
