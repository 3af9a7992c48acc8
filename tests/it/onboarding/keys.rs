//! `/me/api-keys`

use chrono::TimeDelta;
use serde_json::{Value, json};
use tenantry::domain::keys::{KeySpec, create};
use tenantry::model::caller::{Caller, CredentialStatus};

use crate::support::app::CreatedKey;
use crate::support::{TestApp, run};

async fn listed(app: &TestApp, key: &str, query: &str) -> Vec<Value> {
    let response = app.key(key).get(&format!("/me/api-keys{query}")).await.assert_status(200);
    response.body.as_array().unwrap().clone()
}

async fn revoke(app: &TestApp, key: &str, id: &str, status: u16) {
    app.key(key).delete(&format!("/me/api-keys/{id}")).await.assert_status(status);
}

/// A key of the same organization that expires in an hour.
async fn expiring(app: &TestApp, acme: &CreatedKey) -> CreatedKey {
    app.create_key_with(&acme.api_key, json!({ "expires_at": "2036-05-08T11:00:00Z" })).await
}

#[tokio::test]
async fn the_list_contains_live_keys_and_on_request_the_others_too() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.clock.advance(TimeDelta::seconds(1));
        let gone = app.create_key_with(&acme.api_key, json!({ "name": "gone" })).await;
        app.clock.advance(TimeDelta::seconds(1));
        let over = app.create_key_with(&acme.api_key, json!({ "name": "over" })).await;
        revoke(app, &acme.api_key, &gone.key_id, 204).await;
        app.execute("update api_keys set expires_at = now() where name = 'over'").await;

        let live = listed(app, &acme.api_key, "").await;
        assert_eq!(live.len(), 1);
        assert_eq!(live[0]["is_active"], true);
        assert_eq!(listed(app, &acme.api_key, "?include_revoked=false").await, live);

        let all = listed(app, &acme.api_key, "?include_revoked=true").await;
        let ids: Vec<_> = all.iter().map(|key| &key["id"]).collect();
        assert_eq!(ids, [&over.key_id, &gone.key_id, &acme.key_id]);
        assert_eq!(all[1]["revoked_at"], "2036-05-08T09:56:44.855Z");
        assert_eq!(all[0]["is_active"], false);
    })
    .await;
}

#[tokio::test]
async fn a_parameter_that_is_not_a_boolean_is_rejected_by_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        for query in ["include_revoked=maybe", "include_revoked=true&include_revoked=false"] {
            let response = app.key(&acme.api_key).get(&format!("/me/api-keys?{query}")).await;
            let response = response.assert_error(422, "validation_error");
            assert_eq!(response.invalid_fields(), ["include_revoked"]);
        }
    })
    .await;
}

#[tokio::test]
async fn listing_requires_the_scope_and_the_rejection_names_it() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
        let response =
            app.key(&ci.api_key).get("/me/api-keys").await.assert_error(403, "forbidden");
        assert_eq!(response.body["details"]["missing_scopes"], json!(["api-keys:read"]));
    })
    .await;
}

#[tokio::test]
async fn a_created_key_works_and_has_the_requested_settings() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({
            "name": "ci", "scopes": ["api-keys:*", "trademarks:read"],
            "expires_at": "2036-06-01T02:00:00+02:00",
        });
        let response =
            app.key(&acme.api_key).post("/me/api-keys", request).await.assert_status(201);
        insta::assert_json_snapshot!(response.body);
        let ci = CreatedKey::from(&response.body);
        app.key(&ci.api_key).get("/me/api-keys").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_key_created_without_settings_has_the_scopes_of_its_creator() {
    run(async |app| {
        let acme = app.sign_up().await;
        let part = json!({ "scopes": ["api-keys:write", "usage:read"] });
        let ci = app.create_key_with(&acme.api_key, part).await;
        let response =
            app.key(&ci.api_key).send("POST", "/me/api-keys", "").await.assert_status(201);
        assert_eq!(response.body["key"]["scopes"], json!(["api-keys:write", "usage:read"]));
        assert_eq!(response.body["key"]["name"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn creating_a_key_requires_the_scope() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({ "scopes": ["api-keys:read"] })).await;
        let response = app.key(&ci.api_key).post("/me/api-keys", json!({})).await;
        let response = response.assert_error(403, "forbidden");
        assert_eq!(response.body["details"]["missing_scopes"], json!(["api-keys:write"]));
    })
    .await;
}

#[tokio::test]
async fn a_key_creates_no_key_beyond_its_own_scopes() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({ "scopes": ["api-keys:manage"] })).await;
        for scopes in [json!(["*"]), json!(["api-keys:*"]), json!(["projects:read"])] {
            let response =
                app.key(&ci.api_key).post("/me/api-keys", json!({ "scopes": scopes })).await;
            let response = response.assert_error(403, "forbidden");
            assert_eq!(response.body["details"]["missing_scopes"], scopes);
        }
        app.create_key_with(&ci.api_key, json!({ "scopes": ["api-keys:write"] })).await;
    })
    .await;
}

#[tokio::test]
async fn a_key_creates_no_key_that_outlives_it() {
    run(async |app| {
        let acme = app.sign_up().await;
        let brief = expiring(app, &acme).await;
        for request in [json!({}), json!({ "expires_at": "2036-05-08T11:00:00.001Z" })] {
            let response = app.key(&brief.api_key).post("/me/api-keys", request).await;
            response.assert_error(403, "forbidden");
        }
        app.create_key_with(&brief.api_key, json!({ "expires_at": "2036-05-08T11:00:00Z" })).await;
    })
    .await;
}

#[tokio::test]
async fn a_name_is_unique_among_live_keys_and_available_again_after_its_key_has_ended() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let request = json!({ "name": "ci" });
        let first = app.create_key_with(&acme.api_key, request.clone()).await;
        let again = app.key(&acme.api_key).post("/me/api-keys", request.clone()).await;
        again.assert_error(409, "conflict");
        app.create_key_with(&other.api_key, request.clone()).await;

        revoke(app, &acme.api_key, &first.key_id, 204).await;
        app.create_key_with(&acme.api_key, request.clone()).await;
        app.execute("update api_keys set expires_at = now() where name = 'ci' and name_held").await;
        app.create_key_with(&acme.api_key, request).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_20_concurrent_requests_for_one_name_succeeds() {
    run(async |app| {
        let acme = app.sign_up().await;
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let client = app.key(&acme.api_key);
            attempts.spawn(async move {
                client.post("/me/api-keys", json!({ "name": "ci" })).await.status.as_u16()
            });
        }
        let mut statuses = attempts.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses[0], 201);
        assert!(statuses[1..].iter().all(|status| *status == 409), "{statuses:?}");
    })
    .await;
}

#[tokio::test]
async fn every_invalid_field_of_a_new_key_is_named_at_once() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({
            "name": "a\u{7}b",
            "scopes": ["usage:read", "no:such"],
            "expires_at": 1,
            "expires_ad": 1,
        });
        let response = app.key(&acme.api_key).post("/me/api-keys", request).await;
        let response = response.assert_error(422, "validation_error");
        assert_eq!(response.invalid_fields(), ["name", "scopes", "expires_at", "expires_ad"]);
        let events = response.body["details"]["issues"][1]["message"].as_str().unwrap();
        assert!(events.contains("trademarks:read") && events.contains("projects:*"), "{events}");
    })
    .await;
}

#[tokio::test]
async fn unknown_scopes_and_past_expiries_are_rejected() {
    run(async |app| {
        let acme = app.sign_up().await;
        let many: Vec<String> = (0..1000).map(|number| format!("a{number}:read")).collect();
        let wrong = [
            ("scopes", json!([])),
            ("scopes", json!("usage:read")),
            ("scopes", json!([1])),
            ("scopes", json!(["usage:read", "usage:read"])),
            ("scopes", json!(["USAGE:read"])),
            ("scopes", json!(many)),
            ("expires_at", json!("2036-05-08T09:56:42.855Z")),
            ("expires_at", json!("2020-01-01T00:00:00Z")),
            ("expires_at", json!("2037-01-01T00:00:00")),
            ("expires_at", json!("2037-01-01")),
            ("expires_at", json!("99999-01-01T00:00:00Z")),
            ("expires_at", json!("2036-06-30T23:59:60Z")),
            ("expires_at", json!("9999-12-31T23:59:59-12:00")),
            ("expires_at", json!("soon")),
            ("name", json!("x".repeat(65))),
            ("name", json!(["ci"])),
        ];
        for (field, value) in wrong {
            let response =
                app.key(&acme.api_key).post("/me/api-keys", json!({ field: value })).await;
            let response = response.assert_error(422, "validation_error");
            assert_eq!(response.invalid_fields(), [field], "{value}");
        }
        assert_eq!(app.count("select count(*) from api_keys").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_revoked_key_is_rejected_from_then_on() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({})).await;
        app.key(&ci.api_key).get("/me").await.assert_status(200);
        revoke(app, &acme.api_key, &ci.key_id, 204).await;
        app.key(&ci.api_key).get("/me").await.assert_error(401, "unauthorized");
        revoke(app, &acme.api_key, &ci.key_id, 204).await;
        let events = "select count(*) from audit_events where event_type = 'api_key.revoked'";
        assert_eq!(app.count(events).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_key_without_the_scope_may_revoke_itself_and_no_other() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({ "scopes": ["usage:read"] })).await;
        revoke(app, &ci.api_key, &acme.key_id, 403).await;
        revoke(app, &ci.api_key, &ci.key_id, 204).await;
        app.key(&ci.api_key).get("/me").await.assert_error(401, "unauthorized");
        app.key(&acme.api_key).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_key_revokes_nothing_beyond_its_own_scopes_or_expiry() {
    run(async |app| {
        let acme = app.sign_up().await;
        let manager =
            app.create_key_with(&acme.api_key, json!({ "scopes": ["api-keys:manage"] })).await;
        revoke(app, &manager.api_key, &acme.key_id, 403).await;
        let brief = expiring(app, &acme).await;
        revoke(app, &brief.api_key, &acme.key_id, 403).await;
        app.key(&acme.api_key).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn another_organization_s_key_is_not_found() {
    run(async |app| {
        let (acme, other) = (app.sign_up().await, app.sign_up().await);
        let client = app.key(&acme.api_key);
        let never = client.delete("/me/api-keys/key_0000000000000000000000").await;
        let never = never.assert_error(404, "not_found").body_without_request();
        let membership = acme.user_id.as_str();
        for id in
            [other.key_id.as_str(), membership, "key_", "sess_0000000000000000000000", "\0", "é"]
        {
            let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
            let response = client.delete(&format!("/me/api-keys/{id}")).await;
            assert_eq!(response.assert_error(404, "not_found").body_without_request(), never);
        }
        let unreadable = client.delete("/me/api-keys/%ff").await;
        unreadable.assert_error(404, "not_found");
        app.key(&other.api_key).get("/me").await.assert_status(200);
    })
    .await;
}

/// A credential may end between the guard's check and the creation of a key. Then the transaction
/// fails.
#[tokio::test]
async fn a_key_revoked_during_its_request_creates_no_key() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({})).await;
        let digests = app.app.peppers.candidates(&ci.api_key);
        let query = tenantry::app::credential_lookup::CredentialQuery::Key(digests);
        let Some(CredentialStatus::Valid(identity)) =
            app.app.credential_lookup.find(query).await.unwrap()
        else {
            panic!("a valid key has no identity")
        };
        let caller = identity.caller.unwrap();
        revoke(app, &acme.api_key, &ci.key_id, 204).await;
        let audit = tenantry::model::audit::AuditContext {
            method: "POST".to_owned(),
            path: "/me/api-keys".to_owned(),
            status: None,
            address: None,
            request_id: "req_0000000000000000".to_owned(),
            at: "2036-05-08T09:56:42.855Z".parse().unwrap(),
            signer: app.app.audit_signer.clone(),
        };
        let minted = app.app.db.transaction(async |tx| {
            let spec = |caller: &Caller| KeySpec::plain(None, caller.scopes.clone(), None);
            create(&app.app, tx, &caller, spec, &audit).await
        });
        let minted = minted.await;
        let Err(error) = minted else { panic!("a revoked key created a key") };
        assert_eq!(
            *error.kind(),
            tenantry::error::ErrorKind::Unauthenticated(tenantry::error::AuthFailure::InvalidKey)
        );
        assert_eq!(app.count("select count(*) from api_keys").await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_that_revoke_each_other_concurrently_get_a_response() {
    run(async |app| {
        let acme = app.sign_up().await;
        for _ in 0..10 {
            let (one, other) = (
                app.create_key_with(&acme.api_key, json!({})).await,
                app.create_key_with(&acme.api_key, json!({})).await,
            );
            let (first, second) = (app.key(&one.api_key), app.key(&other.api_key));
            let (first_path, second_path) =
                (format!("/me/api-keys/{}", other.key_id), format!("/me/api-keys/{}", one.key_id));
            let (a, b) = tokio::join!(first.delete(&first_path), second.delete(&second_path));
            for response in [a, b] {
                assert!([204, 401].contains(&response.status.as_u16()), "{}", response.text);
            }
        }
    })
    .await;
}
