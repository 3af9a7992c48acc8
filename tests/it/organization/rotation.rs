//! `POST /v1/organization/api-keys/{id}/rotate`

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{create, create_named, path, status};
use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::{TestApp, run};

async fn rotate(app: &TestApp, key: &str, id: &str, request: Value) -> TestResponse {
    app.key(key).post(&format!("{}/rotate", path(id)), request).await
}

#[tokio::test]
async fn a_newer_key_takes_over_with_the_same_name_and_settings() {
    run(async |app| {
        let acme = app.sign_up().await;
        let request = json!({
            "name": "ci", "scopes": ["usage:read"], "expires_at": "2036-06-01T00:00:00Z",
            "metadata": { "team": "data" }, "allowed_ips": ["192.0.2.0/24"],
        });
        let ci = create(app, &acme.api_key, request).await;
        let response = rotate(app, &acme.api_key, &ci.key_id, json!({})).await.assert_status(200);
        insta::assert_json_snapshot!(response.body);
        assert_eq!(response.body["rotated_from"], ci.key_id);
        let old = app.key(&acme.api_key).get(&path(&ci.key_id)).await.assert_status(200).body;
        assert_eq!(old["rotated_to"], response.body["id"]);
        assert_eq!(status(app, &text(&response.body["key"])).await, 200);
    })
    .await;
}

#[tokio::test]
async fn without_a_grace_period_the_old_key_is_revoked_at_once() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        let (token, _) = app.exchange(&ci.api_key).await;
        rotate(app, &acme.api_key, &ci.key_id, json!({})).await.assert_status(200);
        assert_eq!(status(app, &ci.api_key).await, 401);
        app.bearer(&token).get("/me").await.assert_status(401);
    })
    .await;
}

#[tokio::test]
async fn the_old_key_works_during_its_grace_period_and_not_after_it() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        let hour = json!({ "grace_period": 3600 });
        let new = rotate(app, &acme.api_key, &ci.key_id, hour).await.assert_status(200).body;
        assert_eq!(status(app, &ci.api_key).await, 200);
        assert_eq!(status(app, &text(&new["key"])).await, 200);
        let an_hour: bool = sqlx::query_scalar(
            "select expires_at between now() + interval '59 minutes' and now() + interval '1 hour'
             from api_keys where superseded_at is not null",
        )
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap();
        assert!(an_hour);
        app.execute("update api_keys set expires_at = now() where superseded_at is not null").await;
        assert_eq!(status(app, &ci.api_key).await, 401);
    })
    .await;
}

/// A CI job that rotates its own key relies on this.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rotation_with_a_grace_period_fails_no_request_in_between() {
    run(async |app| {
        let acme = app.sign_up().await;
        let mut ci = create_named(app, &acme.api_key, "ci").await;
        for _ in 0..5 {
            let (hour, stop) = (json!({ "grace_period": 3600 }), CancellationToken::new());
            let (client, stopped) = (app.key(&ci.api_key), stop.clone());
            let (count, answered) = watch::channel(0);
            let used = tokio::spawn(async move {
                let mut statuses = Vec::new();
                while !stopped.is_cancelled() {
                    statuses.push(client.get("/me").await.status.as_u16());
                    count.send_replace(statuses.len());
                }
                statuses
            });
            let is_answered = async |least: usize| {
                answered.clone().wait_for(|count| *count >= least).await.unwrap();
            };
            is_answered(1).await;
            let next = rotate(app, &ci.api_key, &ci.key_id, hour).await.assert_status(200).body;
            assert_eq!(status(app, &text(&next["key"])).await, 200);
            // The next request may have begun before the rotation was answered, the one after it
            // has not.
            let before = *answered.borrow();
            is_answered(before + 2).await;
            stop.cancel();
            assert!(used.await.unwrap().into_iter().all(|status| status == 200));
            (ci.api_key, ci.key_id) = (text(&next["key"]), text(&next["id"]));
        }
    })
    .await;
}

#[tokio::test]
async fn a_rotation_extends_no_expiry_and_makes_no_temporary_key_permanent() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        app.execute(
            "update api_keys set expires_at = now() + interval '1 minute'
                     where name = 'ci'",
        )
        .await;
        let week = json!({ "grace_period": 604_800 });
        rotate(app, &acme.api_key, &ci.key_id, week).await.assert_status(200);
        let within = "select count(*) from api_keys
                      where name = 'ci' and expires_at <= now() + interval '1 minute'";
        assert_eq!(app.count(within).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_superseded_key_cannot_be_rotated_or_changed() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        let hour = json!({ "grace_period": 3600 });
        let first =
            rotate(app, &acme.api_key, &ci.key_id, hour.clone()).await.assert_status(200).body;
        let again = rotate(app, &acme.api_key, &ci.key_id, hour.clone()).await;
        again.assert_error(409, "conflict");
        let change = json!({ "expires_at": null });
        let longer = app.key(&acme.api_key).patch(&path(&ci.key_id), change).await;
        longer.assert_error(409, "conflict");
        // The newer key can be rotated next.
        let next =
            rotate(app, &acme.api_key, &text(&first["id"]), hour).await.assert_status(200).body;
        assert_eq!(next["rotated_from"], first["id"]);
        assert_eq!(next["name"], "ci");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_20_concurrent_rotations_of_one_key_succeeds() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = create_named(app, &acme.api_key, "ci").await;
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (client, path) = (app.key(&acme.api_key), format!("{}/rotate", path(&ci.key_id)));
            attempts.spawn(async move { client.post(&path, json!({})).await.status.as_u16() });
        }
        let mut statuses = attempts.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses[0], 200);
        assert!(statuses[1..].iter().all(|status| *status == 409), "{statuses:?}");
    })
    .await;
}

#[tokio::test]
async fn a_key_may_rotate_itself_and_no_key_beyond_its_scopes() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ci = json!({ "name": "ci", "scopes": ["api-keys:manage"] });
        let ci = create(app, &acme.api_key, ci).await;
        rotate(app, &ci.api_key, &acme.key_id, json!({})).await.assert_error(403, "forbidden");
        let next = rotate(app, &ci.api_key, &ci.key_id, json!({})).await.assert_status(200).body;
        assert_eq!(status(app, &text(&next["key"])).await, 200);
        assert_eq!(status(app, &ci.api_key).await, 401);
    })
    .await;
}

#[tokio::test]
async fn an_invalid_grace_period_is_rejected_by_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        for grace in [json!(-1), json!(604_801), json!(1.5), json!("1"), json!(1e30)] {
            let request = json!({ "grace_period": grace });
            let response = rotate(app, &acme.api_key, &acme.key_id, request).await;
            let response = response.assert_error(400, "validation_error");
            assert_eq!(response.invalid_fields(), ["grace_period"], "{grace}");
        }
    })
    .await;
}
