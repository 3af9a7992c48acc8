//! `GET /v1/admin/audit-log` and `/export`

use serde_json::{Value, json};

use crate::support::run;

#[tokio::test]
async fn the_audit_log_lists_each_change_in_the_admin_api_s_format() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.create_key_with(&acme.api_key, json!({ "name": "ci" })).await;
        let audit = app.key(&acme.api_key).get("/v1/admin/audit-log").await.assert_status(200);
        insta::assert_json_snapshot!(audit.body);
        assert_eq!(audit.body["events"][0]["api_key_prefix"], acme.api_key[9..17]);
    })
    .await;
}

#[tokio::test]
async fn events_are_filtered_by_type_and_by_time_with_since_inclusive_and_until_exclusive() {
    run(async |app| {
        let acme = app.sign_up().await;
        let key = app.key(&acme.api_key);
        let start = "2036-05-08T09:56:42.855Z"; // The start of the test clock.
        app.clock.advance(chrono::TimeDelta::seconds(60));
        app.create_key_with(&acme.api_key, json!({ "name": "ci" })).await;
        let later = "2036-05-08T09:57:42.855Z";
        let count = async |query: &str| {
            let response =
                key.get(&format!("/v1/admin/audit-log?{query}")).await.assert_status(200);
            let count = response.body["count"].as_u64().unwrap();
            assert_eq!(response.body["events"].as_array().unwrap().len() as u64, count);
            count
        };
        assert_eq!(count("").await, 2);
        assert_eq!(count("event_type=api_key.created").await, 1);
        assert_eq!(count("event_type=api_key.revoked").await, 0);
        assert_eq!(count(&format!("since={later}")).await, 1);
        assert_eq!(count(&format!("until={later}")).await, 1);
        assert_eq!(count(&format!("since={start}&until={later}")).await, 1);
        assert_eq!(count(&format!("since={later}&until={later}")).await, 0);
        assert_eq!(count("limit=1").await, 1);
        let echoed = key.get(&format!("/v1/admin/audit-log?since={start}&limit=500")).await;
        let filters = json!({ "event_type": null, "since": start, "until": null, "limit": 500 });
        assert_eq!(echoed.assert_status(200).body["filters"], filters);
        let wrong = "limit=501&since=yesterday&event_type=a%20b";
        let wrong = key.get(&format!("/v1/admin/audit-log?{wrong}")).await;
        let wrong = wrong.assert_error(422, "validation_error");
        assert_eq!(wrong.invalid_fields(), ["event_type", "since", "limit"]);
        key.get("/v1/admin/audit-log?limit=0").await.assert_status(422);
    })
    .await;
}

#[tokio::test]
async fn an_unknown_event_type_is_rejected_with_the_list_of_known_ones() {
    run(async |app| {
        let acme = app.sign_up().await;
        let key = app.key(&acme.api_key);
        for path in ["/v1/admin/audit-log", "/v1/admin/audit-log/export"] {
            let response = key.get(&format!("{path}?event_type=score.created")).await;
            let response = response.assert_error(422, "validation_error");
            assert_eq!(response.error()["field"], "event_type");
            let allowed = response.error()["allowed_values"].as_array().unwrap();
            for word in ["api_key.created", "AUTH_FAIL_MASTER_KEY", "session.created"] {
                assert!(allowed.contains(&json!(word)), "{allowed:?}");
                key.get(&format!("{path}?event_type={word}")).await.assert_status(200);
            }
            // A repeated filter is invalid as well.
            let twice = format!("{path}?event_type=api_key.created&event_type=api_key.created");
            key.get(&twice).await.assert_error(422, "validation_error");
        }
    })
    .await;
}

#[tokio::test]
async fn the_fields_of_every_event_have_the_types_that_the_published_client_parses() {
    run(async |app| {
        let acme = app.sign_up().await;
        let command =
            "insert into audit_events (organization_id, event_type, actor, target, method,
                           path, request_id, detail, created_at)
                       select id, 'organization.plan_changed', 'a', 'b', '-', 'org plan',
                              'req_0000000000000000', '{\"to\": \"pro\"}', now()
                       from organizations where handle <> 'system'";
        app.execute(command).await;
        let log = app.key(&acme.api_key).get("/v1/admin/audit-log").await.assert_status(200);
        let events = log.body["events"].as_array().unwrap();
        assert_eq!(events.len(), 2);
        for event in events {
            assert!(event["api_key_prefix"].is_string(), "{event}");
            assert!(event["status"].is_u64(), "{event}");
            let detail: Value = serde_json::from_str(event["detail"].as_str().unwrap()).unwrap();
            assert_eq!(detail, event["detail_object"]);
        }
        assert_eq!((&events[0]["api_key_prefix"], &events[0]["status"]), (&json!(""), &json!(0)));
        assert_eq!(events[0]["detail_object"], json!({ "to": "pro" }));
    })
    .await;
}

#[tokio::test]
async fn the_audit_log_requires_its_scope_and_returns_one_organization_s_events_only() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let small = app.create_key_with(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
        for path in ["/v1/admin/audit-log", "/v1/admin/audit-log/export"] {
            let response = app.key(&small.api_key).get(path).await.assert_status(403);
            assert_eq!(response.body["error"]["code"], "FORBIDDEN");
            assert_eq!(response.body["error"]["missing_scopes"], json!(["audit:read"]));
            let presented = app.key(&other.api_key).get(path).await.assert_status(200);
            assert!(
                !presented.text.contains(&acme.org_id) && !presented.text.contains(&small.key_id)
            );
        }
    })
    .await;
}

#[tokio::test]
async fn an_export_is_the_whole_audit_log_with_one_event_per_line_newest_first() {
    run(async |app| {
        let acme = app.sign_up().await;
        // More than one batch, and not a whole number of batches.
        let many = "insert into audit_events (organization_id, event_type, actor, target, method,
                        path, request_id, detail, created_at)
                    select id, 'project.created', 'a', 'b', 'GET', '/', 'req_0000000000000000',
                           jsonb_build_object('number', n), now()
                    from organizations, generate_series(1, 1234) n where handle <> 'system'";
        app.execute(many).await;
        let key = app.key(&acme.api_key);
        let all = key.get("/v1/admin/audit-log/export").await.assert_status(200);
        assert_eq!(all.header("content-type"), "application/x-ndjson");
        let lines: Vec<Value> =
            all.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1_235);
        assert!(lines.is_sorted_by_key(|line| -line["id"].as_i64().unwrap()));
        assert_eq!(lines[0]["detail_object"]["number"], 1234);
        assert!(lines.iter().all(|line| line["detail"].is_string()));
        let some = key.get("/v1/admin/audit-log/export?event_type=project.created").await;
        assert_eq!(some.assert_status(200).text.lines().count(), 1_234);
        let none = key.get("/v1/admin/audit-log/export?until=2000-01-01T00:00:00Z").await;
        assert_eq!(none.assert_status(200).text, "");
        let wrong = key.get("/v1/admin/audit-log/export?since=x").await;
        wrong.assert_error(422, "validation_error");
    })
    .await;
}
