//! `GET /api/user/organizations/{organizationId}/audit-logs`

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{assert_readable_by_members_and_keys, organization_path};
use crate::support::accounts::PASSWORD;
use crate::support::requests::data_ids;
use crate::support::run;

const LOGS: &str = "/audit-logs";

#[tokio::test]
async fn the_audit_log_is_readable_by_authorized_roles_and_keys_only() {
    run(async |app| assert_readable_by_members_and_keys(app, LOGS, "audit:read", "admin").await)
        .await;
}

#[tokio::test]
async fn the_audit_log_is_filtered_by_type_and_time_and_read_in_pages() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        app.create_key(&ben, json!({ "name": "theirs", "scopes": ["*"] })).await;
        let mut created = Vec::new();
        for name in ["a", "b", "c"] {
            app.clock.advance(TimeDelta::seconds(1));
            created
                .push(app.create_key(&ann, json!({ "name": name, "scopes": ["*"] })).await.key_id);
        }
        created.reverse();
        let list = async |query: &str| {
            let path = format!("{}?{query}", organization_path(&ann.org_id, LOGS));
            app.session(&ann.cookie).get(&path).await.assert_status(200).body
        };
        let events = list("eventType=api_key.created").await;
        let targets: Vec<&Value> =
            events["data"].as_array().unwrap().iter().map(|event| &event["target"]).collect();
        assert_eq!(targets, created.iter().collect::<Vec<_>>());
        assert_eq!(events["meta"]["total"], 3);
        insta::assert_json_snapshot!(events["data"][0]);
        let events = data_ids(&events);

        // `since` is inclusive and `until` is exclusive.
        let (second, third) = ("2036-05-08T09:56:44.855Z", "2036-05-08T09:56:45.855Z");
        assert_eq!(data_ids(&list(&format!("since={second}")).await), events[..2]);
        assert_eq!(data_ids(&list(&format!("since={second}&until={third}")).await), events[1..2]);
        let until = list(&format!("until={second}&eventType=api_key.created")).await;
        assert_eq!(data_ids(&until), events[2..]);

        let part = list("eventType=api_key.created&limit=2").await;
        assert_eq!(data_ids(&part), events[..2]);
        let meta = json!({ "total": 3, "offset": 0, "limit": 2, "hasMore": true });
        assert_eq!(part["meta"], meta);
        let rows = list("q=KEY.Created&limit=2").await;
        assert_eq!(rows["meta"], meta);
        let rest = list("eventType=api_key.created&limit=2&offset=2").await;
        assert_eq!(data_ids(&rest), events[2..]);
        assert_eq!(rest["meta"]["hasMore"], false);
        assert_eq!(list("eventType=api_key.revoked").await["data"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn every_invalid_filter_is_rejected_by_name() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let query = "eventType=never.was&since=yesterday&until=2036-05-08&limit=101&offset=-1";
        let path = format!("{}?{query}", organization_path(&ann.org_id, LOGS));
        let response = app.session(&ann.cookie).get(&path).await;
        let response = response.assert_error(400, "VALIDATION_ERROR");
        assert_eq!(response.invalid_fields(), ["eventType", "since", "until", "offset", "limit"]);
        assert_eq!(response.body["meta"]["errors"][0]["location"], "query");
    })
    .await;
}

#[tokio::test]
async fn events_of_an_account_are_not_in_the_audit_log_of_an_organization_that_it_left() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "owner").await;
        let of_ann = app.session(&ann.cookie);
        let membership =
            of_ann.get(&organization_path(&ann.org_id, "/my-membership")).await.assert_status(200);
        let membership = membership.body["data"]["id"].as_str().unwrap().to_owned();
        let events = async || {
            let path = organization_path(&ann.org_id, "/audit-logs?limit=100");
            data_ids(&app.session(&ben.cookie).get(&path).await.assert_status(200).body)
        };
        // While Ann is a member, the log has the events of her account.
        let before = events().await.len();
        app.sign_in(&ann.email, PASSWORD).await.assert_status(200);
        assert_eq!(events().await.len(), before + 1);
        let one = organization_path(&ann.org_id, &format!("/members/{membership}"));
        app.session(&ben.cookie).delete(&one).await.assert_status(200);

        let before = events().await;
        app.sign_in(&ann.email, PASSWORD).await.assert_status(200);
        app.create_token(&ann.cookie, json!({ "name": "secret plans", "scopes": ["*"] })).await;
        of_ann.put("/api/user/me", json!({ "fullName": "Ann Other" })).await.assert_status(200);
        of_ann.post("/api/auth/revoke-other-sessions", json!({})).await.assert_status(200);
        let change = json!({ "currentPassword": PASSWORD, "newPassword": "another-passphrase" });
        of_ann.post("/api/auth/change-password", change).await.assert_status(200);
        assert_eq!(events().await, before);
        let elsewhere: Vec<String> = sqlx::query_scalar(
            "select e.event_type from audit_events e join organizations o
                    on o.id = e.organization_id where o.handle = 'system' and e.actor = $1
             order by e.id",
        )
        .bind(&ann.id)
        .fetch_all(&mut app.connect().await)
        .await
        .unwrap();
        let expected = [
            "session.created",
            "personal_token.created",
            "account.updated",
            "sessions.revoked",
            "account.password_changed",
            "session.created",
        ];
        assert_eq!(elsewhere, expected);

        // The same after the organization was deleted.
        app.session(&ben.cookie)
            .with("content-type", "application/json")
            .send(
                "DELETE",
                &organization_path(&ben.org_id, ""),
                json!({ "confirm": ben.org_id }).to_string(),
            )
            .await
            .assert_status(200);
        app.sign_in(&ben.email, PASSWORD).await.assert_status(200);
        let last = "select count(*) from audit_events e join organizations o
                           on o.id = e.organization_id where o.handle = 'system'
                      and e.id = (select max(id) from audit_events)";
        assert_eq!(app.count(last).await, 1);
    })
    .await;
}
