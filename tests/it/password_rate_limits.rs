//! Rate limits of password attempts: at sign-in for each account, and in a session. They slow
//! attempts down and never lock an account.

use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::client::{TestClient, TestResponse};
use crate::support::rate_limits::{
    assert_retry_after, client_from, send_until_limited, sign_in_from, sign_up_request,
    with_limits, with_limits_behind_proxy,
};

const WRONG: &str = "not the password";
const NEW: &str = "another-long-passphrase";

#[tokio::test]
async fn failed_sign_ins_are_limited_per_account_across_addresses_and_a_success_clears_them() {
    with_limits_behind_proxy(r#"{"sign_in_failures":{"quota":3,"window_s":90}}"#)
        .run(async |app| {
            app.sign_up_account("ann@example.com").await;
            let mut number = 0;
            let mut sign_in = async |email: &str, password: &str| {
                number += 1;
                let client = client_from(app, &format!("192.0.2.{number}"));
                let credentials = json!({ "email": email, "password": password });
                client.post("/api/auth/sign-in/email", credentials).await
            };
            for _ in 0..2 {
                for _ in 0..2 {
                    sign_in("ann@example.com", "not the password").await.assert_status(401);
                }
                sign_in("ANN@example.com", PASSWORD).await.assert_status(200);
            }
            for _ in 0..3 {
                sign_in("ann@example.com", "not the password").await.assert_status(401);
            }
            // The limit does not reveal whether an account exists.
            for email in ["ann@example.com", "nobody@example.com"] {
                let (_, rejected) =
                    send_until_limited(async || sign_in(email, "not the password").await).await;
                assert!(assert_retry_after(&rejected, "sign_in_failures") <= 30);
            }
            // As after 30 seconds: one attempt is available again. The account is not locked.
            let sql = "update rate_limits set full_at = full_at - interval '30 seconds'";
            app.execute(sql).await;
            let replica = app.replica();
            let right = json!({ "email": "ann@example.com", "password": PASSWORD });
            let client = client_from(&replica, "192.0.2.200");
            client.post("/auth/login", right.clone()).await.assert_status(200);
            client.post("/auth/login", right).await.assert_status(200);
            replica.close();
        })
        .await;
}

#[tokio::test]
async fn attempts_from_other_addresses_do_not_block_an_address_that_signed_in_before() {
    with_limits_behind_proxy(r#"{"sign_in_failures":{"quota":3,"window_s":90}}"#)
        .run(async |app| {
            let ann = "ann@example.com";
            for known in ["192.0.2.1", "2001:db8::1"] {
                client_from(app, known).post("/api/auth/sign-up/email", sign_up_request(ann)).await;
                let signed_in = sign_in_from(app, known, ann, PASSWORD).await.assert_status(200);
                // The address stays known after its session has ended.
                let session = app.session(&signed_in.cookie().unwrap());
                session.post("/api/auth/sign-out", json!({})).await.assert_status(200);
            }
            let replica = app.replica();
            for server in [app, &replica] {
                for known in ["192.0.2.1", "2001:db8::2"] {
                    let attack = async || sign_in_from(server, "203.0.113.9", ann, WRONG).await;
                    let (_, rejected) = send_until_limited(attack).await;
                    assert_retry_after(&rejected, "sign_in_failures");
                    // The attack uses up all attempts: no unknown address can sign in.
                    for unknown in ["203.0.113.9", "192.0.2.2", "2001:db8:0:1::1", "unknown"] {
                        sign_in_from(server, unknown, ann, PASSWORD).await.assert_status(429);
                    }
                    sign_in_from(server, known, ann, PASSWORD).await.assert_status(200);
                }
            }
            replica.close();
        })
        .await;
}

#[tokio::test]
async fn a_known_address_has_a_limited_number_of_extra_attempts_for_its_own_account_only() {
    with_limits_behind_proxy(r#"{"sign_in_failures":{"quota":3,"window_s":90}}"#)
        .run(async |app| {
            for (known, email) in
                [("192.0.2.1", "ann@example.com"), ("192.0.2.2", "ben@example.com")]
            {
                client_from(app, known)
                    .post("/api/auth/sign-up/email", sign_up_request(email))
                    .await;
            }
            let attempts = async |known: &str, email: &str| {
                send_until_limited(async || sign_in_from(app, known, email, WRONG).await).await
            };
            let (passed, rejected) = attempts("192.0.2.1", "ann@example.com").await;
            assert_eq!(passed, 3 + 3);
            assert_retry_after(&rejected, "sign_in_failures");
            assert_eq!(attempts("192.0.2.1", "ben@example.com").await.0, 3);
            assert_eq!(attempts("192.0.2.1", "nobody@example.com").await.0, 3);
            // After 31 days an address is no longer known.
            app.clock.advance(chrono::TimeDelta::days(31));
            assert_eq!(attempts("192.0.2.2", "ben@example.com").await.0, 0);
        })
        .await;
}

#[tokio::test]
async fn a_sign_in_that_fails_for_another_reason_than_the_password_does_not_count() {
    with_limits(r#"{"sign_in_failures":{"quota":2}}"#)
        .run(async |app| {
            for _ in 0..2 {
                let mut connection = app.connect().await;
                let lock = "begin; lock table accounts in access exclusive mode";
                sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
                let sign_in = || app.sign_in("nobody@example.com", WRONG);
                let (one, other) = tokio::join!(sign_in(), sign_in());
                for failed in [one, other] {
                    failed.assert_error(503, "service_unavailable");
                }
            }
            let guess = async || app.sign_in("nobody@example.com", WRONG).await;
            assert_eq!(send_until_limited(guess).await.0, 2);
        })
        .await;
}

async fn change(client: &TestClient, password: &str) -> TestResponse {
    let request = json!({ "currentPassword": password, "newPassword": NEW });
    client.post("/api/auth/change-password", request).await
}

async fn delete(client: &TestClient, password: &str) -> TestResponse {
    let body: Value = json!({ "password": password });
    let client = client.with("content-type", "application/json");
    client.send("DELETE", "/api/user/me", body.to_string()).await
}

#[tokio::test]
async fn password_checks_in_sessions_are_limited_per_account_and_sign_in_still_works() {
    with_limits(r#"{"own_password":{"quota":3}}"#)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let ben = app.sign_up_account("ben@example.com").await;
            let replica = app.replica();
            let (here, there) = (app.session(&ann.cookie), replica.session(&ann.cookie));
            change(&here, WRONG).await.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
            delete(&here, WRONG).await.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
            change(&there, WRONG).await.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
            for rejected in [
                change(&here, WRONG).await,
                delete(&here, PASSWORD).await,
                change(&there, PASSWORD).await,
            ] {
                assert_retry_after(&rejected.assert_error(429, "RATE_LIMIT_ERROR"), "own_password");
            }
            app.sign_in(&ann.email, PASSWORD).await.assert_status(200);
            change(&app.session(&ben.cookie), PASSWORD).await.assert_status(200);
            replica.close();
        })
        .await;
}

#[tokio::test]
async fn the_correct_password_clears_the_count_and_a_replayed_change_does_not_count() {
    with_limits(r#"{"own_password":{"quota":2}}"#)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            change(&app.session(&ann.cookie), WRONG).await.assert_status(401);
            let client = |cookie: &str| app.session(cookie).with("idempotency-key", "change");
            let changed = change(&client(&ann.cookie), PASSWORD).await.assert_status(200);
            let cookie = changed.cookie().unwrap();
            for _ in 0..4 {
                let replayed = change(&client(&cookie), PASSWORD).await.assert_status(200);
                assert_eq!(replayed.header("idempotent-replayed"), "true");
            }
            let guess = async || change(&app.session(&cookie), WRONG).await;
            assert_eq!(send_until_limited(guess).await.0, 2);
        })
        .await;
}
