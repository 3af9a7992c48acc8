//! `PATCH` and `DELETE /v1/organization/api-keys/{id}`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::{KEYS, create, create_named, path, status};
use crate::support::client::TestClient;
use crate::support::run;

#[tokio::test]
async fn only_the_requested_settings_change() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({
            "name": "ci", "scopes": ["usage:read"], "expires_at": "2036-06-01T00:00:00Z",
            "metadata": { "team": "data", "owner": "ada" },
        });
        let ci = create(app, &acme.api_key, request).await;
        let changes = json!({
            "name": "cd", "scopes": ["billing:read"], "expires_at": null, "enabled": true,
            "metadata": { "team": "ops", "owner": null, "tier": "1" },
            "allowed_ips": ["10.0.0.0/8"],
        });
        let response = app.key(&acme.api_key).patch(&path(&ci.key_id), changes).await;
        insta::assert_json_snapshot!(response.assert_status(200).body);
        let again = json!({ "allowed_ips": [] });
        let response =
            app.key(&acme.api_key).patch(&path(&ci.key_id), again).await.assert_status(200);
        assert_eq!(response.body["name"], "cd");
        assert_eq!(response.body["metadata"], json!({ "team": "ops", "tier": "1" }));
    })
    .await;
}

#[tokio::test]
async fn an_empty_change_is_rejected() {
    run(async |app| {
        let acme = app.sign_up().await;
        for body in ["{}", ""] {
            let client = app.key(&acme.api_key).with("content-type", "application/json");
            let response = client.send("PATCH", &path(&acme.key_id), body).await;
            response.assert_error(400, "validation_error");
        }
    })
    .await;
}

#[tokio::test]
async fn every_invalid_field_of_a_change_is_named_at_once() {
    run(async |app| {
        let acme = app.sign_up().await;
        let changes = json!({
            "name": "", "scopes": [], "expires_at": "soon", "metadata": { "a": 1 },
            "allowed_ips": [1], "enabled": "yes", "key": "x",
        });
        let response = app.key(&acme.api_key).patch(&path(&acme.key_id), changes).await;
        let response = response.assert_error(400, "validation_error");
        let expected =
            ["name", "scopes", "expires_at", "metadata", "allowed_ips", "enabled", "key"];
        assert_eq!(response.invalid_fields(), expected);
    })
    .await;
}

#[tokio::test]
async fn metadata_over_4_kib_in_total_is_rejected() {
    run(async |app| {
        let acme = app.sign_up().await;
        let change = |name: &str| json!({ "metadata": { name: "x".repeat(3000) } });
        let client = app.key(&acme.api_key);
        client.patch(&path(&acme.key_id), change("a")).await.assert_status(200);
        let response = client.patch(&path(&acme.key_id), change("b")).await;
        let response = response.assert_error(400, "validation_error");
        assert_eq!(response.invalid_fields(), ["metadata"]);
    })
    .await;
}

#[tokio::test]
async fn metadata_accepts_no_empty_name_and_an_existing_one_can_be_removed() {
    run(async |app| {
        let acme = app.sign_up().await;
        let client = app.key(&acme.api_key);
        let change = async |metadata: serde_json::Value| {
            client.patch(&path(&acme.key_id), json!({ "metadata": metadata })).await
        };
        for empty in [json!({ "": "data" }), json!({ "\u{a0}": "data", "team": null })] {
            let response = change(empty).await.assert_error(400, "validation_error");
            assert_eq!(response.invalid_fields(), ["metadata"]);
        }
        // An empty name from an earlier version.
        app.execute(r#"update api_keys set metadata = '{"": "old"}'"#).await;
        let response = change(json!({ "team": "data" })).await.assert_status(200);
        assert_eq!(response.body["metadata"], json!({ "": "old", "team": "data" }));
        let response = change(json!({ "": null })).await.assert_status(200);
        assert_eq!(response.body["metadata"], json!({ "team": "data" }));
    })
    .await;
}

#[tokio::test]
async fn a_name_that_another_live_key_has_is_a_conflict() {
    run(async |app| {
        let acme = app.sign_up().await;
        create_named(app, &acme.api_key, "ci").await;
        let cd = create_named(app, &acme.api_key, "cd").await;
        let response =
            app.key(&acme.api_key).patch(&path(&cd.key_id), json!({ "name": "ci" })).await;
        response.assert_error(409, "conflict");
    })
    .await;
}

#[tokio::test]
async fn a_disabled_key_and_its_tokens_are_rejected_until_it_is_enabled() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        let (token, _) = app.exchange(&ci.api_key).await;
        let set = async |enabled: bool| {
            let change = json!({ "enabled": enabled });
            app.key(&acme.api_key).patch(&path(&ci.key_id), change).await.assert_status(200);
        };
        set(false).await;
        app.key(&ci.api_key).get("/me").await.assert_error(401, "unauthorized");
        app.bearer(&token).get("/me").await.assert_error(401, "unauthorized");
        set(true).await;
        app.key(&ci.api_key).get("/me").await.assert_status(200);
        app.bearer(&token).get("/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_key_changes_nothing_beyond_its_own_scopes_or_expiry() {
    run(async |app| {
        let acme = app.sign_up().await;
        let part = json!({
            "name": "part", "scopes": ["api-keys:manage"], "expires_at": "2036-06-01T00:00:00Z",
        });
        let part = create(app, &acme.api_key, part).await;
        let client = app.key(&part.api_key);
        // It cannot change a key with more scopes, or extend itself.
        for (id, change) in [
            (&acme.key_id, json!({ "enabled": false })),
            (&part.key_id, json!({ "scopes": ["*"] })),
            (&part.key_id, json!({ "scopes": ["api-keys:read", "usage:read"] })),
            (&part.key_id, json!({ "expires_at": null })),
            (&part.key_id, json!({ "expires_at": "2036-06-01T00:00:01Z" })),
        ] {
            client.patch(&path(id), change).await.assert_error(403, "forbidden");
        }
        let narrower =
            json!({ "scopes": ["api-keys:write"], "expires_at": "2036-05-31T00:00:00Z" });
        client.patch(&path(&part.key_id), narrower).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_key_with_reduced_scopes_creates_no_key_with_its_former_scopes() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        let narrower = json!({ "scopes": ["api-keys:write"] });
        app.key(&acme.api_key).patch(&path(&ci.key_id), narrower).await.assert_status(200);
        let wider = json!({ "name": "wider", "scopes": ["*"] });
        app.key(&ci.api_key).post(KEYS, wider).await.assert_error(403, "forbidden");
    })
    .await;
}

/// The key is valid when the request begins, and restricted before its body has arrived.
#[tokio::test]
async fn a_key_restricted_to_other_addresses_during_its_request_creates_no_key() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        let (pieces, body) = mpsc::channel::<Result<&str, String>>(1);
        let body = Body::from_stream(ReceiverStream::new(body));
        let client = app.key(&ci.api_key).with("content-type", "application/json");
        let minting = client.send("POST", KEYS, body);
        let narrowing = async {
            pieces.send(Ok(r#"{"name":"late","#)).await.unwrap();
            // This piece fits once the first was read: by then the guard has passed.
            pieces.send(Ok(r#""scopes":"#)).await.unwrap();
            let elsewhere = json!({ "allowed_ips": ["203.0.113.0/24"] });
            app.key(&acme.api_key).patch(&path(&ci.key_id), elsewhere).await.assert_status(200);
            pieces.send(Ok(r#"["usage:read"]}"#)).await.unwrap();
            drop(pieces);
        };
        let (response, ()) = tokio::join!(minting, narrowing);
        response.assert_error(403, "forbidden");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_key_creations_and_changes_with_one_token_all_get_a_response() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (token, _) = app.exchange(&acme.api_key).await;
        let mut requests = JoinSet::new();
        for number in 0..40 {
            let client = app.bearer(&token);
            let own = path(&acme.key_id);
            requests.spawn(async move {
                let created = json!({ "name": number.to_string(), "scopes": ["usage:read"] });
                match number % 2 {
                    0 => client.post(KEYS, created).await.assert_status(201),
                    _ => client.patch(&own, json!({ "enabled": true })).await.assert_status(200),
                }
            });
        }
        assert_eq!(requests.join_all().await.len(), 40);
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_not_active_cannot_be_changed() {
    run(async |app| {
        let acme = app.sign_up().await;
        let revoked = create_named(app, &acme.api_key, "revoked").await;
        let expired = create_named(app, &acme.api_key, "expired").await;
        app.key(&acme.api_key).delete(&path(&revoked.key_id)).await.assert_status(200);
        app.execute("update api_keys set expires_at = now() where name = 'expired'").await;
        for key in [&revoked, &expired] {
            let change = json!({ "expires_at": null, "enabled": true });
            let response = app.key(&acme.api_key).patch(&path(&key.key_id), change).await;
            response.assert_error(409, "conflict");
            let rotate = format!("{}/rotate", path(&key.key_id));
            let response = app.key(&acme.api_key).post(&rotate, json!({})).await;
            response.assert_error(409, "conflict");
        }
    })
    .await;
}

#[tokio::test]
async fn a_revoked_key_leaves_a_tombstone_with_time_reason_and_actor() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        let why = format!("{}?reason=leaked%20in%20a%20log", path(&ci.key_id));
        let first = app.key(&acme.api_key).delete(&why).await.assert_status(200);
        let second = app.key(&acme.api_key).delete(&path(&ci.key_id)).await.assert_status(200);
        assert_eq!(first.body_without_request(), second.body_without_request());
        assert_eq!(first.body["deleted"], true);
        let presented = app.key(&acme.api_key).get(&path(&ci.key_id)).await.assert_status(200).body;
        assert_eq!(presented["revoked_at"], "2036-05-08T09:56:42.855Z");
        assert_eq!(presented["revoked_reason"], "leaked in a log");
        let by: String = sqlx::query_scalar("select revoked_by from api_keys where name = 'ci'")
            .fetch_one(&mut app.connect().await)
            .await
            .unwrap();
        assert_eq!(by, acme.key_id);
        assert_eq!(status(app, &ci.api_key).await, 401);
    })
    .await;
}

#[tokio::test]
async fn an_invalid_reason_is_rejected_by_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        for reason in ["x".repeat(257), "a%00b".to_owned(), "a&reason=b".to_owned()] {
            let path = format!("{}?reason={reason}", path(&acme.key_id));
            let response = app.key(&acme.api_key).delete(&path).await;
            let response = response.assert_error(400, "validation_error");
            assert_eq!(response.invalid_fields(), ["reason"]);
        }
    })
    .await;
}

/// Two servers on one database get requests with a key while it is revoked. Neither accepts a
/// request that starts after the revocation's response.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_revocation_applies_on_every_server_when_its_response_arrives() {
    run(async |app| {
        let replica = app.replica();
        let acme = app.sign_up().await;
        for round in 0..5 {
            let ci = create_named(app, &acme.api_key, &format!("ci {round}")).await;
            let is_revoked = Arc::new(AtomicBool::new(false));
            let (first_success, mut first_successes) = mpsc::channel(4);
            let mut tasks = JoinSet::new();
            for server in [app, &replica, app, &replica] {
                let task = use_until_rejected(
                    server.key(&ci.api_key),
                    is_revoked.clone(),
                    first_success.clone(),
                );
                tasks.spawn(task);
            }
            for _ in 0..4 {
                first_successes.recv().await.unwrap();
            }
            app.key(&acme.api_key).delete(&path(&ci.key_id)).await.assert_status(200);
            is_revoked.store(true, Ordering::SeqCst);
            tasks.join_all().await;
        }
        replica.close();
    })
    .await;
}

/// Uses a key until a request that began after the revocation's response is rejected.
async fn use_until_rejected(
    client: TestClient,
    is_revoked: Arc<AtomicBool>,
    first_success: mpsc::Sender<()>,
) {
    let mut has_succeeded = false;
    loop {
        let after = is_revoked.load(Ordering::SeqCst);
        let status = client.get("/v1/organization/me").await.status.as_u16();
        match (after, status) {
            (false, 200) if !has_succeeded => {
                first_success.send(()).await.unwrap();
                has_succeeded = true;
            }
            (false, 200 | 401) => {}
            (true, 401) => return,
            other => panic!("accepted after the revocation: {other:?}"),
        }
    }
}
