//! Security events: failed sign-ins in the audit log, and mailed notices about account use.

use serde_json::{Value, json};

use super::organization_path;
use crate::support::accounts::{PASSWORD, TestAccount};
use crate::support::client::{TestClient, TestResponse};
use crate::support::{TestApp, run, with_settings};

const NEW: &str = "another-long-passphrase";
const PROXIED: [(&str, &str); 1] = [("TRUSTED_PROXY_HOPS", "1")];

/// A client with this address.
fn client_from(app: &TestApp, address: &str) -> TestClient {
    app.anonymous().with("x-forwarded-for", address)
}

async fn sign_in(client: &TestClient, email: &str, password: &str) -> TestResponse {
    let request = json!({ "email": email, "password": password });
    client.post("/api/auth/sign-in/email", request).await
}

/// The failed sign-ins in the audit log of Ann's organization, newest first.
async fn failed(app: &TestApp, ann: &TestAccount) -> Vec<Value> {
    app.app.rejections.flush().await.unwrap();
    let path = organization_path(&ann.org_id, "/audit-logs?eventType=SIGN_IN_FAILED");
    let log = app.bearer(&ann.token).get(&path).await.assert_status(200);
    log.body["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn failed_sign_ins_to_a_known_account_are_in_the_audit_log_once_with_a_count() {
    with_settings(&PROXIED)
        .run(async |app| {
            let ann = app.sign_up_account("ann@example.com").await;
            for number in 0..25 {
                let elsewhere = client_from(app, &format!("198.51.100.{number}"));
                let response = sign_in(&elsewhere, &ann.email, "a-wrong-passphrase").await;
                response.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
            }
            let request = json!({ "email": ann.email, "password": "a-wrong-passphrase" });
            app.anonymous().post("/auth/login", request).await.assert_status(401);
            let events = failed(app, &ann).await;
            assert_eq!(events.len(), 1);
            assert_eq!(events[0]["detail"], json!({ "reason": "wrong_password", "count": 26 }));
            assert_eq!(
                (&events[0]["actor"], &events[0]["target"]),
                (&json!(ann.id), &json!(ann.id))
            );
            assert_eq!(events[0]["ipAddress"], "198.51.100.0");
            // A correct password, or an unknown address, is no failure of hers.
            sign_in(&client_from(app, "192.0.2.1"), &ann.email, PASSWORD).await.assert_status(200);
            sign_in(&client_from(app, "192.0.2.1"), "ben@example.com", PASSWORD)
                .await
                .assert_status(401);
            assert_eq!(failed(app, &ann).await.len(), 1);
            let all = "select count(*) from audit_events where event_type = 'SIGN_IN_FAILED'";
            assert_eq!(app.count(all).await, 1);
        })
        .await;
}

#[tokio::test]
async fn a_sign_in_that_fails_for_another_reason_is_in_the_audit_log_with_that_reason() {
    with_settings(&[("REQUIRE_EMAIL_VERIFICATION", "on")])
        .run(async |app| {
            app.sign_up_for_mail("ann@example.com").await;
            app.sign_in("ann@example.com", PASSWORD).await.assert_status(403);
            app.execute("update accounts set is_active = false").await;
            app.sign_in("ann@example.com", PASSWORD).await.assert_error(401, "USER_NOT_ACTIVE");
            app.app.rejections.flush().await.unwrap();
            let reasons: Vec<String> = sqlx::query_scalar(
                "select (detail ->> 'reason') || ' ' || status from audit_events
                 where event_type = 'SIGN_IN_FAILED' order by 1",
            )
            .fetch_all(&mut app.connect().await)
            .await
            .unwrap();
            assert_eq!(reasons, ["account_inactive 401", "email_not_verified 403"]);
        })
        .await;
}

#[tokio::test]
async fn failed_sign_ins_that_could_not_be_written_are_written_later() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        app.sign_in(&ann.email, "a-wrong-passphrase").await.assert_status(401);
        app.execute("alter table audit_events rename to audit_events_away").await;
        app.app.rejections.flush().await.unwrap_err();
        app.execute("alter table audit_events_away rename to audit_events").await;
        app.sign_in(&ann.email, "a-wrong-passphrase").await.assert_status(401);
        let events = failed(app, &ann).await;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["detail"]["count"], 2);
    })
    .await;
}

#[tokio::test]
async fn a_sign_in_from_a_new_network_is_mailed_and_one_from_a_known_network_is_not() {
    with_settings(&PROXIED)
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            assert_eq!(app.security_notices().await, [""; 0]);
            // The sign-up recorded no address. Set a known one.
            app.execute("update sessions set address = '192.0.2.1'").await;
            for (address, notices) in [
                ("192.0.2.1", &[][..]),
                ("198.51.100.9", &["new sign-in"][..]),
                ("198.51.100.9", &[]),
                ("2001:db8:1:2::1", &["new sign-in"]),
                // The same /64 network.
                ("2001:db8:1:2:ffff::9", &[]),
                ("2001:db8:1:3::1", &["new sign-in"]),
            ] {
                sign_in(&client_from(app, address), &ann.email, PASSWORD).await.assert_status(200);
                assert_eq!(app.security_notices().await, notices, "{address}");
            }
            let elsewhere = client_from(app, "203.0.113.5");
            sign_in(&elsewhere, &ann.email, "a-wrong-passphrase").await.assert_status(401);
            assert_eq!(app.security_notices().await, [""; 0]);
        })
        .await;
}

#[tokio::test]
async fn password_changes_and_new_tokens_are_mailed() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let token = json!({ "name": "ci", "scopes": ["*"] });
        app.create_token(&ann.cookie, token.clone()).await;
        assert_eq!(app.security_notices().await, ["new personal access token"]);
        // Several events before a mail is sent are one mail.
        for _ in 0..5 {
            app.create_token(&ann.cookie, token.clone()).await;
        }
        assert_eq!(app.security_notices().await, ["new personal access token"]);
        let wrong = json!({ "currentPassword": NEW, "newPassword": NEW });
        session.post("/api/auth/change-password", wrong).await.assert_status(401);
        assert_eq!(app.security_notices().await, [""; 0]);
        let change = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
        session.post("/api/auth/change-password", change).await.assert_status(200);
        assert_eq!(app.security_notices().await, ["password changed"]);
        let request = json!({ "email": ann.email });
        app.anonymous().post("/api/auth/request-password-reset", request).await.assert_status(200);
        let link = app.mailed_token().await;
        let reset = json!({ "token": link, "newPassword": PASSWORD });
        app.anonymous().post("/api/auth/reset-password", reset).await.assert_status(200);
        assert_eq!(app.security_notices().await, ["password changed"]);
    })
    .await;
}

#[tokio::test]
async fn turning_security_mails_off_sends_one_last_mail_and_none_after_it() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let session = app.session(&ann.cookie);
        let set = async |wanted: Value| {
            session.put("/api/user/me", json!({ "securityMails": wanted })).await
        };
        let presented = session.get("/api/user/me").await.assert_status(200);
        assert_eq!(presented.body["data"]["securityMails"], true);
        set(json!("no")).await.assert_error(400, "VALIDATION_ERROR");
        assert_eq!(set(json!(false)).await.assert_status(200).body["data"]["securityMails"], false);
        assert_eq!(app.security_notices().await, ["these mails are off"]);
        set(json!(false)).await.assert_status(200);
        let token = json!({ "name": "ci", "scopes": ["*"] });
        app.create_token(&ann.cookie, token.clone()).await;
        assert_eq!(app.security_notices().await, [""; 0]);
        // Other changes do not turn it on again.
        session.put("/api/user/me", json!({ "fullName": "Ann" })).await.assert_status(200);
        app.create_token(&ann.cookie, token.clone()).await;
        assert_eq!(app.security_notices().await, [""; 0]);
        set(json!(true)).await.assert_status(200);
        app.create_token(&ann.cookie, token).await;
        assert_eq!(app.security_notices().await, ["new personal access token"]);
    })
    .await;
}

/// The account may belong to a stranger, and the mailbox to someone else.
#[tokio::test]
async fn an_address_that_is_not_proven_is_mailed_no_notices() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        let change = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
        app.session(&ann.cookie).post("/api/auth/change-password", change).await.assert_status(200);
        assert_eq!(app.security_notices().await, [""; 0]);
    })
    .await;
}
