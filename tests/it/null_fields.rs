//! `null` in requests: in a create it counts as omitted, in an update it has its own
//! meaning. A key that does not expire has `never_expires`.

use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::app::text;
use crate::support::run;

const KEYS: &str = "/v1/organization/api-keys";

#[tokio::test]
async fn null_for_an_optional_field_of_a_create_counts_as_omitted() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ann = app.verified_account("ann@example.com").await;
        let (key, session) = (app.key(&acme.api_key), app.session(&ann.cookie));
        let org_path = format!("/api/user/organizations/{}", ann.org_id);
        let request = json!({ "name": "a", "scopes": ["usage:read"], "expires_at": null,
                              "metadata": null, "allowed_ips": null });
        let created = key.post(KEYS, request).await.assert_status(201);
        assert_eq!(created.body["expires_at"], Value::Null);
        let id = text(&created.body["id"]);
        let read = key.get(&format!("{KEYS}/{id}")).await.assert_status(200).body;
        assert_eq!((&read["metadata"], &read["allowed_ips"]), (&json!({}), &json!([])));
        key.post(&format!("{KEYS}/{id}/rotate"), json!({ "grace_period": null }))
            .await
            .assert_status(200);

        let request = json!({ "name": null, "scopes": null, "expires_at": null });
        key.post("/me/api-keys", request).await.assert_status(201);
        let request = json!({ "org_id": null, "name": null });
        app.anonymous().post("/signup", request).await.assert_status(201);

        let request = json!({ "name": "b", "scopes": ["usage:read"], "expiresAt": null,
                              "metadata": null, "allowedIps": null });
        let created =
            session.post(&format!("{org_path}/api-keys"), request).await.assert_status(201);
        let rotate = format!("{org_path}/api-keys/{}/rotate", text(&created.body["data"]["id"]));
        session.post(&rotate, json!({ "gracePeriod": null })).await.assert_status(200);
        for metadata in [Value::Null, json!({ "organizationId": null })] {
            let request = json!({ "name": "c", "scopes": ["user:read"], "expiresIn": null,
                                  "metadata": metadata });
            session.post("/api/auth/api-key/create", request).await.assert_status(200);
        }
        let request = json!({ "name": "one", "slug": null, "description": null });
        session.post(&format!("{org_path}/projects"), request).await.assert_status(201);
        let request = json!({ "name": "Another", "id": null });
        session.post("/api/user/organizations", request).await.assert_status(201);
        let request = json!({ "email": "ben@example.com", "password": PASSWORD, "name": "Ben",
                              "callbackURL": null });
        app.anonymous().post("/api/auth/sign-up/email", request).await.assert_status(200);
        let request = json!({ "email": "cleo@example.com", "password": PASSWORD, "name": null });
        app.anonymous().post("/auth/signup", request).await.assert_status(201);
        let request = json!({ "email": "ann@example.com", "password": PASSWORD,
                              "rememberMe": null, "callbackURL": null });
        app.anonymous().post("/api/auth/sign-in/email", request).await.assert_status(200);
        let request = json!({ "currentPassword": PASSWORD, "newPassword": "another-long-passphrase",
                              "revokeOtherSessions": null });
        session.post("/api/auth/change-password", request).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn null_for_a_required_field_is_rejected_by_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({ "name": null, "scopes": null });
        let response = app.key(&acme.api_key).post(KEYS, request).await;
        assert_eq!(
            response.assert_error(400, "validation_error").invalid_fields(),
            ["name", "scopes"]
        );
    })
    .await;
}

#[tokio::test]
async fn null_in_an_update_clears_an_expiry_and_is_rejected_for_other_fields() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ann = app.sign_up_account("ann@example.com").await;
        let (key, session) = (app.key(&acme.api_key), app.session(&ann.cookie));
        let request = json!({ "name": "a", "scopes": ["usage:read"],
                            "expires_at": "2036-06-01T00:00:00Z" });
        let id = text(&key.post(KEYS, request).await.assert_status(201).body["id"]);
        let path = format!("{KEYS}/{id}");
        let cleared = key.patch(&path, json!({ "expires_at": null })).await.assert_status(200);
        assert_eq!(cleared.body["expires_at"], Value::Null);
        let request = json!({ "name": "b", "scopes": ["usage:read"] });
        let org_path = format!("/api/user/organizations/{}", ann.org_id);
        let keys = format!("{org_path}/api-keys");
        let created = session.post(&keys, request).await.assert_status(201);
        let user_key = format!("{keys}/{}", text(&created.body["data"]["id"]));
        for field in ["name", "scopes", "metadata", "allowed_ips", "enabled"] {
            let response = key.patch(&path, json!({ field: null })).await;
            assert_eq!(response.assert_status(400).invalid_fields(), [field]);
        }
        for field in ["name", "scopes", "metadata", "allowedIps", "enabled"] {
            let response = session.put(&user_key, json!({ field: null })).await;
            assert_eq!(response.assert_status(400).invalid_fields(), [field]);
        }
        let (_, token) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["user:read"] })).await;
        for field in ["name", "scopes"] {
            let request = json!({ "keyId": token, field: null });
            let response = session.post("/api/auth/api-key/update", request).await;
            assert_eq!(response.assert_status(400).invalid_fields(), [field]);
        }
        for (path, field) in [
            ("/api/user/me".to_owned(), "fullName"),
            ("/api/user/me".to_owned(), "handle"),
            (org_path.clone(), "name"),
            (org_path, "allowedOrigins"),
        ] {
            let response = session.put(&path, json!({ field: null })).await;
            assert_eq!(response.assert_status(400).invalid_fields(), [field], "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn never_expires_is_in_the_response_and_in_the_audit_log() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ann = app.sign_up_account("ann@example.com").await;
        let (key, session) = (app.key(&acme.api_key), app.session(&ann.cookie));
        let user_keys = format!("/api/user/organizations/{}/api-keys", ann.org_id);
        let soon = json!("2036-06-01T00:00:00Z");
        for (number, (expiry, never)) in [(Value::Null, true), (soon, false)].iter().enumerate() {
            let request = |field: &str| {
                let name = format!("key {number}");
                json!({ "name": name, "scopes": ["usage:read"], field: expiry })
            };
            let created = key.post(KEYS, request("expires_at")).await.assert_status(201).body;
            assert_eq!(created["never_expires"], *never);
            let id = text(&created["id"]);
            assert_eq!(audit_details_of(app, &id).await["never_expires"], *never);

            let name = format!("mine {number}");
            let mine = json!({ "name": name, "scopes": ["usage:read"], "expires_at": expiry });
            let created = key.post("/me/api-keys", mine).await.assert_status(201).body;
            assert_eq!(created["never_expires"], *never);
            let id = text(&created["key"]["id"]);
            assert_eq!(audit_details_of(app, &id).await["never_expires"], *never);

            let created =
                session.post(&user_keys, request("expiresAt")).await.assert_status(201).body;
            assert_eq!(created["data"]["neverExpires"], *never);
            let id = text(&created["data"]["id"]);
            assert_eq!(audit_details_of(app, &id).await["never_expires"], *never);

            let life = if *never { Value::Null } else { json!(3600) };
            let token = json!({ "name": "ci", "scopes": ["user:read"], "expiresIn": life });
            let created =
                session.post("/api/auth/api-key/create", token).await.assert_status(200).body;
            assert_eq!(created["data"]["neverExpires"], *never);
            let id = text(&created["data"]["id"]);
            assert_eq!(audit_details_of(app, &id).await["never_expires"], *never);
        }
    })
    .await;
}

/// The details of the audit event of this key's creation.
async fn audit_details_of(app: &crate::support::TestApp, id: &str) -> Value {
    sqlx::query_scalar("select detail from audit_events where target = $1 order by id limit 1")
        .bind(id)
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap()
}
