//! How often passwords may be tried: at sign-in, for each account, and in a session, by whoever has
//! it. It slows, and never locks.

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
async fn an_account_is_slowed_after_failures_wherever_they_come_from_and_success_clears_them() {
    with_limits_behind_proxy(r#"{"sign_in_failures":{"quota":3,"window_s":90}}"#)
        .run(async |app| {
            app.sign_up_account("ann@example.com").await;
            let mut number = 0;
            let mut sign_in = async |email: &str, password: &str| {
                number += 1;
                let client = client_from(app, &format!("192.0.2.{number}"));
                let shown = json!({ "email": email, "password": password });
                client.post("/api/auth/sign-in/email", shown).await
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
            // Nobody learns by it whether there is an account.
            for email in ["ann@example.com", "nobody@example.com"] {
                let (_, refused) =
                    send_until_limited(async || sign_in(email, "not the password").await).await;
                assert!(assert_retry_after(&refused, "sign_in_failures") <= 30);
            }
            // What the clock would do: one try is there again. It is a try, not a lock.
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
async fn who_keeps_trying_from_elsewhere_keeps_nobody_out_who_signed_in_from_there_before() {
    with_limits_behind_proxy(r#"{"sign_in_failures":{"quota":3,"window_s":90}}"#)
        .run(async |app| {
            let ann = "ann@example.com";
            for home in ["192.0.2.1", "2001:db8::1"] {
                client_from(app, home).post("/api/auth/sign-up/email", sign_up_request(ann)).await;
                let made = sign_in_from(app, home, ann, PASSWORD).await.assert_status(200);
                // What it was known by then is over by now.
                let session = app.session(&made.cookie().unwrap());
                session.post("/api/auth/sign-out", json!({})).await.assert_status(200);
            }
            let replica = app.replica();
            for server in [app, &replica] {
                for home in ["192.0.2.1", "2001:db8::2"] {
                    let attack = async || sign_in_from(server, "203.0.113.9", ann, WRONG).await;
                    let (_, refused) = send_until_limited(attack).await;
                    assert_retry_after(&refused, "sign_in_failures");
                    // It takes what comes back: no place that is not known gets through.
                    for elsewhere in ["203.0.113.9", "192.0.2.2", "2001:db8:0:1::1", "unknown"] {
                        sign_in_from(server, elsewhere, ann, PASSWORD).await.assert_status(429);
                    }
                    sign_in_from(server, home, ann, PASSWORD).await.assert_status(200);
                }
            }
            replica.close();
        })
        .await;
}

#[tokio::test]
async fn a_place_that_is_known_has_so_many_tries_and_no_more_and_for_its_own_account_only() {
    with_limits_behind_proxy(r#"{"sign_in_failures":{"quota":3,"window_s":90}}"#)
        .run(async |app| {
            for (home, email) in
                [("192.0.2.1", "ann@example.com"), ("192.0.2.2", "ben@example.com")]
            {
                client_from(app, home)
                    .post("/api/auth/sign-up/email", sign_up_request(email))
                    .await;
            }
            let tries = async |home: &str, email: &str| {
                send_until_limited(async || sign_in_from(app, home, email, WRONG).await).await
            };
            let (passed, refused) = tries("192.0.2.1", "ann@example.com").await;
            assert_eq!(passed, 3 + 3);
            assert_retry_after(&refused, "sign_in_failures");
            assert_eq!(tries("192.0.2.1", "ben@example.com").await.0, 3);
            assert_eq!(tries("192.0.2.1", "nobody@example.com").await.0, 3);
            // What was long ago is forgotten.
            app.clock.advance(chrono::TimeDelta::days(31));
            assert_eq!(tries("192.0.2.2", "ben@example.com").await.0, 0);
        })
        .await;
}

#[tokio::test]
async fn what_fails_for_another_reason_than_the_password_was_no_try() {
    with_limits(r#"{"sign_in_failures":{"quota":2}}"#)
        .run(async |app| {
            for _ in 0..2 {
                let mut holder = app.sql().await;
                let gate = "begin; lock table accounts in access exclusive mode";
                sqlx::raw_sql(gate).execute(&mut holder).await.unwrap();
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

async fn change(actor: &TestClient, password: &str) -> TestResponse {
    let request = json!({ "currentPassword": password, "newPassword": NEW });
    actor.post("/api/auth/change-password", request).await
}

async fn delete(actor: &TestClient, password: &str) -> TestResponse {
    let body: Value = json!({ "password": password });
    let actor = actor.with("content-type", "application/json");
    actor.send("DELETE", "/api/user/me", body.to_string()).await
}

#[tokio::test]
async fn who_has_stolen_a_session_guesses_its_password_a_few_times_and_signing_in_goes_on() {
    with_limits(r#"{"own_password":{"quota":3}}"#)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            let ben = app.sign_up_account("ben@example.com").await;
            let replica = app.replica();
            let (here, there) = (app.session(&ann.cookie), replica.session(&ann.cookie));
            change(&here, WRONG).await.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
            delete(&here, WRONG).await.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
            change(&there, WRONG).await.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
            for refused in [
                change(&here, WRONG).await,
                delete(&here, PASSWORD).await,
                change(&there, PASSWORD).await,
            ] {
                assert_retry_after(&refused.assert_error(429, "RATE_LIMIT_ERROR"), "own_password");
            }
            app.sign_in(&ann.email, PASSWORD).await.assert_status(200);
            change(&app.session(&ben.cookie), PASSWORD).await.assert_status(200);
            replica.close();
        })
        .await;
}

#[tokio::test]
async fn the_right_password_clears_the_count_and_repeating_its_change_is_no_try() {
    with_limits(r#"{"own_password":{"quota":2}}"#)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            change(&app.session(&ann.cookie), WRONG).await.assert_status(401);
            let named = |cookie: &str| app.session(cookie).with("idempotency-key", "change");
            let changed = change(&named(&ann.cookie), PASSWORD).await.assert_status(200);
            let cookie = changed.cookie().unwrap();
            for _ in 0..4 {
                let again = change(&named(&cookie), PASSWORD).await.assert_status(200);
                assert_eq!(again.header("idempotent-replayed"), "true");
            }
            let guess = async || change(&app.session(&cookie), WRONG).await;
            assert_eq!(send_until_limited(guess).await.0, 2);
        })
        .await;
}
