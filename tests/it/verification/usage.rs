//! Usage by resource and tags, usage that is reported after the fact, and the export of both.

use serde_json::{Value, json};

use super::{code, verify};
use crate::support::client::TestResponse;
use crate::support::{TestApp, run, with_settings};

async fn report(app: &TestApp, events: Value) -> TestResponse {
    app.verifier().post("/v1/usage/events", json!({ "events": events })).await
}

/// An event in the hour of the test's clock.
fn event(id: &str, mut additions: Value) -> Value {
    let mut event =
        json!({ "id": id, "source": "jobs", "time": "2036-05-08T09:20:00Z", "units": 3 });
    event.as_object_mut().unwrap().append(additions.as_object_mut().unwrap());
    event
}

/// The exported usage of all organizations.
async fn export(app: &TestApp, query: &str) -> Vec<Value> {
    let response = app.verifier().get(&format!("/v1/usage/export{query}")).await;
    let response = response.assert_status(200);
    assert_eq!(response.header("content-type"), "application/x-ndjson");
    response.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn requests(app: &TestApp) -> i64 {
    app.count("select coalesce(sum(requests), 0)::bigint from usage_daily").await
}

#[tokio::test]
async fn checks_are_attributed_to_their_resource_and_tags_and_exported_as_cloud_events() {
    run(async |app| {
        let acme = app.sign_up().await;
        let key = app.create_key_with(&acme.api_key, json!({ "external_id": "cus_1" })).await;
        let docs = json!({ "resource": "GET /docs/{id}", "tags": ["team=ops", "region=eu"] });
        for additions in [docs.clone(), docs, json!({ "cost": 5 })] {
            assert_eq!(code(app, &key.api_key, additions).await, "valid");
        }
        let dry = json!({ "resource": "GET /dry", "dry_run": true });
        assert_eq!(code(app, &key.api_key, dry).await, "valid");
        let proxy = app.verifier().with("x-api-key", &key.api_key);
        proxy.get("/v1/verify/forward?resource=GET%20/x&cost=2").await.assert_status(200);
        let lines = export(app, "").await;
        let of_key = |line: &&Value| line["data"]["key_id"] == key.key_id.as_str();
        let sums: Vec<_> = lines
            .iter()
            .filter(of_key)
            .map(|it| {
                (
                    it["data"]["resource"].clone(),
                    it["data"]["tags"].clone(),
                    it["data"]["units"].clone(),
                )
            })
            .collect();
        assert_eq!(
            sums,
            [
                (json!(null), json!([]), json!(5)),
                (json!("GET /docs/{id}"), json!(["region=eu", "team=ops"]), json!(2)),
                (json!("GET /x"), json!([]), json!(2)),
            ]
        );
        let line = lines.iter().find(|line| of_key(line)).unwrap();
        assert_eq!(
            (&line["specversion"], &line["type"]),
            (&json!("1.0"), &json!("tenantry.usage.hour"))
        );
        assert_eq!(line["subject"], acme.org_id.as_str());
        assert_eq!(line["time"], "2036-05-08T09:00:00.000Z");
        assert_eq!(line["data"]["key_external_id"], "cus_1");
        let ids: std::collections::HashSet<_> = lines.iter().map(|it| it["id"].as_str()).collect();
        assert_eq!(ids.len(), lines.len());
        assert_eq!(export(app, "").await, lines, "an export changes nothing");
        assert_eq!(export(app, "?until=2036-05-08T09:00:00Z").await, [] as [Value; 0]);
        for query in ["?since=x", "?since=2036-05-09T00:00:00Z", "?other=1"] {
            app.verifier().get(&format!("/v1/usage/export{query}")).await.assert_status(400);
        }
    })
    .await;
}

#[tokio::test]
async fn an_export_continues_over_many_rows_without_gaps() {
    run(async |app| {
        app.sign_up().await;
        app.execute(
            "insert into usage_hourly (organization_id, hour, key_id, resource, tags, units)
             select id, '2036-05-08T08:00:00Z', gen_random_uuid(), number::text, '', 1
             from organizations, generate_series(1, 2500) as number where handle <> 'system'",
        )
        .await;
        let lines = export(app, "?until=2036-05-08T09:00:00Z").await;
        let ids: std::collections::HashSet<_> = lines.iter().map(|it| it["id"].as_str()).collect();
        assert_eq!((lines.len(), ids.len()), (2_500, 2_500));
    })
    .await;
}

#[tokio::test]
async fn an_organization_has_200_resources_a_day_and_all_further_ones_count_as_other() {
    run(async |app| {
        let acme = app.sign_up().await;
        let replica = app.replica();
        for number in 0..130 {
            for (server, name) in [(app, "a"), (&replica, "b")] {
                let resource = json!({ "resource": format!("GET /{name}/{number}") });
                assert_eq!(code(server, &acme.api_key, resource).await, "valid");
            }
        }
        let (one, other) = tokio::join!(app.app.meter.flush(), replica.app.meter.flush());
        one.and(other).unwrap();
        assert_eq!(app.count("select count(*) from usage_resources").await, 200);
        let other = "select sum(units)::bigint from usage_hourly where resource = 'other'";
        assert_eq!(app.count(other).await, 60);
        assert_eq!(app.count("select sum(units)::bigint from usage_hourly").await, 260);
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn a_reported_event_is_counted_once_on_any_server() {
    run(async |app| {
        let acme = app.sign_up().await;
        let replica = app.replica();
        let of_key = json!({ "key_id": acme.key_id, "resource": "POST /reports" });
        let of_organization = json!({ "organization_id": acme.org_id, "tags": ["job=nightly"] });
        let events =
            json!([event("1", of_key.clone()), event("1", of_key), event("2", of_organization)]);
        let (first, second) = tokio::join!(report(app, events.clone()), report(&replica, events));
        let bodies = [first, second].map(|it| it.assert_status(200).body);
        let sum = |name: &str| bodies.iter().map(|it| it[name].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("accepted"), sum("duplicates")), (2, 4), "{bodies:?}");
        assert_eq!(requests(app).await, 6);
        let lines = export(app, "").await;
        let data: Vec<_> = lines.iter().map(|line| &line["data"]).collect();
        assert_eq!(data.len(), 2, "{lines:?}");
        assert_eq!((&data[0]["key_id"], &data[0]["tags"]), (&json!(null), &json!(["job=nightly"])));
        assert_eq!((&data[1]["resource"], &data[1]["units"]), (&json!("POST /reports"), &json!(3)));
        // Usage without a key is not listed for one.
        let usage = app.key(&acme.api_key).get("/v1/organization/usage").await.assert_status(200);
        assert!(!usage.body.to_string().contains("key_0000"), "{}", usage.body);
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn events_that_cannot_be_counted_are_rejected_with_a_code_and_the_others_are_counted() {
    run(async |app| {
        let acme = app.sign_up().await;
        let key = |additions: Value| {
            let mut owner = json!({ "key_id": acme.key_id });
            owner.as_object_mut().unwrap().extend(additions.as_object().unwrap().clone());
            owner
        };
        let events = json!([
            event("0", key(json!({ "time": "2036-05-08T12:00:00Z" }))),
            event("1", key(json!({ "time": "2036-05-01T09:00:00Z" }))),
            event("2", json!({ "key_id": "key_0000000000000000000001" })),
            event("3", json!({ "organization_id": "org_nobody" })),
            event("4", key(json!({ "organization_id": acme.org_id }))),
            event("5", json!({})),
            event("6", key(json!({ "units": 1_000_000 }))),
        ]);
        let receipt = report(app, events).await.assert_status(200).body;
        assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(1), &json!(0)));
        let codes = [
            "time_in_future",
            "time_too_old",
            "key_unknown",
            "organization_unknown",
            "both_ids",
            "id_missing",
        ];
        let rejected: Vec<_> = codes
            .iter()
            .enumerate()
            .map(|(index, code)| json!({ "index": index, "code": code }))
            .collect();
        assert_eq!(receipt["rejected"], json!(rejected));
        assert_eq!(requests(app).await, 1_000_000);
    })
    .await;
}

#[tokio::test]
async fn a_report_with_an_invalid_event_names_every_problem_and_counts_nothing() {
    run(async |app| {
        let acme = app.sign_up().await;
        let valid = event("1", json!({ "key_id": acme.key_id }));
        let invalid = json!({ "id": "", "source": 1, "time": "today", "units": 0, "more": 1,
                              "resource": "", "tags": ["x"] });
        let rejected = report(app, json!([valid, invalid])).await.assert_status(400);
        let issues = rejected.body["error"]["issues"].as_array().unwrap();
        assert_eq!(issues.len(), 7, "{issues:?}");
        for events in [json!([]), json!({}), json!(vec![event("1", json!({})); 1001])] {
            report(app, events).await.assert_status(400);
        }
        let long = "x".repeat(1024 * 1024);
        report(app, json!([event(&long, json!({}))])).await.assert_status(413);
        assert_eq!(requests(app).await, 0);
        app.anonymous().post("/v1/usage/events", json!({ "events": [] })).await.assert_status(401);
        app.anonymous().get("/v1/usage/export").await.assert_status(401);
    })
    .await;
}

#[tokio::test]
async fn reported_usage_counts_against_the_monthly_quota() {
    with_settings(&[("PLANS", r#"{"trial":{"requests_per_month":100}}"#)])
        .run(async |app| {
            let acme = app.sign_up().await;
            let event = event("1", json!({ "organization_id": acme.org_id, "units": 100 }));
            report(app, json!([event])).await.assert_status(200);
            let verdict = verify(app, &acme.api_key, json!({})).await;
            assert_eq!(verdict["code"], "quota_exceeded");
        })
        .await;
}
