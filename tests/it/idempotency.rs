//! `Idempotency-Key` on every route that changes something (contract §1).

use serde_json::{Value, json};

use crate::support::client::{TestClient, TestResponse};
use crate::support::requests::Fixtures;
use crate::support::spec::operations;
use crate::support::{TestApp, run, with_settings};

const KEYS: &str = "/v1/organization/api-keys";

fn request(name: &str) -> Value {
    json!({ "name": name, "scopes": ["usage:read"] })
}

/// A caller whose requests all have one name.
fn with_idempotency_key(app: &TestApp, key: &str, name: &str) -> TestClient {
    app.key(key).with("idempotency-key", name)
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
    let is_secret = |name: &str| ["api_key", "new_api_key", "key", "token"].contains(&name);
    members.retain(|name, value| !(is_secret(name) && value.is_string()));
    members.values_mut().for_each(remove_secrets);
}

/// What ends the access that it is asked with: nobody can ask again in the same way.
const REVOKES_ITS_CREDENTIAL: [&str; 6] =
    ["deleteOrganization", "deleteUser", "logOut", "revokeOwnKey", "rotateOwnKey", "signOut"];

#[tokio::test]
async fn every_route_that_changes_something_replays_its_first_answer_without_the_secret() {
    run(async |app| {
        let mut world = Fixtures::new(app).await;
        let changing = operations().into_iter().filter(|it| {
            it.method != "GET"
                && it.requires_credential()
                && !REVOKES_ITS_CREDENTIAL.contains(&it.id())
        });
        let mut changing: Vec<_> = changing.collect();
        // Or there would be no other session left to end, or no member to change.
        changing.sort_by_key(|it| ["revokeOtherSessions", "removeMember"].contains(&it.id()));
        assert!(changing.len() >= 15, "the routes that change something were not found");
        for (number, operation) in changing.iter().enumerate() {
            let path = world.path_with_new_key(app, operation).await;
            let body = world.body(operation);
            let name = format!("change {number}");
            // The operator's requests have names already, and what is signed has its name within.
            let has_name = operation.requires_master_key() || operation.is_signed();
            let named = |actor: TestClient| {
                if has_name { actor } else { actor.with("idempotency-key", &name) }
            };
            let actor = named(world.client_for(app, operation));
            let first = actor.send(&operation.method, &path, body.clone()).await;
            assert!(first.status.is_success(), "{} {path}: {}", operation.method, first.text);
            // A changed password starts another session, whose the repetition is.
            if let Some(cookie) = first.cookie() {
                world.ann.cookie = cookie;
            }
            let actor = named(world.client_for(app, operation));
            let mut second = actor.send(&operation.method, &path, body).await;
            // The contract's addition to the page's envelope.
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
async fn the_same_name_for_another_request_is_refused() {
    run(async |app| {
        let acme = app.sign_up().await;
        let actor = with_idempotency_key(app, &acme.api_key, "one");
        actor.post(KEYS, request("a")).await.assert_status(201);
        let other = actor.post(KEYS, request("b")).await;
        other.assert_error(422, "idempotency_key_reused");
        let key = app.mint(&acme.api_key, json!({})).await;
        let path = format!("{KEYS}/{}", key.key_id);
        actor.delete(&format!("{path}?reason=one")).await.assert_status(200);
        let query = actor.delete(&format!("{path}?reason=another")).await;
        query.assert_error(422, "idempotency_key_reused");
        // The same request in another spelling is the same request.
        let spelt = r#" { "scopes" : ["usage:read"], "name":"a" } "#;
        let actor = actor.with("content-type", "application/json");
        assert_eq!(actor.send("POST", KEYS, spelt).await.header("idempotent-replayed"), "true");
        assert_eq!(app.count("select count(*) from api_keys").await, 3);
    })
    .await;
}

#[tokio::test]
async fn the_same_name_at_another_route_or_of_another_caller_is_another_record() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = app.mint(&acme.api_key, json!({})).await;
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
async fn a_request_that_comes_again_is_answered_again_when_its_expiry_has_passed() {
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
async fn a_refusal_does_not_use_the_name_up() {
    run(async |app| {
        let acme = app.sign_up().await;
        let actor = with_idempotency_key(app, &acme.api_key, "one");
        actor.post(KEYS, json!({ "name": "" })).await.assert_status(400);
        app.mint(&acme.api_key, json!({ "name": "a" })).await;
        actor.post(KEYS, request("a")).await.assert_status(409);
        actor.post(KEYS, request("b")).await.assert_status(201);
    })
    .await;
}

#[tokio::test]
async fn a_person_s_name_for_a_request_is_another_one_in_each_organization() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        // Ann has a seat in Ben's organization, as an invitation will give it.
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
async fn a_request_that_comes_again_is_known_under_a_newer_pepper() {
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
async fn a_name_of_another_form_is_refused_where_nothing_can_come_again_too() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let session = app.session(&ann.cookie).with("idempotency-key", &"x".repeat(257));
        for path in ["/auth/logout", "/api/auth/sign-out"] {
            let answer = session.post(path, json!({})).await.assert_error(400, "validation_error");
            assert_eq!(answer.invalid_fields(), ["Idempotency-Key"]);
        }
        app.session(&ann.cookie).get("/auth/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn after_a_day_the_name_is_free_again() {
    run(async |app| {
        let acme = app.sign_up().await;
        let actor = with_idempotency_key(app, &acme.api_key, "one");
        actor.post(KEYS, request("a")).await.assert_status(201);
        let day: bool = sqlx::query_scalar(
            "select expires_at = created_at + interval '24 hours' from idempotency_keys",
        )
        .fetch_one(&mut app.sql().await)
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
async fn while_the_first_request_runs_the_second_is_told_to_wait() {
    run(async |app| {
        let acme = app.sign_up().await;
        let actor = with_idempotency_key(app, &acme.api_key, "one");
        // The first request has its lock and has not committed, so there is no record of it yet.
        let mut holder = app.sql().await;
        actor.post(KEYS, request("a")).await.assert_status(201);
        let digest: Vec<u8> =
            sqlx::query_scalar("delete from idempotency_keys returning key_digest")
                .fetch_one(&mut holder)
                .await
                .unwrap();
        let organization: uuid::Uuid =
            sqlx::query_scalar("select id from organizations where handle <> 'system'")
                .fetch_one(&mut holder)
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
            .execute(&mut holder)
            .await
            .unwrap();
        let waiting = actor.post(KEYS, request("a")).await;
        let waiting = waiting.assert_error(409, "idempotency_processing");
        assert_eq!(waiting.header("retry-after"), "1");
        drop(holder);
    })
    .await;
}

#[tokio::test]
async fn a_name_of_another_form_is_refused() {
    run(async |app| {
        let acme = app.sign_up().await;
        for name in ["", "é", &"x".repeat(257), "a\tb"] {
            let actor = with_idempotency_key(app, &acme.api_key, name);
            for (path, status) in [(KEYS, 400), ("/me/api-keys", 422)] {
                let answer = actor.post(path, request("a")).await;
                let answer = answer.assert_error(status, "validation_error");
                assert_eq!(answer.invalid_fields(), ["Idempotency-Key"], "{name:?}");
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
async fn a_hundred_names_of_20_callers_each_mint_exactly_a_hundred_keys() {
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
                            let answer = actor.post(KEYS, request(&format!("key {name}"))).await;
                            match answer.status.as_u16() {
                                201 => return answer.body.get("key").is_some(),
                                409 | 503 => tokio::task::yield_now().await,
                                other => panic!("{other}: {}", answer.text),
                            }
                        }
                    });
                }
            }
            let shown = callers.join_all().await.into_iter().filter(|shown| *shown).count();
            assert_eq!(shown, 10, "each key's text is shown once");
        }
        assert_eq!(app.count("select count(*) from api_keys").await, 101);
    })
    .await;
}
