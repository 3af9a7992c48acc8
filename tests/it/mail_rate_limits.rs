//! Rate limits of mails: for each client, and for each recipient and kind of mail.

use serde_json::json;
use sqlx::Connection;

use crate::support::accounts::{PASSWORD, TestAccount};
use crate::support::app::text;
use crate::support::rate_limits::{
    assert_retry_after, client_from, sign_in_from, sign_up_request, with_limits,
    with_limits_behind_proxy,
};
use crate::support::waiting::wait_until_async;
use crate::support::{TestApp, with_settings};

#[tokio::test]
async fn mails_are_limited_for_each_recipient_and_for_each_client() {
    with_limits_behind_proxy(r#"{"mail_client":{"quota":6,"window_s":3600}}"#)
        .run(async |app| {
            let reset = async |client: &str, email: &str| {
                let request = json!({ "email": email });
                client_from(app, client).post("/api/auth/request-password-reset", request).await
            };
            for client in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
                reset(client, "ann@example.com").await.assert_status(200);
            }
            let rejected = reset("192.0.2.4", "ANN@example.com").await;
            assert_retry_after(&rejected.assert_error(429, "RATE_LIMIT_ERROR"), "mail_address");
            for number in 0..6 {
                reset("192.0.2.9", &format!("{number}@example.com")).await.assert_status(200);
            }
            let rejected = reset("192.0.2.9", "another@example.com").await;
            assert_retry_after(&rejected.assert_error(429, "RATE_LIMIT_ERROR"), "mail_client");
            let request = json!({ "email": "more@example.com", "password": PASSWORD, "name": "A" });
            for path in ["/api/auth/sign-up/email", "/auth/signup"] {
                client_from(app, "192.0.2.9").post(path, request.clone()).await.assert_status(429);
            }
        })
        .await;
}

#[tokio::test]
async fn each_kind_of_mail_has_its_own_limit_and_a_rejected_sign_up_does_not_count() {
    with_limits("{}")
        .run(async |app| {
            let ben = app.verified_account("ben@example.com").await;
            let ann = app.sign_up_account("ann@example.com").await;
            for _ in 0..4 {
                let taken = app.anonymous().post("/auth/signup", sign_up_request(&ann.email)).await;
                taken.assert_error(409, "CONFLICT");
                let taken = app
                    .anonymous()
                    .post("/api/auth/sign-up/email", sign_up_request(&ann.email))
                    .await;
                taken.assert_error(422, "USER_ALREADY_EXISTS");
            }
            let session = app.session(&ann.cookie);
            let verify = "/api/auth/send-verification-email";
            let reset = "/api/auth/request-password-reset";
            let request = json!({ "email": ann.email });
            // The first one was sent at signup.
            for _ in 0..2 {
                session.post(verify, json!({})).await.assert_status(200);
            }
            for _ in 0..3 {
                app.anonymous().post(reset, request.clone()).await.assert_status(200);
                invite(app, &ben, &ann.email).await;
            }
            for rejected in [
                session.post(verify, json!({})).await,
                app.anonymous().post(reset, request).await,
                app.session(&ben.cookie).post(&invites_path(&ben), invitation(&ann.email)).await,
            ] {
                assert_retry_after(&rejected.assert_error(429, "RATE_LIMIT_ERROR"), "mail_address");
            }
        })
        .await;
}

fn invites_path(account: &TestAccount) -> String {
    format!("/api/user/organizations/{}/invites", account.org_id)
}

fn invitation(email: &str) -> serde_json::Value {
    json!({ "email": email, "role": "member" })
}

#[tokio::test]
async fn a_request_that_is_cancelled_before_its_mail_is_stored_does_not_count() {
    with_settings(&[("LIMITS_PROFILE", "usual"), ("REQUIRE_EMAIL_VERIFICATION", "on")])
        .run(async |app| {
            let mut connection = app.connect().await;
            let mut transaction = connection.begin().await.unwrap();
            let lock = "lock table accounts in exclusive mode";
            sqlx::query(lock).execute(&mut *transaction).await.unwrap();
            let new = json!({ "email": "ann@example.com", "password": PASSWORD, "name": "Ann" });
            let counted = async |is_counted: bool| {
                let open = "select count(*) from rate_limits
                            where name = 'mail_address' and full_at > now()";
                let is_it = async || (app.count(open).await > 0) == is_counted;
                wait_until_async("the mail is counted, or refunded", is_it).await;
            };
            let client = app.anonymous();
            let signing_up = async {
                tokio::select! {
                    response = client.post("/api/auth/sign-up/email", new) => {
                        panic!("{}", response.text)
                    }
                    () = counted(true) => {}
                }
                counted(false).await;
            };
            signing_up.await;
            transaction.rollback().await.unwrap();
        })
        .await;
}

/// Invites an address; returns the path that resends the invitation.
async fn invite(app: &TestApp, owner: &TestAccount, email: &str) -> String {
    let session = app.session(&owner.cookie);
    let created = session.post(&invites_path(owner), invitation(email)).await.assert_status(201);
    format!("{}/{}/resend", invites_path(owner), text(&created.body["data"]["id"]))
}

#[tokio::test]
async fn a_rejected_invitation_does_not_count() {
    with_limits("{}")
        .run(async |app| {
            let owner = app.verified_account("ann@example.com").await;
            let member = app.verified_account("ben@example.com").await;
            // The first of three mails.
            app.invite_and_accept(&owner, &member, "member").await;
            for _ in 0..4 {
                let session = app.session(&owner.cookie);
                let response = session.post(&invites_path(&owner), invitation(&member.email)).await;
                response.assert_error(409, "CONFLICT");
            }
            let other = app.verified_account("cid@example.com").await;
            invite(app, &other, &member.email).await;
            invite(app, &other, &member.email).await;
        })
        .await;
}

#[tokio::test]
async fn invitations_to_one_recipient_share_a_limit_across_organizations() {
    with_limits("{}")
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            let ann_resend = invite(app, &ann, "cid@example.com").await;
            app.session(&ann.cookie).post(&ann_resend, json!({})).await.assert_status(200);
            let ben_resend = invite(app, &ben, "cid@example.com").await;
            for (account, path) in [(&ann, ann_resend), (&ben, ben_resend)] {
                let rejected = app.session(&account.cookie).post(&path, json!({})).await;
                assert_retry_after(&rejected.assert_error(429, "RATE_LIMIT_ERROR"), "mail_address");
            }
        })
        .await;
}

#[tokio::test]
async fn a_replayed_invitation_does_not_count() {
    with_limits("{}")
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = app.session(&ann.cookie).with("idempotency-key", "one");
            let mut path = invites_path(&ann);
            for number in 0..6 {
                let created =
                    client.post(&path, invitation("ben@example.com")).await.assert_status(201);
                let replayed = if number == 0 { "" } else { "true" };
                assert_eq!(created.header("idempotent-replayed"), replayed);
                if number == 5 {
                    path = format!("{path}/{}/resend", text(&created.body["data"]["id"]));
                }
            }
            for _ in 0..6 {
                client.post(&path, json!({})).await.assert_status(200);
            }
            // So far, two mails were sent. The third is sent, the fourth is not.
            invite(app, &ann, "ben@example.com").await;
            let session = app.session(&ann.cookie);
            let rejected = session.post(&invites_path(&ann), invitation("ben@example.com")).await;
            rejected.assert_status(429);
        })
        .await;
}

#[tokio::test]
async fn with_required_verification_the_limits_do_not_reveal_whether_an_account_exists() {
    with_settings(&[("LIMITS_PROFILE", "usual"), ("REQUIRE_EMAIL_VERIFICATION", "on")])
        .run(async |app| {
            app.sign_up_for_mail("ann@example.com").await;
            app.execute("delete from rate_limits").await;
            let (server, path) = (app.replica(), "/api/auth/sign-up/email");
            for email in ["ann@example.com", "nobody@example.com"] {
                for _ in 0..3 {
                    server.anonymous().post(path, sign_up_request(email)).await.assert_status(200);
                }
                let rejected = server.anonymous().post(path, sign_up_request(email)).await;
                assert_retry_after(&rejected.assert_error(429, "RATE_LIMIT_ERROR"), "mail_address");
            }
            server.close();
        })
        .await;
}

#[tokio::test]
async fn the_rate_limit_headers_do_not_contain_the_limits_of_an_email_address() {
    with_limits_behind_proxy("{}")
        .run(async |app| {
            app.sign_up_account("ann@example.com").await;
            let reset = "/api/auth/request-password-reset";
            for email in ["ann@example.com", "nobody@example.com"] {
                let request = json!({ "email": email });
                let mailed =
                    client_from(app, "192.0.2.1").post(reset, request).await.assert_status(200);
                let failed = sign_in_from(app, "192.0.2.1", email, "not the password").await;
                for response in [mailed, failed.assert_status(401)] {
                    for header in ["ratelimit", "ratelimit-policy"] {
                        let value = response.header(header);
                        assert!(!value.is_empty());
                        for limit in ["sign_in_failures", "mail_address"] {
                            assert!(!value.contains(limit), "{value}");
                        }
                    }
                }
            }
        })
        .await;
}
