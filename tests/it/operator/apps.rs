//! `/v1/admin/oauth/apps`

use serde_json::{Value, json};

use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::{TestApp, run};

const APPS: &str = "/v1/admin/oauth/apps";

async fn change(app: &TestApp, id: &str, what: &str, key: &str) -> TestResponse {
    let operator = app.master_with_idempotency_key("OAUTH_APPS", key);
    operator.post(&format!("{APPS}/{id}/{what}"), json!({})).await
}

/// Ann and ben, and an app of ann's that both granted access to, ben also for his own account.
async fn granted_app(app: &TestApp) -> (TestAccount, TestAccount, String) {
    let ann = app.sign_up_account("ann@example.com").await;
    let ben = app.sign_up_account("ben@example.com").await;
    let id = text(&app.create_app(&ann, "Reports").await["id"]);
    app.insert_grant((&ann, Some(&ann.org_id)), &id, &["projects:read"]).await;
    app.insert_grant((&ben, Some(&ben.org_id)), &id, &["projects:read"]).await;
    app.insert_grant((&ben, None), &id, &["user:read"]).await;
    (ann, ben, id)
}

fn client_ids(body: &Value) -> Vec<String> {
    let apps = body["apps"].as_array().expect("a list");
    apps.iter().map(|app| text(&app["client_id"])).collect()
}

#[tokio::test]
async fn the_operator_lists_the_apps_of_all_organizations_in_pages() {
    run(async |app| {
        let (ann, ben, id) = granted_app(app).await;
        let second = text(&app.create_app(&ann, "Second").await["id"]);
        let third = text(&app.create_app(&ben, "Third").await["id"]);
        let operator = app.master("OAUTH_APPS");
        let all = operator.get(APPS).await.assert_status(200).body;
        let mut ids = client_ids(&all);
        ids.sort();
        let mut expected = vec![id.clone(), second.clone(), third];
        expected.sort();
        assert_eq!(ids, expected);
        let first = all["apps"].as_array().unwrap().iter().find(|it| it["client_id"] == *id);
        let expected = json!({
            "client_id": id, "kind": "registered", "org_id": ann.org_id, "name": "Reports",
            "client_uri": null,
            "redirect_uris": ["https://reports.example.com/callback"], "application_type": "web",
            "token_endpoint_auth_method": "client_secret_basic",
            "scopes": ["projects:read", "projects:write", "offline_access"],
            "visibility": "private", "status": "active", "published_at": null,
            "disabled_at": null, "grants": 3, "created_at": "2036-05-08T09:56:42.855Z",
        });
        assert_eq!(*first.unwrap(), expected);
        let (mut paged, mut path) = (Vec::new(), format!("{APPS}?limit=2"));
        loop {
            let page = operator.get(&path).await.assert_status(200).body;
            paged.extend(client_ids(&page));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("{APPS}?limit=2&cursor={cursor}");
        }
        assert_eq!(paged, client_ids(&all));
        let of_ann = operator.get(&format!("{APPS}?org_id={}", ann.org_id)).await;
        assert_eq!(client_ids(&of_ann.assert_status(200).body).len(), 2);
        for wrong in ["limit=0", "limit=101", "cursor=x", "org_id=%20"] {
            operator.get(&format!("{APPS}?{wrong}")).await.assert_status(422);
        }
        app.master("ORG_SETTINGS").get(APPS).await.assert_error(401, "unauthorized");
    })
    .await;
}

#[tokio::test]
async fn a_published_app_is_public_and_verified() {
    run(async |app| {
        let (_, ben, id) = granted_app(app).await;
        let published = change(app, &id, "publish", "evt_1").await.assert_status(200).body;
        assert_eq!(published["visibility"], "public");
        assert_eq!(published["published_at"], "2036-05-08T09:56:42.855Z");
        assert_eq!((&published["grants"], &published["revoked_grants"]), (&json!(3), &json!(0)));
        let replayed = change(app, &id, "publish", "evt_1").await.assert_status(200);
        assert_eq!(replayed.header("idempotent-replayed"), "true");
        change(app, &id, "publish", "evt_2").await.assert_status(200);
        let events = "select count(*) from audit_events where event_type = 'app.published'
                      and actor = 'master:OAUTH_APPS'";
        assert_eq!(app.count(events).await, 1);
        let own = app.session(&ben.cookie).get("/api/user/authorized-apps").await;
        assert_eq!(own.body["data"][0]["client"]["verified"], true);
    })
    .await;
}

#[tokio::test]
async fn disabling_an_app_ends_all_its_grants_and_enabling_it_brings_none_back() {
    run(async |app| {
        let (ann, _, id) = granted_app(app).await;
        let kept = text(&app.create_app(&ann, "Kept").await["id"]);
        app.insert_grant((&ann, Some(&ann.org_id)), &kept, &["projects:read"]).await;
        let disabled = change(app, &id, "disable", "evt_1").await.assert_status(200).body;
        assert_eq!((&disabled["status"], &disabled["grants"]), (&json!("disabled"), &json!(0)));
        assert_eq!(disabled["revoked_grants"], 3);
        let live = "select count(*) from oauth_grants where revoked_at is null";
        assert_eq!(app.count(live).await, 1);
        let again = change(app, &id, "disable", "evt_2").await.assert_status(200).body;
        assert_eq!(again["revoked_grants"], 0);
        assert_eq!(again["disabled_at"], disabled["disabled_at"]);
        let path = format!("{}/{id}", crate::support::apps::apps_of(&ann));
        let shown = app.session(&ann.cookie).get(&path).await.assert_status(200);
        assert_eq!(shown.body["data"]["status"], "disabled");
        let enabled = change(app, &id, "enable", "evt_3").await.assert_status(200).body;
        assert_eq!((&enabled["status"], &enabled["grants"]), (&json!("active"), &json!(0)));
        change(app, &id, "enable", "evt_4").await.assert_status(200);
        let own = "select count(*) from audit_events
                   where event_type in ('app.disabled', 'app.enabled')";
        assert_eq!(app.count(own).await, 2);
        // One for each organization; ben's had two grants.
        let of_others = "select count(*) from audit_events
                         where event_type = 'app_grant.revoked'
                           and detail ->> 'reason' = 'app_disabled'";
        assert_eq!(app.count(of_others).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_change_of_an_app_requires_an_idempotency_key_the_right_master_key_and_a_known_app() {
    run(async |app| {
        let (.., id) = granted_app(app).await;
        for what in ["publish", "disable", "enable"] {
            let path = format!("{APPS}/{id}/{what}");
            let without = app.master("OAUTH_APPS").post(&path, json!({})).await;
            without.assert_status(400);
            let wrong = app.master_with_idempotency_key("ORG_SUSPEND", "evt_1");
            wrong.post(&path, json!({})).await.assert_error(401, "unauthorized");
            for unknown in ["app_0000000000000000000000", "x"] {
                let response = change(app, unknown, what, "evt_1").await;
                response.assert_error(404, "not_found");
            }
        }
        let unchanged = "select count(*) from oauth_clients
                         where disabled_at is null and visibility = 'private'";
        assert_eq!(app.count(unchanged).await, 1);
    })
    .await;
}
