//! `POST /v1/admin/org/{id}/force-rotate` and `/force-revoke`

use serde_json::json;

use super::send_confirmed;
use crate::support::app::text;
use crate::support::run;

#[tokio::test]
async fn rotating_ends_every_key_permanently_and_returns_one_with_every_scope() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let ci = app.create_key_with(&acme.api_key, json!({ "name": "ci" })).await;
        let (access, refresh) = app.exchange(&ci.api_key).await;
        let rotate = async || {
            send_confirmed(app, "ORG_FORCE_ROTATE", &acme.org_id, "force-rotate", "evt_1").await
        };
        let rotated = rotate().await.assert_status(200);
        assert_eq!(rotated.body["rotated"], true);
        assert_eq!(rotated.body["org_id"], acme.org_id);
        for dead in [&acme.api_key, &ci.api_key, &access] {
            app.bearer(dead).get("/me").await.assert_error(401, "unauthorized");
        }
        let request = json!({ "refresh_token": refresh });
        app.anonymous().post("/auth/refresh", request).await.assert_error(401, "unauthorized");
        let new = text(&rotated.body["new_api_key"]);
        let me = app.key(&new).get("/me").await.assert_status(200);
        assert_eq!(me.body["user_id"], acme.user_id);
        assert_eq!(me.body["api_keys"][0]["scopes"], json!(["*"]));
        app.key(&other.api_key).get("/me").await.assert_status(200);
        let again = rotate().await.assert_status(200);
        assert_eq!(again.header("idempotent-replayed"), "true");
        assert!(again.body.get("new_api_key").is_none());
        assert_eq!(again.body["prefix"], rotated.body["prefix"]);
        app.key(&new).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn revoking_ends_every_key_and_members_can_create_new_ones() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let key = app.create_key(&ann, json!({ "name": "ci", "scopes": ["*"] })).await;
        let response =
            send_confirmed(app, "ORG_FORCE_REVOKE", &ann.org_id, "force-revoke", "evt_1").await;
        let response = response.assert_status(200);
        assert_eq!(response.body["revoked"], true);
        assert_eq!(response.body["revoked_at"], response.body["timestamp"]);
        app.key(&key.api_key).get("/me").await.assert_error(401, "unauthorized");
        app.create_key(&ann, json!({ "name": "ci", "scopes": ["*"] })).await;
    })
    .await;
}

#[tokio::test]
async fn a_forced_revocation_ends_every_key_that_a_concurrent_request_created_before_it() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let parent = app.create_key(&ann, json!({ "name": "parent", "scopes": ["*"] })).await;
        let path = format!("/api/user/organizations/{}/api-keys", ann.org_id);
        let mint = |number: usize| {
            let client = if number.is_multiple_of(2) {
                app.session(&ann.cookie)
            } else {
                app.key(&parent.api_key)
            };
            let request = json!({ "name": format!("key {number}"), "scopes": ["*"] });
            let path = path.clone();
            async move { client.post(&path, request).await }
        };
        let revoke = async {
            let response =
                send_confirmed(app, "ORG_FORCE_REVOKE", &ann.org_id, "force-revoke", "evt_1").await;
            response.assert_status(200);
        };
        let minted = futures_util::future::join_all((0..20).map(mint));
        let (minted, ()) = tokio::join!(minted, revoke);
        for response in minted {
            let Some(key) = response.body["data"]["key"].as_str() else { continue };
            // Every key created before the revocation was revoked by it.
            let id = response.body["data"]["id"].as_str().unwrap();
            let before: bool = sqlx::query_scalar(
                "select min(case when event_type = 'api_key.created' then id end)
                        < min(case when event_type = 'api_keys.force_revoked' then id end)
                 from audit_events where target = $1 or event_type = 'api_keys.force_revoked'",
            )
            .bind(id)
            .fetch_one(&mut app.connect().await)
            .await
            .unwrap();
            let status = app.key(key).get("/me").await.status.as_u16();
            assert_eq!(status, if before { 401 } else { 200 }, "{id}");
        }
    })
    .await;
}

/// A rotation locks only its key, and its successor is visible only after the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_forced_change_during_a_rotation_ends_the_key_and_its_successor() {
    for (scope, what, live) in
        [("ORG_FORCE_ROTATE", "force-rotate", 1), ("ORG_FORCE_REVOKE", "force-revoke", 0)]
    {
        run(async |app| {
            let acme = app.sign_up().await;
            let mut rotating = app.connect().await;
            for step in [
                "begin",
                "update api_keys set expires_at = now(), superseded_at = now(), name_held = false",
                "insert into api_keys (id, organization_id, user_id, digest, pepper_id, prefix,
                                       display_id, name_held, scopes, created_at, rotated_from)
                 select gen_random_uuid(), organization_id, user_id, sha256('another'), pepper_id,
                        prefix, 'AAAAAAAA', false, scopes, now(), id from api_keys",
            ] {
                sqlx::query(step).execute(&mut rotating).await.unwrap();
            }
            let path = format!("/v1/admin/org/{}/{what}", acme.org_id);
            let request = json!({ "confirm_org_id": acme.org_id, "idempotency_key": "evt_1" });
            let operator = app.master_with_idempotency_key(scope, "evt_1");
            let forcing = tokio::spawn(async move { operator.post(&path, request).await });
            app.wait_for_lock_waiters(1).await;
            sqlx::query("commit").execute(&mut rotating).await.unwrap();
            forcing.await.unwrap().assert_status(200);
            let left = "select count(*) from api_keys where revoked_at is null";
            assert_eq!(app.count(left).await, live, "{what}");
            let successor = "select count(*) from api_keys
                             where display_id = 'AAAAAAAA' and revoked_at is not null";
            assert_eq!(app.count(successor).await, 1, "{what}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_confirmation_that_differs_changes_nothing() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        for (scope, what) in [
            ("ORG_FORCE_ROTATE", "force-rotate"),
            ("ORG_FORCE_REVOKE", "force-revoke"),
            ("ORG_SUSPEND", "suspend"),
            ("ORG_SUSPEND", "reactivate"),
        ] {
            let path = format!("/v1/admin/org/{}/{what}", acme.org_id);
            let operator = app.master_with_idempotency_key(scope, "evt_1");
            let request = json!({ "confirm_org_id": other.org_id, "idempotency_key": "evt_2" });
            let response =
                operator.post(&path, request).await.assert_error(422, "validation_error");
            assert_eq!(response.invalid_fields(), ["confirm_org_id", "idempotency_key"]);
            let response =
                operator.post(&path, json!({})).await.assert_error(422, "validation_error");
            assert_eq!(response.invalid_fields(), ["confirm_org_id", "idempotency_key"]);
        }
        for key in [&acme.api_key, &other.api_key] {
            app.key(key).get("/me").await.assert_status(200);
        }
    })
    .await;
}

#[tokio::test]
async fn an_unknown_organization_is_a_404() {
    run(async |app| {
        let gone = app.sign_up_account("ann@example.com").await;
        let delete = format!("/api/user/organizations/{}", gone.org_id);
        let json = app.session(&gone.cookie).with("content-type", "application/json");
        let confirm = json!({ "confirm": gone.org_id }).to_string();
        json.send("DELETE", &delete, confirm).await.assert_status(200);
        for id in ["org_0000000000", "system", gone.org_id.as_str()] {
            for (scope, what) in [
                ("ORG_FORCE_ROTATE", "force-rotate"),
                ("ORG_FORCE_REVOKE", "force-revoke"),
                ("ORG_SUSPEND", "suspend"),
                ("ORG_SUSPEND", "reactivate"),
            ] {
                send_confirmed(app, scope, id, what, "evt_1").await.assert_error(404, "not_found");
            }
            let usage = format!("/v1/admin/org/{id}/usage");
            app.master("ORG_USAGE").get(&usage).await.assert_error(404, "not_found");
        }
        let usage = "/v1/admin/org/a%20b/usage";
        app.master("ORG_USAGE").get(usage).await.assert_error(404, "not_found");
    })
    .await;
}
