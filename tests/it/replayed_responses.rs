//! Who is given a stored response again, and what of it (contract §1, *Idempotency-Key*).

use serde_json::{Value, json};

use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::client::{TestClient, TestResponse};
use crate::support::{TestApp, run};

const KEYS: &str = "/v1/organization/api-keys";

fn with_idempotency_key(actor: &TestClient, name: &str) -> TestClient {
    actor.with("idempotency-key", name)
}

#[track_caller]
fn assert_replayed(answer: TestResponse) -> TestResponse {
    assert_eq!(answer.header("idempotent-replayed"), "true", "{}", answer.text);
    answer
}

/// A key of the organization with these scopes; its text and its id.
async fn create_key(app: &TestApp, by: &str, name: &str, scopes: Value) -> (String, String) {
    let request = json!({ "name": name, "scopes": scopes });
    let answer = app.key(by).post(KEYS, request).await.assert_status(201);
    (text(&answer.body["key"]), text(&answer.body["id"]))
}

#[tokio::test]
async fn a_replay_needs_the_scopes_that_the_request_needs_now() {
    run(async |app| {
        let acme = app.sign_up().await;
        let all = json!(["api-keys:write", "usage:read", "billing:read"]);
        let (ci, ci_id) = create_key(app, &acme.api_key, "ci", all).await;
        let (_, one) = create_key(app, &acme.api_key, "one", json!(["usage:read"])).await;
        let (_, two) = create_key(app, &acme.api_key, "two", json!(["usage:read"])).await;
        let (_, three) = create_key(app, &acme.api_key, "three", json!(["usage:read"])).await;
        let (_, changed) = create_key(app, &acme.api_key, "changed", json!(["usage:read"])).await;
        let (_, rotated) = create_key(app, &acme.api_key, "rotated", json!(["usage:read"])).await;
        let of_user = format!("/api/user/organizations/{}/api-keys", acme.org_id);
        let create = r#"{"name":"made","scopes":["usage:read"]}"#;
        let requests = [
            ("DELETE", format!("{KEYS}/{one}"), ""),
            ("DELETE", format!("/me/api-keys/{two}"), ""),
            ("DELETE", format!("{of_user}/{three}"), ""),
            ("POST", KEYS.to_owned(), create),
            ("PATCH", format!("{KEYS}/{changed}"), r#"{"enabled":false}"#),
            ("PUT", format!("{of_user}/{changed}"), r#"{"enabled":true}"#),
            ("POST", format!("{KEYS}/{rotated}/rotate"), r#"{"grace_period":60}"#),
        ];
        let send = async |number: usize, (method, path, body): &(&str, String, &'static str)| {
            let actor = with_idempotency_key(&app.key(&ci), &format!("request {number}"));
            let actor = actor.with("content-type", "application/json");
            actor.send(method, path, *body).await
        };
        for (number, request) in requests.iter().enumerate() {
            assert!(send(number, request).await.status.is_success(), "{request:?}");
            assert_replayed(send(number, request).await);
        }
        let narrow = async |scopes: Value| {
            let path = format!("{KEYS}/{ci_id}");
            app.key(&acme.api_key)
                .patch(&path, json!({ "scopes": scopes }))
                .await
                .assert_status(200);
        };
        // Without the scope of the route, and without that of the keys that are made and ended.
        for scopes in [json!(["usage:read"]), json!(["api-keys:write"])] {
            narrow(scopes).await;
            for (number, request) in requests.iter().enumerate() {
                let answer = send(number, request).await;
                assert_eq!(answer.status.as_u16(), 403, "{request:?} {}", answer.text);
                let missing = answer.text.contains("missing_scopes");
                assert!(missing, "{request:?} {}", answer.text);
            }
        }
        narrow(json!(["api-keys:write", "usage:read"])).await;
        for (number, request) in requests.iter().enumerate() {
            assert_replayed(send(number, request).await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_replay_with_another_credential_of_the_person_needs_that_one_s_scopes() {
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

/// Ben changes Ann's organization as an owner, and is made something less.
async fn give_role(app: &TestApp, ann: &TestAccount, seat: &str, role: &str) {
    let path = format!("/api/user/organizations/{}/members/{seat}/role", ann.org_id);
    app.session(&ann.cookie).put(&path, json!({ "role": role })).await.assert_status(200);
}

#[tokio::test]
async fn a_replay_needs_the_role_that_the_request_needs_now() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let cleo = app.verified_account("cleo@example.com").await;
        let dan = app.verified_account("dan@example.com").await;
        let seat = app.invite_and_accept(&ann, &ben, "owner").await;
        let cleos = app.invite_and_accept(&ann, &cleo, "member").await;
        let dans = app.invite_and_accept(&ann, &dan, "member").await;
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let requests = [
            ("PUT", format!("{path}/members/{cleos}/role"), r#"{"role":"owner"}"#, "admin"),
            (
                "POST",
                format!("{path}/invites"),
                r#"{"email":"e@example.com","role":"owner"}"#,
                "admin",
            ),
            ("DELETE", format!("{path}/members/{dans}"), "", "member"),
        ];
        for (number, (method, path, body, less)) in requests.iter().enumerate() {
            let actor =
                with_idempotency_key(&app.session(&ben.cookie), &format!("request {number}"));
            let actor = actor.with("content-type", "application/json");
            let send = async || actor.send(method, path, *body).await;
            assert!(send().await.status.is_success(), "{path}");
            assert_replayed(send().await);
            give_role(app, &ann, &seat, less).await;
            send().await.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            give_role(app, &ann, &seat, "owner").await;
            assert_replayed(send().await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_replay_of_a_new_default_key_needs_the_role_at_home_that_minting_needs() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "owner").await;
        let actor = with_idempotency_key(&app.session(&ann.cookie), "one");
        let regenerate = async || actor.post("/auth/api-key/regenerate", json!({})).await;
        regenerate().await.assert_status(200);
        assert_replayed(regenerate().await);
        let own = app.session(&ann.cookie);
        let membership = format!("/api/user/organizations/{}/my-membership", ann.org_id);
        let seat = text(&own.get(&membership).await.assert_status(200).body["data"]["id"]);
        let path = format!("/api/user/organizations/{}/members/{seat}/role", ann.org_id);
        let demoted = app.session(&ben.cookie).put(&path, json!({ "role": "member" })).await;
        demoted.assert_status(200);
        regenerate().await.assert_error(403, "AUTHORIZATION_ERROR");
    })
    .await;
}

#[tokio::test]
async fn a_replay_of_a_pinned_token_needs_the_membership_that_pinning_needs() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let seat = app.invite_and_accept(&ann, &ben, "member").await;
        let request = json!({ "name": "ci", "scopes": ["*"],
                              "metadata": { "organizationId": ann.org_id } });
        let actor = with_idempotency_key(&app.session(&ben.cookie), "one");
        let create = async || actor.post("/api/auth/api-key/create", request.clone()).await;
        create().await.assert_status(200);
        assert_replayed(create().await);
        let path = format!("/api/user/organizations/{}/members/{seat}", ann.org_id);
        app.session(&ann.cookie).delete(&path).await.assert_status(200);
        create().await.assert_error(403, "FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_replay_leaves_out_the_secret_and_nothing_that_only_has_its_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        let notes = json!({ "token": "a note", "key": "b note", "api_key": "c note",
                            "new_api_key": "d note", "team": "data" });
        let (_, id) = create_key(app, &acme.api_key, "ci", json!(["usage:read"])).await;
        let actor = with_idempotency_key(&app.key(&acme.api_key), "one");
        let path = format!("{KEYS}/{id}");
        let first = actor.patch(&path, json!({ "metadata": notes })).await.assert_status(200);
        assert_eq!(first.body["metadata"], notes);
        let second = assert_replayed(actor.patch(&path, json!({ "metadata": notes })).await);
        assert_eq!(second.body_without_request(), first.body_without_request());
        let rotate = format!("{path}/rotate");
        let first = actor.post(&rotate, json!({})).await.assert_status(200);
        let second = assert_replayed(actor.post(&rotate, json!({})).await);
        let mut expected = first.body_without_request();
        let secret = expected.as_object_mut().unwrap().remove("key");
        assert!(secret.is_some_and(|secret| secret.is_string()));
        assert_eq!(second.body_without_request(), expected);
        assert_eq!(second.body["metadata"], notes);
    })
    .await;
}
