//! `/api/auth/list-sessions`, `/revoke-session`, `/revoke-other-sessions`, and the lifetime of
//! sessions.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::requests::data_ids;
use crate::support::run;

#[tokio::test]
async fn sessions_are_listed_with_address_and_user_agent() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let request = json!({ "email": ann.email, "password": PASSWORD });
        let phone = app.anonymous().with("user-agent", &"Phone ".repeat(100));
        phone.post("/api/auth/sign-in/email", request).await.assert_status(200);
        let list = app.session(&ann.cookie).get("/api/auth/list-sessions").await.assert_status(200);
        let sessions = list.body["data"].as_array().unwrap();
        assert_eq!(sessions.len(), 2);
        let current: Vec<_> = sessions.iter().map(|it| it["current"].clone()).collect();
        assert_eq!(current, [false, true]);
        assert_eq!(sessions[0]["userAgent"].as_str().unwrap().len(), 256);
        assert_eq!(sessions[1]["userAgent"], Value::Null);
        assert_eq!(sessions[1]["ipAddress"], "192.0.2.7");
        assert!(!list.text.contains("digest"));
    })
    .await;
}

#[tokio::test]
async fn revoking_one_session_or_all_others_takes_effect_immediately() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let sign_in = async || app.sign_in(&ann.email, PASSWORD).await.cookie().unwrap();
        let (second, third) = (sign_in().await, sign_in().await);
        let session = app.session(&ann.cookie);
        let newest = data_ids(&session.get("/api/auth/list-sessions").await.body)[0].clone();
        let end = async || session.post("/api/auth/revoke-session", json!({ "id": newest })).await;
        end().await.assert_status(200);
        app.session(&third).get("/api/user/me").await.assert_status(401);
        app.session(&second).get("/api/user/me").await.assert_status(200);
        end().await.assert_error(404, "NOT_FOUND");

        sign_in().await;
        let revoked = session.post("/api/auth/revoke-other-sessions", json!({})).await;
        assert_eq!(revoked.assert_status(200).body["data"]["count"], 2);
        app.session(&second).get("/api/user/me").await.assert_status(401);
        session.get("/api/user/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_session_remains_when_sessions_revoke_each_other_concurrently() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let mut cookies = vec![ann.cookie.clone()];
        for _ in 0..5 {
            cookies.push(app.sign_in(&ann.email, PASSWORD).await.cookie().unwrap());
        }
        let mut attempts = tokio::task::JoinSet::new();
        for cookie in &cookies {
            let session = app.session(cookie);
            attempts.spawn(async move {
                let response = session.post("/api/auth/revoke-other-sessions", json!({})).await;
                response.status.as_u16()
            });
        }
        let statuses = attempts.join_all().await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        let live = "select count(*) from sessions where revoked_at is null";
        assert_eq!(app.count(live).await, 1);
    })
    .await;
}

#[tokio::test]
async fn another_account_s_session_is_not_found() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let ben = app.sign_up_account("ben@example.com").await;
        let bens_ids =
            data_ids(&app.session(&ben.cookie).get("/api/auth/list-sessions").await.body);
        for id in [bens_ids[0].as_str(), "sess_0000000000000000000000", "key_1", ""] {
            let request = json!({ "id": id });
            let response = app.session(&ann.cookie).post("/api/auth/revoke-session", request).await;
            response.assert_error(404, "NOT_FOUND");
        }
        app.session(&ben.cookie).get("/api/user/me").await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn a_session_lasts_7_days_after_its_last_use_and_at_most_30_days() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let lifetime = async || -> String {
            app.app.meter.flush().await.unwrap();
            let query = "select (expires_at - created_at)::text from sessions";
            sqlx::query_scalar(query).fetch_one(&mut app.connect().await).await.unwrap()
        };
        session.get("/api/user/me").await.assert_status(200);
        assert_eq!(lifetime().await, "7 days");
        // A session is extended at most once a minute.
        app.clock.advance(TimeDelta::seconds(59));
        session.get("/api/user/me").await.assert_status(200);
        assert_eq!(lifetime().await, "7 days");
        app.clock.advance(TimeDelta::days(5) - TimeDelta::seconds(59));
        session.get("/api/user/me").await.assert_status(200);
        assert_eq!(lifetime().await, "12 days");
        app.clock.advance(TimeDelta::days(22));
        session.get("/api/user/me").await.assert_status(200);
        assert_eq!(lifetime().await, "30 days");
        app.execute("update sessions set expires_at = now()").await;
        session.get("/api/user/me").await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn a_session_is_valid_on_every_server_and_signing_out_ends_it_on_every_server() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let replica = app.replica();
        replica.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
        app.session(&ann.cookie).post("/api/auth/sign-out", json!({})).await.assert_status(200);
        replica.session(&ann.cookie).get("/api/user/me").await.assert_status(401);
        replica.app.meter.flush().await.unwrap();
        replica.close();
    })
    .await;
}
