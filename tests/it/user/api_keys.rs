//! `/api/user/organizations/{organizationId}/api-keys`

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::{
    assert_readable_by_members_and_keys, demote_all, organization_path, shared_organization, token,
};
use crate::support::accounts::TestAccount;
use crate::support::client::{TestClient, TestResponse};
use crate::support::requests::data_ids;
use crate::support::{TestApp, run};

const KEYS: &str = "/api-keys";

fn keys(account: &TestAccount) -> String {
    organization_path(&account.org_id, KEYS)
}

fn key(account: &TestAccount, id: &str) -> String {
    format!("{}/{id}", keys(account))
}

/// Creates a key, then updates, rotates and revokes the key `id`. Returns the responses.
async fn try_all_changes(
    client: &TestClient,
    organization: &str,
    id: &str,
    name: &str,
) -> [TestResponse; 4] {
    let path = organization_path(organization, &format!("{KEYS}/{id}"));
    let request = json!({ "name": name, "scopes": ["usage:read"] });
    [
        client.post(&organization_path(organization, KEYS), request).await,
        client.put(&path, json!({ "metadata": { "team": "data" } })).await,
        client.post(&format!("{path}/rotate"), json!({})).await,
        client.delete(&path).await,
    ]
}

/// Creates a key with one scope, and returns its id.
async fn create_restricted_key(app: &TestApp, account: &TestAccount, name: &str) -> String {
    app.create_key(account, json!({ "name": name, "scopes": ["usage:read"] })).await.key_id
}

#[tokio::test]
async fn only_authorized_roles_and_keys_can_list_keys() {
    run(async |app| assert_readable_by_members_and_keys(app, KEYS, "api-keys:read", "admin").await)
        .await;
}

#[tokio::test]
async fn only_authorized_roles_and_keys_can_change_keys() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let host = shared_organization(app).await;
        let scopes = json!(["api-keys:write", "usage:read"]);
        let own = app.create_key(&ann, json!({ "name": "own", "scopes": scopes })).await;
        let (own_token, _) = app.exchange(&own.api_key).await;
        let authorized = [
            app.session(&ann.cookie),
            app.bearer(&ann.token),
            app.key(&token(app, &ann, scopes.clone(), None).await),
            app.key(&token(app, &ann, scopes.clone(), Some(&ann.org_id)).await),
            app.key(&own.api_key),
            app.bearer(&own_token),
        ];
        for (number, client) in authorized.iter().enumerate() {
            let id = create_restricted_key(app, &ann, &format!("old {number}")).await;
            let responses =
                try_all_changes(client, &ann.org_id, &id, &format!("new {number}")).await;
            let statuses = responses.map(|response| response.status.as_u16());
            assert_eq!(statuses, [201, 200, 200, 200], "{number}");
        }

        let id = create_restricted_key(app, &ann, "kept").await;
        let stranger = app.sign_up().await;
        let elsewhere = app.key(&token(app, &ann, json!(["*"]), Some(&host.org_id)).await);
        for client in [elsewhere, app.key(&stranger.api_key)] {
            for response in try_all_changes(&client, &ann.org_id, &id, "kept").await {
                response.assert_error(403, "FORBIDDEN");
            }
        }
        for client in &authorized {
            let foreign = try_all_changes(client, &stranger.org_id, &stranger.key_id, "kept").await;
            let missing = try_all_changes(client, "org_never", &id, "kept").await;
            for (foreign, missing) in foreign.into_iter().zip(missing) {
                let foreign = foreign.assert_error(403, "FORBIDDEN");
                assert_eq!(foreign.text, missing.assert_error(403, "FORBIDDEN").text);
            }
        }

        let narrow = json!(["api-keys:read", "usage:read"]);
        let other = app.create_key(&ann, json!({ "name": "other", "scopes": narrow })).await;
        for narrow in [other.api_key, token(app, &ann, narrow, None).await] {
            for response in try_all_changes(&app.key(&narrow), &ann.org_id, &id, "kept").await {
                let response = response.assert_error(403, "API_KEY_MISSING_SCOPES");
                assert_eq!(response.body["meta"]["missing_scopes"], json!(["api-keys:write"]));
            }
        }

        demote_all(app).await;
        for client in &authorized[..4] {
            for response in try_all_changes(client, &ann.org_id, &id, "kept").await {
                let response = response.assert_error(403, "INSUFFICIENT_PERMISSIONS");
                assert_eq!(response.body["meta"]["required_role"], "admin");
            }
        }
        let unchanged = "select count(*) from api_keys
                    where name = 'kept' and enabled and metadata = '{}' and revoked_at is null
                      and superseded_at is null";
        assert_eq!(app.count(unchanged).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_created_key_has_the_requested_settings_and_works_in_every_family() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let request = json!({
            "name": "Analytics Dashboard",
            "scopes": ["*"],
            "expiresAt": "2036-06-01T00:00:00Z",
            "metadata": { "team": "data" },
            // The tests' requests come from 192.0.2.7.
            "allowedIps": ["192.0.2.0/24", "2001:db8::/32"],
        });
        let created = app.session(&ann.cookie).post(&keys(&ann), request).await.assert_status(201);
        insta::assert_json_snapshot!(created.body);
        let data = &created.body["data"];
        assert_eq!(data["organizationId"], ann.org_id);
        let (text, id) = (data["key"].as_str().unwrap(), data["id"].as_str().unwrap());
        assert_eq!(data["start"], text[.."tnt_live_".len() + 4]);

        let client = app.key(text);
        assert_eq!(client.get("/me").await.assert_status(200).body["org_id"], ann.org_id);
        let me = client.get("/v1/organization/me").await.assert_status(200);
        assert_eq!(me.body["api_key"]["id"], id);
        let details =
            client.get(&format!("/v1/organization/api-keys/{id}")).await.assert_status(200);
        assert_eq!(details.body["metadata"], json!({ "team": "data" }));
        assert_eq!(details.body["allowed_ips"], json!(["192.0.2.0/24", "2001:db8::/32"]));
        app.app.meter.flush().await.unwrap();
        let list = client.get(&keys(&ann)).await.assert_status(200);
        assert!(!list.text.contains(text));
        let mut listed = data.clone();
        for creation_only_field in ["key", "neverExpires"] {
            listed.as_object_mut().unwrap().remove(creation_only_field);
        }
        listed["lastUsedAt"] = json!(crate::support::app::START_TIME);
        assert_eq!(list.body["data"], json!([listed]));

        let request = json!({ "name": "there", "scopes": ["*"], "allowedIps": ["203.0.113.0/24"] });
        let other_network = app.create_key(&ann, request).await;
        app.key(&other_network.api_key).get(&keys(&ann)).await.assert_error(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_key_or_token_creates_keys_only_within_its_scopes_and_expiry_but_a_session_any_key() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let request = json!({
            "name": "own", "scopes": ["api-keys:manage", "usage:read"],
            "expiresAt": "2036-06-01T00:00:00Z",
        });
        let own = app.create_key(&ann, request).await;
        let token = json!({
            "name": "ci", "scopes": ["api-keys:manage", "usage:read"], "expiresIn": 3600,
        });
        let (token, _) = app.create_token(&ann.cookie, token).await;
        let all = app.create_key(&ann, json!({ "name": "all", "scopes": ["*"] })).await;
        for (number, credential) in [&own.api_key, &token].into_iter().enumerate() {
            let post = async |scope: &str, expires_at: Value| {
                let mut request = json!({ "name": format!("key {number}"), "scopes": [scope] });
                if !expires_at.is_null() {
                    request["expiresAt"] = expires_at;
                }
                app.key(credential).post(&keys(&ann), request).await
            };
            let soon = json!("2036-05-08T10:00:00Z");
            let wider = post("audit:read", soon.clone()).await;
            let wider = wider.assert_error(403, "API_KEY_MISSING_SCOPES");
            assert_eq!(wider.body["meta"]["missing_scopes"], json!(["audit:read"]));
            post("usage:read", Value::Null).await.assert_error(403, "FORBIDDEN");
            post("usage:read", json!("2036-06-01T00:00:01Z")).await.assert_error(403, "FORBIDDEN");
            post("usage:read", soon).await.assert_status(201);
            // It cannot change a key with more scopes, either.
            let [_, change, rotate, revoke] =
                try_all_changes(&app.key(credential), &ann.org_id, &all.key_id, "x").await;
            for response in [change, rotate, revoke] {
                response.assert_error(403, "API_KEY_MISSING_SCOPES");
            }
        }
        let session = app.session(&ann.cookie);
        for (number, scopes) in [json!(["*"]), json!(["trademarks:read"])].iter().enumerate() {
            let any = json!({ "name": format!("any {number}"), "scopes": scopes });
            session.post(&keys(&ann), any).await.assert_status(201);
        }
    })
    .await;
}

#[tokio::test]
async fn every_invalid_field_of_a_key_is_named() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let id = create_restricted_key(app, &ann, "ci").await;
        let session = app.session(&ann.cookie);
        let wrong = json!({
            "name": "", "scopes": [], "expiresAt": "2020-01-01T00:00:00Z", "metadata": 1,
            "allowedIps": ["everywhere"], "expires_at": "2036-06-01T00:00:00Z",
        });
        let response = session.post(&keys(&ann), wrong).await.assert_error(400, "VALIDATION_ERROR");
        let expected = ["name", "scopes", "metadata", "allowedIps", "expires_at", "expiresAt"];
        assert_eq!(response.invalid_fields(), expected);
        let empty = session.post(&keys(&ann), json!({})).await.assert_status(400);
        assert_eq!(empty.invalid_fields(), ["name", "scopes"]);

        let wrong = json!({
            "name": "", "scopes": [], "expiresAt": "soon", "metadata": { "a": 1 },
            "allowedIps": [1], "enabled": "yes", "key": "x",
        });
        let response =
            session.put(&key(&ann, &id), wrong).await.assert_error(400, "VALIDATION_ERROR");
        let expected = ["name", "scopes", "expiresAt", "metadata", "allowedIps", "enabled", "key"];
        assert_eq!(response.invalid_fields(), expected);
        session.put(&key(&ann, &id), json!({})).await.assert_error(400, "VALIDATION_ERROR");

        let rotate = format!("{}/rotate", key(&ann, &id));
        for grace in [json!(604_801), json!(-1), json!(1.5), json!("60")] {
            let response = session.post(&rotate, json!({ "gracePeriod": grace })).await;
            assert_eq!(response.assert_status(400).invalid_fields(), ["gracePeriod"]);
        }
        let reason = format!("{}?reason={}", key(&ann, &id), "x".repeat(257));
        let response = session.delete(&reason).await.assert_error(400, "VALIDATION_ERROR");
        assert_eq!(response.invalid_fields(), ["reason"]);
        let query = format!("{}?includeRevoked=1&limit=0&offset=x", keys(&ann));
        let response = session.get(&query).await.assert_error(400, "VALIDATION_ERROR");
        assert_eq!(response.invalid_fields(), ["offset", "limit", "includeRevoked"]);
        assert_eq!(app.count("select count(*) from api_keys where revoked_at is null").await, 1);
    })
    .await;
}

#[tokio::test]
async fn only_the_requested_settings_change() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let request = json!({
            "name": "ci", "scopes": ["usage:read"], "expiresAt": "2036-06-01T00:00:00Z",
            "metadata": { "team": "data", "owner": "ada" },
        });
        let ci = app.create_key(&ann, request).await;
        create_restricted_key(app, &ann, "taken").await;
        let change = async |changes: Value| {
            app.session(&ann.cookie).put(&key(&ann, &ci.key_id), changes).await
        };
        let changed = change(json!({
            "name": "cd", "scopes": ["api-keys:read"], "expiresAt": null,
            "metadata": { "team": "ops", "owner": null }, "allowedIps": ["192.0.2.7"],
        }));
        let changed = changed.await.assert_status(200);
        insta::assert_json_snapshot!(changed.body);
        app.key(&ci.api_key).get(&keys(&ann)).await.assert_status(200);
        change(json!({ "enabled": false })).await.assert_status(200);
        app.key(&ci.api_key).get(&keys(&ann)).await.assert_error(401, "INVALID_API_KEY");
        let enabled = change(json!({ "enabled": true })).await.assert_status(200);
        assert_eq!(enabled.body["data"]["name"], "cd");
        app.key(&ci.api_key).get(&keys(&ann)).await.assert_status(200);
        change(json!({ "name": "taken" })).await.assert_error(409, "CONFLICT");
        let updated = "select count(*) from api_keys where metadata = '{\"team\": \"ops\"}'";
        assert_eq!(app.count(updated).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_rotated_key_works_during_its_grace_period_and_cannot_be_rotated_again() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let old = app.create_key(&ann, json!({ "name": "ci", "scopes": ["api-keys:read"] })).await;
        let rotate = format!("{}/rotate", key(&ann, &old.key_id));
        let new = session.post(&rotate, json!({ "gracePeriod": 3600 })).await.assert_status(200);
        let data = &new.body["data"];
        assert_eq!(data["name"], "ci");
        assert_eq!(data["scopes"], json!(["api-keys:read"]));
        assert_ne!(data["id"], old.key_id);
        let text = data["key"].as_str().unwrap();
        for key in [text, &old.api_key] {
            app.key(key).get(&keys(&ann)).await.assert_status(200);
        }
        session.post(&rotate, json!({})).await.assert_error(409, "CONFLICT");
        // Without a grace period the old key is revoked immediately. The body is optional.
        let rotate = format!("{}/rotate", key(&ann, data["id"].as_str().unwrap()));
        session.send("POST", &rotate, "").await.assert_status(200);
        app.key(text).get(&keys(&ann)).await.assert_error(401, "INVALID_API_KEY");
        let listed = session.get(&format!("{}?q=ci", keys(&ann))).await.assert_status(200);
        assert_eq!(listed.body["meta"]["total"], 2);
    })
    .await;
}

#[tokio::test]
async fn a_revoked_key_stops_working_immediately_and_is_revoked_only_once() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let ci = app.create_key(&ann, json!({ "name": "ci", "scopes": ["*"] })).await;
        let path = key(&ann, &ci.key_id);
        let first = session.delete(&format!("{path}?reason=leaked")).await.assert_status(200);
        assert_eq!(first.body["data"], json!({ "success": true, "memberships": [] }));
        app.key(&ci.api_key).get("/me").await.assert_error(401, "unauthorized");
        assert_eq!(session.delete(&path).await.assert_status(200).text, first.text);
        session.put(&path, json!({ "enabled": true })).await.assert_error(409, "CONFLICT");
        session.post(&format!("{path}/rotate"), json!({})).await.assert_error(409, "CONFLICT");
        let events = "select count(*) from audit_events where event_type = 'api_key.revoked'
                    and detail->>'reason' = 'leaked' and actor like 'user\\_%'";
        assert_eq!(app.count(events).await, 1);
        let all = session.get(&format!("{}?includeRevoked=true", keys(&ann))).await;
        let all = all.assert_status(200);
        assert_eq!(all.body["data"][0]["revokedAt"], crate::support::app::START_TIME);
        assert_eq!(session.get(&keys(&ann)).await.assert_status(200).body["data"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn any_key_may_revoke_itself() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ci = app.create_key(&ann, json!({ "name": "ci", "scopes": ["usage:read"] })).await;
        let host = shared_organization(app).await;
        let client = app.key(&ci.api_key);
        client.delete(&key(&host, &ci.key_id)).await.assert_error(403, "FORBIDDEN");
        client.delete(&key(&ann, &ci.key_id)).await.assert_status(200);
        client.delete(&key(&ann, &ci.key_id)).await.assert_error(401, "INVALID_API_KEY");
    })
    .await;
}

#[tokio::test]
async fn another_organization_s_key_is_not_found() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let host = shared_organization(app).await;
        let foreign = create_restricted_key(app, &host, "theirs").await;
        let (_, token) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        let missing = "key_0000000000000000000000";
        let session = app.session(&ann.cookie);
        let errors = async |id: &str, name: &str| {
            let [_, change, rotate, revoke] =
                try_all_changes(&session, &ann.org_id, id, name).await;
            [change, rotate, revoke].map(|response| response.assert_error(404, "NOT_FOUND").text)
        };
        let expected = errors(missing, "never").await;
        for id in [&foreign, &token, "key_", "sess_1", "%00"] {
            assert_eq!(errors(id, &format!("beside {id}")).await, expected, "{id}");
        }
        let unchanged = "select count(*) from api_keys where name = 'theirs' and revoked_at is null
                    and superseded_at is null";
        assert_eq!(app.count(unchanged).await, 1);
    })
    .await;
}

#[tokio::test]
async fn keys_are_listed_newest_first_in_pages_and_filtered_by_name() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let host = shared_organization(app).await;
        create_restricted_key(app, &host, "theirs").await;
        let mut created = Vec::new();
        for name in ["one", "two", "Three"] {
            app.clock.advance(TimeDelta::seconds(1));
            created.push(create_restricted_key(app, &ann, name).await);
        }
        created.reverse();
        let list = async |query: &str| {
            let path = format!("{}?{query}", keys(&ann));
            app.session(&ann.cookie).get(&path).await.assert_status(200).body
        };
        let first_page = list("limit=2").await;
        assert_eq!(data_ids(&first_page), created[..2]);
        let meta = json!({ "total": 3, "offset": 0, "limit": 2, "hasMore": true });
        assert_eq!(first_page["meta"], meta);
        let second_page = list("limit=2&offset=2").await;
        assert_eq!(data_ids(&second_page), created[2..]);
        assert_eq!(second_page["meta"]["hasMore"], false);
        assert_eq!(data_ids(&list("q=THREE").await), created[..1]);
        // SQL wildcards are matched literally.
        assert_eq!(list("q=%25").await["meta"]["total"], 0);

        app.session(&ann.cookie).delete(&key(&ann, &created[0])).await.assert_status(200);
        app.execute("update api_keys set expires_at = now(), name = null where name = 'one'").await;
        assert_eq!(data_ids(&list("").await), created[1..2]);
        let all = list("includeRevoked=true").await;
        assert_eq!(data_ids(&all), created);
        assert_eq!(all["data"][2]["name"], Value::Null);
        assert_eq!(list("includeRevoked=true&q=o").await["meta"]["total"], 1);
    })
    .await;
}
