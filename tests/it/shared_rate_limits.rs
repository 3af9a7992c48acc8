//! Rate limits that all servers share: their table, and each server's local limiter in front of it.

use serde_json::json;
use sha2::{Digest, Sha256};
use tenantry::model::rate::Rate;
use tenantry::model::rate_limit::{LimitSubject, RateLimit};
use tenantry::repo::rate_limits;
use uuid::Uuid;

use crate::support::TestApp;
use crate::support::client::TestResponse;
use crate::support::rate_limits::{
    assert_retry_after, client_from, metric_value, recorder, send_until_limited, with_limits,
    with_limits_behind_proxy,
};
use crate::support::waiting::wait_until_async;

async fn sign_up(app: &TestApp) -> TestResponse {
    app.anonymous().post("/signup", json!({})).await
}

#[tokio::test]
async fn a_shared_limit_is_exact_across_servers() {
    with_limits(r#"{"sign_in":{"quota":20,"window_s":3600}}"#)
        .run(async |app| {
            let replica = app.replica();
            let sent = (0..60).map(|number: usize| {
                let server = if number.is_multiple_of(2) { app } else { &replica };
                async move { server.anonymous().post("/signup", json!({})).await.status.as_u16() }
            });
            let statuses = futures_util::future::join_all(sent).await;
            assert_eq!(statuses.iter().filter(|it| **it == 201).count(), 20, "{statuses:?}");
            assert_eq!(statuses.iter().filter(|it| **it == 429).count(), 40, "{statuses:?}");
            let third = app.replica();
            third.anonymous().post("/signup", json!({})).await.assert_status(429);
            third.close();
            replica.close();
        })
        .await;
}

#[tokio::test]
async fn without_its_table_a_shared_limit_is_enforced_locally() {
    with_limits(r#"{"sign_in":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let recorder = recorder();
            let _counting = metrics::set_default_local_recorder(&recorder);
            app.execute("alter table rate_limits rename to rate_limits_elsewhere").await;
            let (passed, rejected) =
                send_until_limited(async || app.anonymous().post("/signup", json!({})).await).await;
            assert_eq!(passed, 3);
            assert_retry_after(&rejected, "sign_in");
            // The local limiter rejected.
            let fallbacks = r#"rate_limit_fallbacks_total{limit="sign_in"}"#;
            assert_eq!(metric_value(&recorder, fallbacks), 3);
        })
        .await;
}

#[tokio::test]
async fn a_table_that_is_available_again_is_used_again() {
    with_limits(r#"{"sign_in":{"quota":1000000},"address":{"quota":1000000}}"#)
        .run(async |app| {
            app.execute("alter table rate_limits rename to rate_limits_elsewhere").await;
            sign_up(app).await.assert_status(201);
            app.execute("alter table rate_limits_elsewhere rename to rate_limits").await;
            let is_asked = async || {
                sign_up(app).await.assert_status(201);
                app.count("select count(*) from rate_limits").await > 0
            };
            wait_until_async("the table is asked again", is_asked).await;
        })
        .await;
}

#[tokio::test]
async fn after_a_rejection_by_the_table_the_local_limiter_rejects_with_the_same_wait() {
    with_limits(r#"{"sign_in":{"quota":2,"window_s":3600}}"#)
        .run(async |app| {
            let replica = app.replica();
            for _ in 0..2 {
                sign_up(&replica).await.assert_status(201);
            }
            let first_wait = assert_retry_after(&sign_up(app).await.assert_status(429), "sign_in");
            app.execute("alter table rate_limits rename to rate_limits_elsewhere").await;
            for _ in 0..2 {
                let wait = assert_retry_after(&sign_up(app).await.assert_status(429), "sign_in");
                assert!(
                    (first_wait - 30..=first_wait).contains(&wait),
                    "{wait} after {first_wait}"
                );
            }
            replica.close();
        })
        .await;
}

#[tokio::test]
async fn a_shared_limit_that_is_only_observed_counts_each_rejection_once_without_the_table() {
    with_limits(r#"{"sign_in":{"quota":1,"window_s":3600,"only_observed":true}}"#)
        .run(async |app| {
            let recorder = recorder();
            let _counting = metrics::set_default_local_recorder(&recorder);
            sign_up(app).await.assert_status(201);
            app.execute("alter table rate_limits rename to rate_limits_elsewhere").await;
            for _ in 0..3 {
                sign_up(app).await.assert_status(201);
            }
            let rejections =
                |mode| format!(r#"rate_limited_total{{limit="sign_in",mode="{mode}"}}"#);
            assert_eq!(metric_value(&recorder, &rejections("observed")), 3);
            assert_eq!(metric_value(&recorder, &rejections("enforced")), 0);
            let fallbacks = r#"rate_limit_fallbacks_total{limit="sign_in"}"#;
            assert_eq!(metric_value(&recorder, fallbacks), 0);
        })
        .await;
}

#[tokio::test]
async fn clients_above_the_local_capacity_are_counted_separately_by_the_table() {
    with_limits_behind_proxy(r#"{"sign_in":{"quota":1,"window_s":3600}}"#)
        .run(async |app| {
            let settings = &app.app.config.rate_limits;
            for number in 0..400_000_u128 {
                let subject = LimitSubject::from_id(Uuid::from_u128((1 << 127) | (number << 64)));
                app.app.rate_limits.count_locally(settings, RateLimit::SignIn, subject).unwrap();
            }
            for number in 0..20 {
                let client = client_from(app, &format!("192.0.2.{number}"));
                client.post("/signup", json!({})).await.assert_status(201);
                client.post("/signup", json!({})).await.assert_status(429);
            }
            app.execute("alter table rate_limits rename to rate_limits_elsewhere").await;
            let mut number = 0;
            let (passed, _) = send_until_limited(async || {
                number += 1;
                client_from(app, &format!("192.0.2.{number}")).post("/signup", json!({})).await
            })
            .await;
            assert!(
                passed <= 16,
                "without the table, clients above the capacity share the local limiters"
            );
        })
        .await;
}

#[tokio::test]
async fn a_shorter_window_applies_from_the_first_rejection_on() {
    with_limits(r#"{"sign_in":{"quota":1,"window_s":3600}}"#)
        .run(async |app| {
            sign_up(app).await.assert_status(201);
            let shorter = [("LIMITS", r#"{"sign_in":{"quota":1,"window_s":60}}"#)];
            let (one, other) = (app.replica_with(&shorter), app.replica_with(&shorter));
            let wait = assert_retry_after(&sign_up(&one).await.assert_status(429), "sign_in");
            assert!(wait <= 60, "{wait}");
            // As after 60 seconds.
            app.execute("update rate_limits set full_at = full_at - interval '60 seconds'").await;
            sign_up(&other).await.assert_status(201);
            one.close();
            other.close();
        })
        .await;
}

#[tokio::test]
async fn the_table_grants_the_whole_quota_when_an_interval_is_no_whole_number_of_microseconds() {
    with_limits("{}")
        .run(async |app| {
            // A thirteenth of an hour is 276.9230769… seconds.
            let (rate, mut db) = (Rate::new(13, 3_600), app.connect().await);
            for left in (0..13).rev() {
                let outcome =
                    rate_limits::check_and_count(&mut db, "x", Uuid::nil(), &rate).await.unwrap();
                assert_eq!((outcome.is_rejected(), outcome.remaining), (false, left));
            }
            let last =
                rate_limits::check_and_count(&mut db, "x", Uuid::nil(), &rate).await.unwrap();
            assert!(last.is_rejected());
            rate_limits::refund(&mut db, "x", Uuid::nil(), &rate).await.unwrap();
            let again =
                rate_limits::check_and_count(&mut db, "x", Uuid::nil(), &rate).await.unwrap();
            assert!(!again.is_rejected());
        })
        .await;
}

#[tokio::test]
async fn replayed_requests_do_not_count_and_are_not_rejected() {
    with_limits(r#"{"key_mint":{"quota":1},"organizations":{"quota":1}}"#)
        .run(async |app| {
            let acme = app.sign_up().await;
            let ann = app.verified_account("ann@example.com").await;
            let request = json!({ "name": "a", "scopes": ["usage:read"] });
            let key = app.key(&acme.api_key);
            let session = app.session(&ann.cookie);
            for (client, path) in [
                (key, "/v1/organization/api-keys"),
                (session.clone(), "/api/auth/api-key/create"),
                (session, "/api/user/organizations"),
            ] {
                let body = match path {
                    "/api/user/organizations" => json!({ "name": "Acme" }),
                    _ => request.clone(),
                };
                let with_key = client.with("idempotency-key", "one");
                for number in 0..4 {
                    let response = with_key.post(path, body.clone()).await;
                    assert!(response.status.is_success(), "{path}: {}", response.text);
                    assert_eq!(response.header("idempotent-replayed").is_empty(), number == 0);
                }
                client.post(path, body).await.assert_status(429);
            }
        })
        .await;
}

#[tokio::test]
async fn an_email_address_is_stored_as_a_keyed_digest_and_full_limits_are_swept() {
    with_limits("{}")
        .run(async |app| {
            let email = "ann@example.com";
            let request = json!({ "email": email, "password": "not the password" });
            app.anonymous().post("/auth/login", request).await.assert_status(401);
            let subject = "select subject from rate_limits where name = 'sign_in_failures'";
            let stored: Uuid =
                sqlx::query_scalar(subject).fetch_one(&mut app.connect().await).await.unwrap();
            assert_eq!(stored, app.app.peppers.subject("sign_in", email).uuid());
            let plain_digest = Sha256::digest(email);
            assert_ne!(stored.as_bytes().as_slice(), &plain_digest[..16]);
            // Another deployment's secret results in another digest.
            let other = "o1:b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyb3Q=";
            let other = app.replica_with(&[("KEY_PEPPERS", other)]);
            assert_ne!(stored, other.app.peppers.subject("sign_in", email).uuid());
            other.close();
            app.execute("update rate_limits set full_at = now() where name = 'sign_in'").await;
            let sweep = async |db: &mut _| rate_limits::sweep(db).await;
            assert_eq!(app.app.db.run(sweep).await.unwrap(), 1);
            assert_eq!(app.count("select count(*) from rate_limits").await, 1);
        })
        .await;
}
