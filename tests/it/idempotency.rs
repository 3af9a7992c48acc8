//! `Idempotency-Key` on every route that changes something.

use serde_json::{Value, json};

use tenantry::http::family::Family;

use crate::support::client::{TestClient, TestResponse};
use crate::support::requests::Fixtures;
use crate::support::spec::operations;
use crate::support::{TestApp, run, with_settings};

const KEYS: &str = "/v1/organization/api-keys";

fn request(name: &str) -> Value {
    json!({ "name": name, "scopes": ["usage:read"] })
}

/// A client with an API key that sends the same `Idempotency-Key` each time.
fn with_idempotency_key(app: &TestApp, api_key: &str, value: &str) -> TestClient {
    app.key(api_key).with("idempotency-key", value)
}

#[track_caller]
fn assert_replays(first: &TestResponse, second: &TestResponse) {
    assert_eq!(second.status, first.status);
    assert_eq!(second.header("idempotent-replayed"), "true");
    assert_eq!(first.header("idempotent-replayed"), "");
    let mut expected = first.body_without_request();
    remove_secrets(&mut expected);
    assert_eq!(second.body_without_request(), expected);
}

fn remove_secrets(body: &mut Value) {
    let Some(members) = body.as_object_mut() else { return };
    let secrets = ["api_key", "new_api_key", "key", "token", "clientSecret"];
    let is_secret = |name: &str| secrets.contains(&name);
    members.retain(|name, value| !(is_secret(name) && value.is_string()));
    members.values_mut().for_each(remove_secrets);
}

/// Operations that end the credential of their request, so that it cannot be repeated.
const REVOKES_ITS_CREDENTIAL: [&str; 6] =
    ["deleteOrganization", "deleteUser", "logOut", "revokeOwnKey", "rotateOwnKey", "signOut"];

#[tokio::test]
async fn every_changing_route_replays_its_first_response_without_secrets() {
    run(async |app| {
        let mut fixtures = Fixtures::new(app).await;
        let changing = operations().into_iter().filter(|it| {
            // A check by a verifier changes nothing, and a report of GitHub is acted on once for
            // each key, whatever is stored of the request.
            it.method != "GET"
                && it.requires_credential()
                && !it.requires_verifier()
                && it.id() != "receiveGithubSecrets"
                // OAuth routes ignore Idempotency-Key.
                && Family::from_path(&it.path) != Family::OAuth
                && !REVOKES_ITS_CREDENTIAL.contains(&it.id())
        });
        let mut changing: Vec<_> = changing.collect();
        // These run last: they end the session and the membership that other operations need.
        changing.sort_by_key(|it| ["revokeOtherSessions", "removeMember"].contains(&it.id()));
        assert!(changing.len() >= 15, "the routes that change something were not found");
        for (number, operation) in changing.iter().enumerate() {
            let path = fixtures.path_with_new_key(app, operation).await;
            let body = fixtures.body(operation);
            let name = format!("change {number}");
            // The operator's requests have a key already, and signed events have an id.
            let has_key = operation.requires_master_key() || operation.is_signed();
            let with_key = |actor: TestClient| {
                if has_key { actor } else { actor.with("idempotency-key", &name) }
            };
            let actor = with_key(fixtures.client_for(app, operation));
            let first = actor.send(&operation.method, &path, body.clone()).await;
            assert!(first.status.is_success(), "{} {path}: {}", operation.method, first.text);
            // A password change starts a new session, which sends the second request.
            if let Some(cookie) = first.cookie() {
                fixtures.ann.cookie = cookie;
            }
            let actor = with_key(fixtures.client_for(app, operation));
            let mut second = actor.send(&operation.method, &path, body).await;
            // This operation adds a field to a replayed response.
            if operation.id() == "provisionOrganization" {
                let added = second.body.as_object_mut().unwrap().remove("already_provisioned");
                assert_eq!(added, Some(Value::Bool(true)));
            }
            assert_replays(&first, &second);
            if second.body.get("request_id").is_some() {
                assert_eq!(second.body["request_id"], second.header("x-request-id"));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_reused_for_another_request_is_rejected() {
    run(async |app| {
        let acme = app.sign_up().await;
        let actor = with_idempotency_key(app, &acme.api_key, "one");
        actor.post(KEYS, request("a")).await.assert_status(201);
        let other = actor.post(KEYS, request("b")).await;
        other.assert_error(422, "idempotency_key_reused");
        let key = app.create_key_with(&acme.api_key, json!({})).await;
        let path = format!("{KEYS}/{}", key.key_id);
        actor.delete(&format!("{path}?reason=one")).await.assert_status(200);
        let query = actor.delete(&format!("{path}?reason=another")).await;
        query.assert_error(422, "idempotency_key_reused");
        // The same JSON in another spelling is the same request.
        let reformatted = r#" { "scopes" : ["usage:read"], "name":"a" } "#;
        let actor = actor.with("content-type", "application/json");
        assert_eq!(
            actor.send("POST", KEYS, reformatted).await.header("idempotent-replayed"),
            "true"
        );
        assert_eq!(app.count("select count(*) from api_keys").await, 3);
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_is_separate_for_each_route_and_each_caller() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.create_key_with(&acme.api_key, json!({})).await;
        let actor = with_idempotency_key(app, &acme.api_key, "one");
        actor.post(KEYS, request("a")).await.assert_status(201);
        actor.post("/me/api-keys", json!({ "name": "b" })).await.assert_status(201);
        let other = with_idempotency_key(app, &ci.api_key, "one")
            .post(KEYS, request("c"))
            .await
            .assert_status(201);
        assert_eq!(other.header("idempotent-replayed"), "");
        assert_eq!(app.count("select count(*) from idempotency_keys").await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_response_is_replayed_after_the_expires_at_of_its_request_has_passed() {
    run(async |app| {
        let acme = app.sign_up().await;
        let brief = json!({
            "name": "brief", "scopes": ["usage:read"], "expires_at": "2036-05-08T09:56:43Z",
        });
        let actor = with_idempotency_key(app, &acme.api_key, "one");
        let first = actor.post(KEYS, brief.clone()).await.assert_status(201);
        app.clock.advance(chrono::TimeDelta::seconds(5));
        assert_replays(&first, &actor.post(KEYS, brief.clone()).await);
        let late = app.key(&acme.api_key).post(KEYS, brief).await;
        let late = late.assert_error(400, "validation_error");
        assert_eq!(late.invalid_fields(), ["expires_at"]);
    })
    .await;
}

#[tokio::test]
async fn a_rejected_request_does_not_use_up_its_idempotency_key() {
    run(async |app| {
        let acme = app.sign_up().await;
        let actor = with_idempotency_key(app, &acme.api_key, "one");
        actor.post(KEYS, json!({ "name": "" })).await.assert_status(400);
        app.create_key_with(&acme.api_key, json!({ "name": "a" })).await;
        actor.post(KEYS, request("a")).await.assert_status(409);
        actor.post(KEYS, request("b")).await.assert_status(201);
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_of_an_account_is_separate_in_each_organization() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        // Ann has a membership in Ben's organization, as if she had accepted an invitation.
        app.execute(
            "insert into users (id, organization_id, handle, role, account_id, created_at)
             select gen_random_uuid(), b.home_organization_id, 'user_of_ann', 'admin', a.id, now()
             from accounts a, accounts b
             where a.email = 'ann@example.com' and b.email = 'ben@example.com'",
        )
        .await;
        for organization in [&ann.org_id, &ben.org_id] {
            let token = json!({ "name": "ci", "scopes": ["*"],
                                "metadata": { "organizationId": organization } });
            let (key, _) = app.create_token(&ann.cookie, token).await;
            let actor = with_idempotency_key(app, &key, "one");
            let first = actor.post("/me/api-keys", json!({ "name": "a" })).await.assert_status(201);
            assert_replays(&first, &actor.post("/me/api-keys", json!({ "name": "a" })).await);
        }
        assert_eq!(app.count("select count(*) from api_keys").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_response_is_replayed_under_a_newer_pepper() {
    run(async |app| {
        let acme = app.sign_up().await;
        let first = with_idempotency_key(app, &acme.api_key, "one").post(KEYS, request("a")).await;
        let newer = "p3:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDI=,\
                     p2:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        let replica = app.replica_with(&[("KEY_PEPPERS", newer)]);
        assert_replays(
            &first,
            &with_idempotency_key(&replica, &acme.api_key, "one").post(KEYS, request("a")).await,
        );
        replica.app.meter.flush().await.unwrap();
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn sign_out_routes_reject_a_malformed_idempotency_key() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let session = app.session(&ann.cookie).with("idempotency-key", &"x".repeat(257));
        for path in ["/auth/logout", "/api/auth/sign-out"] {
            let response =
                session.post(path, json!({})).await.assert_error(400, "validation_error");
            assert_eq!(response.invalid_fields(), ["Idempotency-Key"]);
        }
        app.session(&ann.cookie).get("/auth/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_can_be_reused_after_24_hours() {
    run(async |app| {
        let acme = app.sign_up().await;
        let actor = with_idempotency_key(app, &acme.api_key, "one");
        actor.post(KEYS, request("a")).await.assert_status(201);
        let day: bool = sqlx::query_scalar(
            "select expires_at = created_at + interval '24 hours' from idempotency_keys",
        )
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap();
        assert!(day);
        app.execute("update idempotency_keys set expires_at = now()").await;
        let second = actor.post(KEYS, request("b")).await.assert_status(201);
        assert_eq!(second.header("idempotent-replayed"), "");
        assert_eq!(actor.post(KEYS, request("b")).await.header("idempotent-replayed"), "true");
        assert_eq!(app.count("select count(*) from idempotency_keys").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_second_request_is_rejected_with_retry_after_while_the_first_one_runs() {
    run(async |app| {
        let acme = app.sign_up().await;
        let actor = with_idempotency_key(app, &acme.api_key, "one");
        // The state while the first request runs: it has its lock, and its record is not committed.
        let mut other = app.connect().await;
        actor.post(KEYS, request("a")).await.assert_status(201);
        let digest: Vec<u8> =
            sqlx::query_scalar("delete from idempotency_keys returning key_digest")
                .fetch_one(&mut other)
                .await
                .unwrap();
        let organization: uuid::Uuid =
            sqlx::query_scalar("select id from organizations where handle <> 'system'")
                .fetch_one(&mut other)
                .await
                .unwrap();
        let attempt = tenantry::model::idempotency::IdempotentRequest {
            organization: tenantry::model::ids::OrganizationId(organization),
            principal: acme.key_id.clone(),
            endpoint: format!("POST {KEYS}"),
            key_digest: digest.try_into().unwrap(),
            lifetime: tenantry::model::idempotency::RESPONSE_LIFETIME,
            fingerprints: Vec::new(),
        };
        sqlx::query("select pg_advisory_lock($1)")
            .bind(attempt.advisory_lock_key())
            .execute(&mut other)
            .await
            .unwrap();
        let waiting = actor.post(KEYS, request("a")).await;
        let waiting = waiting.assert_error(409, "idempotency_processing");
        assert_eq!(waiting.header("retry-after"), "1");
        drop(other);
    })
    .await;
}

#[tokio::test]
async fn a_malformed_idempotency_key_is_rejected() {
    run(async |app| {
        let acme = app.sign_up().await;
        for name in ["", "é", &"x".repeat(257), "a\tb"] {
            let actor = with_idempotency_key(app, &acme.api_key, name);
            for (path, status) in [(KEYS, 400), ("/me/api-keys", 422)] {
                let response = actor.post(path, request("a")).await;
                let response = response.assert_error(status, "validation_error");
                assert_eq!(response.invalid_fields(), ["Idempotency-Key"], "{name:?}");
            }
        }
        let twice = with_idempotency_key(app, &acme.api_key, "a").with("idempotency-key", "a");
        twice.post(KEYS, request("a")).await.assert_status(400);
        with_idempotency_key(app, &acme.api_key, &"x".repeat(256))
            .post(KEYS, request("a"))
            .await
            .assert_status(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_idempotency_keys_with_20_requests_each_create_exactly_a_hundred_keys() {
    let app = with_settings(&[("PLANS", r#"{"trial":{"keys":101}}"#)]);
    app.run(async |app| {
        let acme = app.sign_up().await;
        for batch in 0..10 {
            let mut callers = tokio::task::JoinSet::new();
            for name in batch * 10..(batch + 1) * 10 {
                for _ in 0..20 {
                    let actor = with_idempotency_key(app, &acme.api_key, &format!("name {name}"));
                    callers.spawn(async move {
                        loop {
                            let response = actor.post(KEYS, request(&format!("key {name}"))).await;
                            match response.status.as_u16() {
                                201 => return response.body.get("key").is_some(),
                                409 | 503 => tokio::task::yield_now().await,
                                other => panic!("{other}: {}", response.text),
                            }
                        }
                    });
                }
            }
            let with_secret = callers.join_all().await.into_iter().filter(|it| *it).count();
            assert_eq!(with_secret, 10, "the secret of each key is returned once");
        }
        assert_eq!(app.count("select count(*) from api_keys").await, 101);
    })
    .await;
}
