//! `null` in requests (contract §1, *Bad input*): left out where something is created, its own
//! meaning where something is updated; and what does not expire is said not to.

use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::app::text;
use crate::support::run;

const KEYS: &str = "/v1/organization/api-keys";

#[tokio::test]
async fn null_for_an_optional_field_of_a_create_counts_as_left_out() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ann = app.verified_account("ann@example.com").await;
        let (key, session) = (app.key(&acme.api_key), app.session(&ann.cookie));
        let of_user = format!("/api/user/organizations/{}", ann.org_id);
        let request = json!({ "name": "a", "scopes": ["usage:read"], "expires_at": null,
                              "metadata": null, "allowed_ips": null });
        let made = key.post(KEYS, request).await.assert_status(201);
        assert_eq!(made.body["expires_at"], Value::Null);
        let id = text(&made.body["id"]);
        let shown = key.get(&format!("{KEYS}/{id}")).await.assert_status(200).body;
        assert_eq!((&shown["metadata"], &shown["allowed_ips"]), (&json!({}), &json!([])));
        key.post(&format!("{KEYS}/{id}/rotate"), json!({ "grace_period": null }))
            .await
            .assert_status(200);

        let request = json!({ "name": null, "scopes": null, "expires_at": null });
        key.post("/me/api-keys", request).await.assert_status(201);
        let request = json!({ "org_id": null, "name": null });
        app.anonymous().post("/signup", request).await.assert_status(201);

        let request = json!({ "name": "b", "scopes": ["usage:read"], "expiresAt": null,
                              "metadata": null, "allowedIps": null });
        let made = session.post(&format!("{of_user}/api-keys"), request).await.assert_status(201);
        let rotate = format!("{of_user}/api-keys/{}/rotate", text(&made.body["data"]["id"]));
        session.post(&rotate, json!({ "gracePeriod": null })).await.assert_status(200);
        for metadata in [Value::Null, json!({ "organizationId": null })] {
            let request = json!({ "name": "c", "scopes": ["user:read"], "expiresIn": null,
                                  "metadata": metadata });
            session.post("/api/auth/api-key/create", request).await.assert_status(200);
        }
        let request = json!({ "name": "one", "slug": null, "description": null });
        session.post(&format!("{of_user}/projects"), request).await.assert_status(201);
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
async fn null_for_a_required_field_is_refused_by_its_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({ "name": null, "scopes": null });
        let answer = app.key(&acme.api_key).post(KEYS, request).await;
        assert_eq!(
            answer.assert_error(400, "validation_error").invalid_fields(),
            ["name", "scopes"]
        );
    })
    .await;
}

#[tokio::test]
async fn null_in_an_update_clears_what_can_be_cleared_and_is_refused_elsewhere() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ann = app.sign_up_account("ann@example.com").await;
        let (key, session) = (app.key(&acme.api_key), app.session(&ann.cookie));
        let brief = json!({ "name": "a", "scopes": ["usage:read"],
                            "expires_at": "2036-06-01T00:00:00Z" });
        let id = text(&key.post(KEYS, brief).await.assert_status(201).body["id"]);
        let path = format!("{KEYS}/{id}");
        let cleared = key.patch(&path, json!({ "expires_at": null })).await.assert_status(200);
        assert_eq!(cleared.body["expires_at"], Value::Null);
        let brief = json!({ "name": "b", "scopes": ["usage:read"] });
        let of_user = format!("/api/user/organizations/{}", ann.org_id);
        let keys = format!("{of_user}/api-keys");
        let made = session.post(&keys, brief).await.assert_status(201);
        let own = format!("{keys}/{}", text(&made.body["data"]["id"]));
        for field in ["name", "scopes", "metadata", "allowed_ips", "enabled"] {
            let answer = key.patch(&path, json!({ field: null })).await;
            assert_eq!(answer.assert_status(400).invalid_fields(), [field]);
        }
        for field in ["name", "scopes", "metadata", "allowedIps", "enabled"] {
            let answer = session.put(&own, json!({ field: null })).await;
            assert_eq!(answer.assert_status(400).invalid_fields(), [field]);
        }
        let (_, token) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["user:read"] })).await;
        for field in ["name", "scopes"] {
            let request = json!({ "keyId": token, field: null });
            let answer = session.post("/api/auth/api-key/update", request).await;
            assert_eq!(answer.assert_status(400).invalid_fields(), [field]);
        }
        for (path, field) in [
            ("/api/user/me".to_owned(), "fullName"),
            ("/api/user/me".to_owned(), "handle"),
            (of_user.clone(), "name"),
            (of_user, "allowedOrigins"),
        ] {
            let answer = session.put(&path, json!({ field: null })).await;
            assert_eq!(answer.assert_status(400).invalid_fields(), [field], "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_that_does_not_expire_is_said_not_to_in_the_response_and_in_the_audit_log() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ann = app.sign_up_account("ann@example.com").await;
        let (key, session) = (app.key(&acme.api_key), app.session(&ann.cookie));
        let of_user = format!("/api/user/organizations/{}/api-keys", ann.org_id);
        let soon = json!("2036-06-01T00:00:00Z");
        for (number, (expiry, never)) in [(Value::Null, true), (soon, false)].iter().enumerate() {
            let request = |field: &str| {
                let name = format!("key {number}");
                json!({ "name": name, "scopes": ["usage:read"], field: expiry })
            };
            let made = key.post(KEYS, request("expires_at")).await.assert_status(201).body;
            assert_eq!(made["never_expires"], *never);
            let request_id = text(&made["id"]);
            assert_eq!(audit_details_of(app, &request_id).await["never_expires"], *never);

            let name = format!("mine {number}");
            let mine = json!({ "name": name, "scopes": ["usage:read"], "expires_at": expiry });
            let made = key.post("/me/api-keys", mine).await.assert_status(201).body;
            assert_eq!(made["never_expires"], *never);
            let id = text(&made["key"]["id"]);
            assert_eq!(audit_details_of(app, &id).await["never_expires"], *never);

            let made = session.post(&of_user, request("expiresAt")).await.assert_status(201).body;
            assert_eq!(made["data"]["neverExpires"], *never);
            let id = text(&made["data"]["id"]);
            assert_eq!(audit_details_of(app, &id).await["never_expires"], *never);

            let life = if *never { Value::Null } else { json!(3600) };
            let token = json!({ "name": "ci", "scopes": ["user:read"], "expiresIn": life });
            let made =
                session.post("/api/auth/api-key/create", token).await.assert_status(200).body;
            assert_eq!(made["data"]["neverExpires"], *never);
            let id = text(&made["data"]["id"]);
            assert_eq!(audit_details_of(app, &id).await["never_expires"], *never);
        }
    })
    .await;
}

/// What the audit log says of the creation of this key.
async fn audit_details_of(app: &crate::support::TestApp, id: &str) -> Value {
    sqlx::query_scalar("select detail from audit_events where target = $1 order by id limit 1")
        .bind(id)
        .fetch_one(&mut app.sql().await)
        .await
        .unwrap()
}
