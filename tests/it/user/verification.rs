//! Proving an address: `/api/auth/verify-email`, `/send-verification-email`, and the effect of
//! `REQUIRE_EMAIL_VERIFICATION`.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::accounts::PASSWORD;
use crate::support::client::TestResponse;
use crate::support::{TestApp, run, with_settings};

const VERIFIED: &str = "select count(*) from accounts where verified_at is not null";

async fn verify(app: &TestApp, token: &str) -> TestResponse {
    let request = json!({ "token": token, "password": PASSWORD });
    app.anonymous().post("/api/auth/verify-email", request).await
}

#[tokio::test]
async fn the_mailed_link_proves_the_address_once_and_ends_nothing() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let key = json!({ "name": "ci", "scopes": ["*"] });
        let (key, _) = app.create_token(&ann.cookie, key).await;
        let token = app.mailed_token().await;
        verify(app, &token).await.assert_status(200);
        let me = app.session(&ann.cookie).get("/api/user/me").await.assert_status(200);
        assert_eq!(me.body["data"]["isVerified"], true);
        assert_eq!(me.body["data"]["verifiedAt"], crate::support::app::START_TIME);
        app.key(&key).get("/api/user/me").await.assert_status(200);
        app.bearer(&ann.token).get("/auth/me").await.assert_status(200);
        verify(app, &token).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn following_the_link_without_pressing_the_button_verifies_nothing() {
    run(async |app| {
        app.sign_up_account("ann@example.com").await;
        let mails = app.mails().await;
        let link = mails[0].link().unwrap();
        assert!(link.starts_with("http://127.0.0.1:8080/api/auth/verify-email?token="), "{link}");
        let path = link.strip_prefix("http://127.0.0.1:8080").unwrap();
        // The Host header has no effect.
        for _ in 0..2 {
            let page =
                app.anonymous().with("host", "evil.example").get(path).await.assert_status(200);
            assert!(page.text.contains("<button>"), "{}", page.text);
            assert!(!page.text.contains(&mails[0].token().unwrap()));
        }
        assert_eq!(app.count(VERIFIED).await, 0);
        verify(app, &mails[0].token().unwrap()).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn the_html_pages_run_only_their_own_script() {
    run(async |app| {
        for path in ["/api/auth/verify-email", "/api/auth/reset-password?token=x"] {
            let page = app.anonymous().get(path).await.assert_status(200);
            let policy = page.header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'"));
            assert_eq!(page.header("referrer-policy"), "no-referrer");
            assert_eq!(page.header("cache-control"), "no-store");
            assert!(!page.text.contains("src=") && !page.text.contains("href="), "{}", page.text);
        }
    })
    .await;
}

#[tokio::test]
async fn a_newer_link_invalidates_the_older_one() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let first = app.mailed_token().await;
        let session = app.session(&ann.cookie);
        session.post("/api/auth/send-verification-email", json!({})).await.assert_status(200);
        let second = app.mailed_token().await;
        verify(app, &first).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
        verify(app, &second).await.assert_status(200);
        // A proven address gets no mail.
        session.post("/api/auth/send-verification-email", json!({})).await.assert_status(200);
        assert!(app.mails().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_link_works_for_24_hours() {
    run(async |app| {
        app.sign_up_account("ann@example.com").await;
        let token = app.mailed_token().await;
        let day =
            "select count(*) from email_tokens where expires_at = created_at + interval '24 hours'";
        assert_eq!(app.count(day).await, 1);
        app.execute("update email_tokens set expires_at = now()").await;
        verify(app, &token).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_20_concurrent_uses_of_one_link_succeeds() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let token = app.mailed_token().await;
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (session, request) = (app.session(&ann.cookie), json!({ "token": token }));
            attempts.spawn(async move {
                session.post("/api/auth/verify-email", request).await.status.as_u16()
            });
        }
        let statuses = attempts.join_all().await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 19, "{statuses:?}");
    })
    .await;
}

#[tokio::test]
async fn an_invalid_token_or_the_token_of_another_purpose_is_rejected() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        app.mails().await;
        let request = json!({ "email": ann.email });
        app.anonymous().post("/api/auth/request-password-reset", request).await.assert_status(200);
        let reset = app.mailed_token().await;
        for token in ["", "garbage", &ann.token, &ann.cookie, &reset] {
            verify(app, token).await.assert_error(401, "INVALID_OR_EXPIRED_TOKEN");
        }
        let response = app.anonymous().post("/api/auth/verify-email", json!({ "token": 1 })).await;
        assert_eq!(response.assert_status(400).invalid_fields(), ["token"]);
    })
    .await;
}

#[tokio::test]
async fn with_required_verification_known_and_unknown_addresses_get_the_same_response_and_a_mail() {
    with_settings(&[("REQUIRE_EMAIL_VERIFICATION", "on")])
        .run(async |app| {
            let request =
                json!({ "email": "ann@example.com", "password": PASSWORD, "name": "Ann" });
            let sign_up = async || {
                let response =
                    app.anonymous().post("/api/auth/sign-up/email", request.clone()).await;
                response.assert_status(200)
            };
            let unknown = sign_up().await;
            let nothing = json!({ "user": null, "organization": null, "token": null });
            assert_eq!(unknown.body["data"], nothing);
            assert_eq!(unknown.cookie(), None);
            app.mailed_token().await;

            // A newer sign-up replaces a pending one: see `email_proofs`.
            let pending = sign_up().await;
            assert_eq!(pending.text, unknown.text);
            assert_eq!(pending.cookie(), None);
            let token = app.mailed_token().await;

            let rejected = app.sign_in("ann@example.com", PASSWORD).await;
            rejected.assert_error(403, "EMAIL_NOT_VERIFIED");
            let login = json!({ "email": "ann@example.com", "password": PASSWORD });
            let rejected = app.anonymous().post("/auth/login", login).await;
            rejected.assert_error(403, "AUTHORIZATION_ERROR");
            // Without the password the response reveals nothing.
            let wrong = app.sign_in("ann@example.com", "another-passphrase").await;
            wrong.assert_error(401, "INVALID_EMAIL_OR_PASSWORD");
            verify(app, &token).await.assert_status(200);
            let signed_in = app.sign_in("ann@example.com", PASSWORD).await.assert_status(200);
            assert_ne!(signed_in.body["data"]["token"], Value::Null);
            assert_eq!(sign_up().await.text, unknown.text);
            let mails = app.mails().await;
            assert_eq!(mails[0].header("Subject"), "You already have an account");
            assert_eq!(mails[0].token(), None);
        })
        .await;
}

#[tokio::test]
async fn expired_tokens_and_sessions_and_dead_mails_are_removed() {
    run(async |app| {
        app.sign_up_account("ann@example.com").await;
        app.mailed_token().await;
        app.clock.advance(TimeDelta::hours(1));
        let ben = app.sign_up_account("ben@example.com").await;
        app.execute(
            "update email_tokens set expires_at = now() where created_at =
             (select min(created_at) from email_tokens)",
        )
        .await;
        let sweep = async |tx: &mut sqlx::PgConnection| {
            Ok((
                tenantry::repo::email_tokens::sweep(tx).await?,
                tenantry::repo::sessions::sweep(tx, 30).await?,
                tenantry::repo::jobs::sweep(tx, 30).await?,
            ))
        };
        assert_eq!(app.app.db.transaction(sweep).await.unwrap(), (1, 0, 0));
        app.execute(
            "update sessions set expires_at = now() - interval '31 days' where id =
                     (select id from sessions order by id limit 1)",
        )
        .await;
        app.execute("update outbox set dead_at = now() - interval '31 days'").await;
        assert_eq!(app.app.db.transaction(sweep).await.unwrap(), (0, 1, 1));
        app.session(&ben.cookie).get("/api/user/me").await.assert_status(200);
    })
    .await;
}
