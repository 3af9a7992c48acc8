//! Which callers get a stored response replayed, and what it contains.

use serde_json::{Value, json};

use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::client::{TestClient, TestResponse};
use crate::support::{TestApp, run};

const KEYS: &str = "/v1/organization/api-keys";

fn with_idempotency_key(client: &TestClient, name: &str) -> TestClient {
    client.with("idempotency-key", name)
}

#[track_caller]
fn assert_replayed(response: TestResponse) -> TestResponse {
    assert_eq!(response.header("idempotent-replayed"), "true", "{}", response.text);
    response
}

/// Creates a key of the organization with these scopes; returns its text and its id.
async fn create_key(app: &TestApp, by: &str, name: &str, scopes: Value) -> (String, String) {
    let request = json!({ "name": name, "scopes": scopes });
    let response = app.key(by).post(KEYS, request).await.assert_status(201);
    (text(&response.body["key"]), text(&response.body["id"]))
}

#[tokio::test]
async fn a_replay_requires_the_scopes_that_the_request_requires_now() {
    run(async |app| {
        let acme = app.sign_up().await;
        let all = json!(["api-keys:write", "usage:read", "billing:read"]);
        let (ci, ci_id) = create_key(app, &acme.api_key, "ci", all).await;
        let (_, one) = create_key(app, &acme.api_key, "one", json!(["usage:read"])).await;
        let (_, two) = create_key(app, &acme.api_key, "two", json!(["usage:read"])).await;
        let (_, three) = create_key(app, &acme.api_key, "three", json!(["usage:read"])).await;
        let (_, changed) = create_key(app, &acme.api_key, "changed", json!(["usage:read"])).await;
        let (_, rotated) = create_key(app, &acme.api_key, "rotated", json!(["usage:read"])).await;
        let user_keys = format!("/api/user/organizations/{}/api-keys", acme.org_id);
        let create = r#"{"name":"made","scopes":["usage:read"]}"#;
        let requests = [
            ("DELETE", format!("{KEYS}/{one}"), ""),
            ("DELETE", format!("/me/api-keys/{two}"), ""),
            ("DELETE", format!("{user_keys}/{three}"), ""),
            ("POST", KEYS.to_owned(), create),
            ("PATCH", format!("{KEYS}/{changed}"), r#"{"enabled":false}"#),
            ("PUT", format!("{user_keys}/{changed}"), r#"{"enabled":true}"#),
            ("POST", format!("{KEYS}/{rotated}/rotate"), r#"{"grace_period":60}"#),
        ];
        let send = async |number: usize, (method, path, body): &(&str, String, &'static str)| {
            let client = with_idempotency_key(&app.key(&ci), &format!("request {number}"));
            let client = client.with("content-type", "application/json");
            client.send(method, path, *body).await
        };
        for (number, request) in requests.iter().enumerate() {
            assert!(send(number, request).await.status.is_success(), "{request:?}");
            assert_replayed(send(number, request).await);
        }
        let set_scopes = async |scopes: Value| {
            let path = format!("{KEYS}/{ci_id}");
            app.key(&acme.api_key)
                .patch(&path, json!({ "scopes": scopes }))
                .await
                .assert_status(200);
        };
        // Without the route's scope, and without the scope of the created and revoked keys.
        for scopes in [json!(["usage:read"]), json!(["api-keys:write"])] {
            set_scopes(scopes).await;
            for (number, request) in requests.iter().enumerate() {
                let response = send(number, request).await;
                assert_eq!(response.status.as_u16(), 403, "{request:?} {}", response.text);
                let missing = response.text.contains("missing_scopes");
                assert!(missing, "{request:?} {}", response.text);
            }
        }
        set_scopes(json!(["api-keys:write", "usage:read"])).await;
        for (number, request) in requests.iter().enumerate() {
            assert_replayed(send(number, request).await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_replay_with_another_credential_of_the_account_requires_that_credential_s_scopes() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let key = app.create_key(&ann, json!({ "name": "a", "scopes": ["usage:read"] })).await;
        let path = format!("/api/user/organizations/{}/api-keys/{}", ann.org_id, key.key_id);
        let session = with_idempotency_key(&app.session(&ann.cookie), "one");
        session.delete(&path).await.assert_status(200);
        assert_replayed(session.delete(&path).await);
        let token = json!({ "name": "narrow", "scopes": ["organization:read"] });
        let (token, _) = app.create_token(&ann.cookie, token).await;
        with_idempotency_key(&app.key(&token), "one")
            .delete(&path)
            .await
            .assert_error(403, "forbidden");
    })
    .await;
}

/// Changes the role of a member of Ann's organization.
async fn give_role(app: &TestApp, ann: &TestAccount, membership_id: &str, role: &str) {
    let path = format!("/api/user/organizations/{}/members/{membership_id}/role", ann.org_id);
    app.session(&ann.cookie).put(&path, json!({ "role": role })).await.assert_status(200);
}

#[tokio::test]
async fn a_replay_requires_the_role_that_the_request_requires_now() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let cleo = app.verified_account("cleo@example.com").await;
        let dan = app.verified_account("dan@example.com").await;
        let membership_id = app.invite_and_accept(&ann, &ben, "owner").await;
        let cleo_id = app.invite_and_accept(&ann, &cleo, "member").await;
        let dan_id = app.invite_and_accept(&ann, &dan, "member").await;
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let requests = [
            ("PUT", format!("{path}/members/{cleo_id}/role"), r#"{"role":"owner"}"#, "admin"),
            (
                "POST",
                format!("{path}/invites"),
                r#"{"email":"e@example.com","role":"owner"}"#,
                "admin",
            ),
            ("DELETE", format!("{path}/members/{dan_id}"), "", "member"),
        ];
        for (number, (method, path, body, lower_role)) in requests.iter().enumerate() {
            let client =
                with_idempotency_key(&app.session(&ben.cookie), &format!("request {number}"));
            let client = client.with("content-type", "application/json");
            let send = async || client.send(method, path, *body).await;
            assert!(send().await.status.is_success(), "{path}");
            assert_replayed(send().await);
            give_role(app, &ann, &membership_id, lower_role).await;
            send().await.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            give_role(app, &ann, &membership_id, "owner").await;
            assert_replayed(send().await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_replay_of_a_new_default_key_requires_the_role_that_creation_requires() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "owner").await;
        let client = with_idempotency_key(&app.session(&ann.cookie), "one");
        let regenerate = async || client.post("/auth/api-key/regenerate", json!({})).await;
        regenerate().await.assert_status(200);
        assert_replayed(regenerate().await);
        let session = app.session(&ann.cookie);
        let membership = format!("/api/user/organizations/{}/my-membership", ann.org_id);
        let membership_id =
            text(&session.get(&membership).await.assert_status(200).body["data"]["id"]);
        let path = format!("/api/user/organizations/{}/members/{membership_id}/role", ann.org_id);
        let demoted = app.session(&ben.cookie).put(&path, json!({ "role": "member" })).await;
        demoted.assert_status(200);
        regenerate().await.assert_error(403, "AUTHORIZATION_ERROR");
    })
    .await;
}

#[tokio::test]
async fn a_replay_of_a_pinned_token_requires_the_membership_that_pinning_requires() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let membership_id = app.invite_and_accept(&ann, &ben, "member").await;
        let request = json!({ "name": "ci", "scopes": ["*"],
                              "metadata": { "organizationId": ann.org_id } });
        let client = with_idempotency_key(&app.session(&ben.cookie), "one");
        let create = async || client.post("/api/auth/api-key/create", request.clone()).await;
        create().await.assert_status(200);
        assert_replayed(create().await);
        let path = format!("/api/user/organizations/{}/members/{membership_id}", ann.org_id);
        app.session(&ann.cookie).delete(&path).await.assert_status(200);
        create().await.assert_error(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_replay_omits_the_secret_and_keeps_metadata_of_the_same_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        let notes = json!({ "token": "a note", "key": "b note", "api_key": "c note",
                            "new_api_key": "d note", "team": "data" });
        let (_, id) = create_key(app, &acme.api_key, "ci", json!(["usage:read"])).await;
        let client = with_idempotency_key(&app.key(&acme.api_key), "one");
        let path = format!("{KEYS}/{id}");
        let first = client.patch(&path, json!({ "metadata": notes })).await.assert_status(200);
        assert_eq!(first.body["metadata"], notes);
        let second = assert_replayed(client.patch(&path, json!({ "metadata": notes })).await);
        assert_eq!(second.body_without_request(), first.body_without_request());
        let rotate = format!("{path}/rotate");
        let first = client.post(&rotate, json!({})).await.assert_status(200);
        let second = assert_replayed(client.post(&rotate, json!({})).await);
        let mut expected = first.body_without_request();
        let secret = expected.as_object_mut().unwrap().remove("key");
        assert!(secret.is_some_and(|secret| secret.is_string()));
        assert_eq!(second.body_without_request(), expected);
        assert_eq!(second.body["metadata"], notes);
    })
    .await;
}
