//! `/api/auth/api-key/…`: personal access tokens.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::requests::data_ids;
use crate::support::{TestApp, run, with_settings};

const CREATE: &str = "/api/auth/api-key/create";

fn request() -> Value {
    json!({ "name": "CI deploy bot", "scopes": ["user:read", "projects:read"] })
}

async fn create(app: &TestApp, account: &TestAccount, request: Value) -> TestResponse {
    app.session(&account.cookie).post(CREATE, request).await
}

#[tokio::test]
async fn a_token_is_shown_once_and_listed_without_its_text() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let mut request = request();
        request["expiresIn"] = json!(2_592_000);
        let created = create(app, &ann, request).await.assert_status(200);
        assert_eq!(created.body["message"], "API key created");
        let data = &created.body["data"];
        assert_eq!(data["expiresAt"], "2036-06-07T09:56:42.855Z");
        let (key, id) = (text(&data["key"]), text(&data["id"]));
        assert!(key.starts_with("tnt_pat_") && id.starts_with("key_"));

        app.key(&key).get("/api/user/me").await.assert_status(200);
        app.app.meter.flush().await.unwrap();
        let list = app.session(&ann.cookie).get("/api/auth/api-key/list").await.assert_status(200);
        assert!(!list.text.contains(&key));
        let listed = &list.body["data"][0];
        assert_eq!(listed["id"], id);
        assert_eq!(listed["start"], key[..12]);
        assert_eq!(listed["lastUsedAt"], crate::support::app::START_TIME);
        assert_eq!(listed["organizationId"], Value::Null);
        let path = format!("/api/auth/api-key/get?id={id}");
        let presented = app.session(&ann.cookie).get(&path).await.assert_status(200);
        assert_eq!(presented.body["data"], *listed);
    })
    .await;
}

#[tokio::test]
async fn tokens_are_listed_in_pages_and_by_name() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        for name in ["one", "two", "Three"] {
            app.clock.advance(TimeDelta::seconds(1));
            create(app, &ann, json!({ "name": name, "scopes": ["*"] })).await.assert_status(200);
        }
        let list = async |query: &str| {
            let path = format!("/api/auth/api-key/list?{query}");
            app.session(&ann.cookie).get(&path).await
        };
        let part = list("limit=2").await.assert_status(200);
        assert_eq!(
            part.body["meta"],
            json!({ "total": 3, "offset": 0, "limit": 2, "hasMore": true })
        );
        assert_eq!(part.body["data"][0]["name"], "Three");
        let rest = list("limit=2&offset=2").await.assert_status(200);
        assert_eq!(rest.body["meta"]["hasMore"], false);
        assert_eq!(rest.body["data"].as_array().unwrap().len(), 1);
        let rows = list("q=THREE").await.assert_status(200);
        assert_eq!(rows.body["meta"]["total"], 1);
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("offset=-1", "offset"),
            ("offset=x", "offset"),
        ] {
            let response = list(query).await.assert_error(400, "VALIDATION_ERROR");
            assert_eq!(response.invalid_fields(), [field], "{query}");
            assert_eq!(response.body["meta"]["errors"][0]["location"], "query");
        }
    })
    .await;
}

#[tokio::test]
async fn every_invalid_field_of_a_token_is_named() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let wrong = json!({
            "name": "", "expiresIn": 59, "scopes": [], "metadata": { "role": "owner" }, "role": "x",
        });
        let response = create(app, &ann, wrong).await.assert_error(400, "VALIDATION_ERROR");
        assert_eq!(response.invalid_fields(), ["name", "expiresIn", "scopes", "metadata", "role"]);
        for (field, value) in [
            ("name", json!("x".repeat(65))),
            ("expiresIn", json!(31_536_001)),
            ("expiresIn", json!("60")),
            ("scopes", json!(["trademarks:write"])),
            ("scopes", json!("*")),
            ("metadata", json!({ "organizationId": 7 })),
        ] {
            let mut request = request();
            request[field] = value;
            let response = create(app, &ann, request).await.assert_status(400);
            assert_eq!(response.invalid_fields(), [field]);
        }
        assert_eq!(app.count("select count(*) from personal_tokens").await, 0);
    })
    .await;
}

#[tokio::test]
async fn an_operator_can_require_tokens_to_expire() {
    with_settings(&[("PAT_MAX_DAYS", "30"), ("PAT_PREFIX", "acme_pat_")])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let response = create(app, &ann, request()).await.assert_status(400);
            assert_eq!(response.invalid_fields(), ["expiresIn"]);
            let mut request = request();
            request["expiresIn"] = json!(30 * 86_400 + 1);
            create(app, &ann, request.clone()).await.assert_status(400);
            request["expiresIn"] = json!(30 * 86_400);
            let created = create(app, &ann, request).await.assert_status(200);
            assert!(text(&created.body["data"]["key"]).starts_with("acme_pat_"));
        })
        .await;
}

#[tokio::test]
async fn tokens_cannot_create_or_manage_tokens() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (key, id) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        let token = app.key(&key);
        token.post(CREATE, request()).await.assert_error(403, "FORBIDDEN");
        token.get("/api/auth/api-key/list").await.assert_error(403, "FORBIDDEN");
        token.get("/api/auth/list-sessions").await.assert_error(403, "FORBIDDEN");
        for path in ["/api/auth/api-key/update", "/api/auth/api-key/delete"] {
            token.post(path, json!({ "keyId": id })).await.assert_error(403, "FORBIDDEN");
        }
        token.post("/api/auth/sign-out", json!({})).await.assert_error(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_token_change_or_revocation_applies_at_once() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let (key, id) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["usage:read"] })).await;
        let session = app.session(&ann.cookie);
        let me = app.key(&key).get("/api/user/me").await;
        let me = me.assert_error(403, "API_KEY_MISSING_SCOPES");
        assert_eq!(me.body["meta"]["missing_scopes"], json!(["user:read"]));
        let change = json!({ "keyId": id, "scopes": ["user:read"], "name": "renamed" });
        let changed = session.post("/api/auth/api-key/update", change).await.assert_status(200);
        assert_eq!(changed.body["data"]["name"], "renamed");
        app.key(&key).get("/api/user/me").await.assert_status(200);
        let nothing = session.post("/api/auth/api-key/update", json!({ "keyId": id })).await;
        nothing.assert_status(400);

        let end = async || session.post("/api/auth/api-key/delete", json!({ "keyId": id })).await;
        end().await.assert_status(200);
        app.key(&key).get("/api/user/me").await.assert_error(401, "INVALID_API_KEY");
        end().await.assert_error(404, "NOT_FOUND");
        let list = session.get("/api/auth/api-key/list").await.assert_status(200);
        assert_eq!(list.body["data"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn another_account_s_token_is_not_found() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        let (_, of_ben) =
            app.create_token(&ben.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        let session = app.session(&ann.cookie);
        for id in [of_ben.as_str(), "key_0000000000000000000000", "sess_1", "x"] {
            let path = format!("/api/auth/api-key/get?id={id}");
            session.get(&path).await.assert_error(404, "NOT_FOUND");
            let change = json!({ "keyId": id, "name": "mine" });
            session.post("/api/auth/api-key/update", change).await.assert_error(404, "NOT_FOUND");
            let end = session.post("/api/auth/api-key/delete", json!({ "keyId": id })).await;
            end.assert_error(404, "NOT_FOUND");
        }
        let missing = session.get("/api/auth/api-key/get").await.assert_status(400);
        assert_eq!(missing.invalid_fields(), ["id"]);
        assert_eq!(
            data_ids(&app.session(&ben.cookie).get("/api/auth/api-key/list").await.body),
            [of_ben]
        );
    })
    .await;
}

#[tokio::test]
async fn a_token_expires_at_its_expiry() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let token = json!({ "name": "ci", "scopes": ["*"], "expiresIn": 60 });
        let (key, _) = app.create_token(&ann.cookie, token).await;
        app.clock.advance(TimeDelta::seconds(30));
        app.key(&key).get("/api/user/me").await.assert_status(200);
        app.execute("update personal_tokens set expires_at = now()").await;
        app.key(&key).get("/api/user/me").await.assert_error(401, "INVALID_API_KEY");
    })
    .await;
}

#[tokio::test]
async fn a_token_can_be_pinned_only_to_an_organization_of_its_account() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        let pinned = |organization: &str| {
            json!({ "name": "ci", "scopes": ["*"],
                    "metadata": { "organizationId": organization } })
        };
        let foreign = create(app, &ann, pinned(&ben.org_id)).await.assert_error(403, "FORBIDDEN");
        let never = create(app, &ann, pinned("org_never")).await.assert_error(403, "FORBIDDEN");
        assert_eq!(foreign.text, never.text);
        for no_id in ["", "a\0b", "../x", "me", &"x".repeat(100)] {
            let response = create(app, &ann, pinned(no_id)).await.assert_error(403, "FORBIDDEN");
            assert_eq!(response.text, never.text, "{no_id:?}");
        }
        let (key, id) = app.create_token(&ann.cookie, pinned(&ann.org_id.to_uppercase())).await;
        let path = format!("/api/auth/api-key/get?id={id}");
        let presented = app.session(&ann.cookie).get(&path).await.assert_status(200);
        assert_eq!(presented.body["data"]["organizationId"], ann.org_id);
        // In its organization the token acts with its account's membership.
        let me = app.key(&key).get("/me").await.assert_status(200);
        assert_eq!(me.body["org_id"], ann.org_id);
        // The pin ends with the membership; the token does not become an unpinned one.
        app.execute("update users set removed_at = now() where account_id is not null").await;
        app.key(&key).get("/me").await.assert_error(403, "forbidden");
        let list = app.key(&key).get("/api/user/organizations").await.assert_status(200);
        assert_eq!(list.body["data"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_pin_that_ended_with_its_membership_stays_ended_after_the_account_rejoins() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let membership = app.invite_and_accept(&ann, &ben, "admin").await;
        let pinned = json!({ "name": "ci", "scopes": ["*"],
                             "metadata": { "organizationId": ann.org_id } });
        let (old, _) = app.create_token(&ben.cookie, pinned.clone()).await;
        app.key(&old).get(&format!("{path}/members")).await.assert_status(200);
        let remove = format!("{path}/members/{membership}");
        app.session(&ann.cookie).delete(&remove).await.assert_status(200);
        app.invite_and_accept(&ann, &ben, "admin").await;

        let (new, _) = app.create_token(&ben.cookie, pinned).await;
        app.key(&new).get(&format!("{path}/members")).await.assert_status(200);
        app.key(&old).get(&format!("{path}/members")).await.assert_error(403, "FORBIDDEN");
        app.key(&old).get("/me").await.assert_error(403, "forbidden");
        app.key(&old).post("/me/api-keys", json!({})).await.assert_error(403, "forbidden");
        let list = app.key(&old).get("/api/user/organizations").await.assert_status(200);
        assert_eq!(list.body["data"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_pinned_token_creates_keys_within_its_scopes_and_its_account_s_role() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let token = json!({
            "name": "ci", "scopes": ["api-keys:write", "usage:read"], "expiresIn": 3600,
            "metadata": { "organizationId": ann.org_id },
        });
        let (key, _) = app.create_token(&ann.cookie, token).await;
        let mint = async |scopes: Value, expires_at: Value| {
            let mut request = json!({ "scopes": scopes });
            if !expires_at.is_null() {
                request["expires_at"] = expires_at;
            }
            app.key(&key).post("/me/api-keys", request).await
        };
        let soon = json!("2036-05-08T10:00:00Z");
        mint(json!(["usage:read"]), soon.clone()).await.assert_status(201);
        mint(json!(["audit:read"]), soon.clone()).await.assert_error(403, "forbidden");
        mint(json!(["usage:read"]), Value::Null).await.assert_error(403, "forbidden");
        // Without a role that may create keys the token creates none, whatever its scopes.
        app.execute("update users set role = 'member'").await;
        let rejected = mint(json!(["usage:read"]), soon).await.assert_error(403, "forbidden");
        assert_eq!(rejected.body["details"]["required_role"], "admin");
        let session = app.session(&ann.cookie).post("/me/api-keys", json!({})).await;
        session.assert_error(403, "forbidden");
    })
    .await;
}

#[tokio::test]
async fn a_token_is_rehashed_under_the_newest_pepper() {
    let old = ("KEY_PEPPERS", "p1:YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=");
    with_settings(&[old])
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let (key, _) =
                app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
            let both = format!("p2:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=,{}", old.1);
            let replica = app.replica_with(&[("KEY_PEPPERS", &both)]);
            replica.key(&key).get("/api/user/me").await.assert_status(200);
            let anew = "select count(*) from personal_tokens where pepper_id = 'p2'";
            assert_eq!(app.count(anew).await, 1);
            replica.key(&key).get("/api/user/me").await.assert_status(200);
            replica.app.meter.flush().await.unwrap();
            replica.close();
        })
        .await;
}
