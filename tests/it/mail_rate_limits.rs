//! How often mails may be asked for: by one client, and to one recipient, each kind apart.

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
            let refused = reset("192.0.2.4", "ANN@example.com").await;
            assert_retry_after(&refused.assert_error(429, "RATE_LIMIT_ERROR"), "mail_address");
            for number in 0..6 {
                reset("192.0.2.9", &format!("{number}@example.com")).await.assert_status(200);
            }
            let refused = reset("192.0.2.9", "another@example.com").await;
            assert_retry_after(&refused.assert_error(429, "RATE_LIMIT_ERROR"), "mail_client");
            let request = json!({ "email": "more@example.com", "password": PASSWORD, "name": "A" });
            for path in ["/api/auth/sign-up/email", "/auth/signup"] {
                client_from(app, "192.0.2.9").post(path, request.clone()).await.assert_status(429);
            }
        })
        .await;
}

#[tokio::test]
async fn nobody_is_kept_from_a_mail_by_mails_of_other_kinds_or_by_what_mailed_nobody() {
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
            let asked = json!({ "email": ann.email });
            // One was sent at signup.
            for _ in 0..2 {
                session.post(verify, json!({})).await.assert_status(200);
            }
            for _ in 0..3 {
                app.anonymous().post(reset, asked.clone()).await.assert_status(200);
                invite(app, &ben, &ann.email).await;
            }
            for refused in [
                session.post(verify, json!({})).await,
                app.anonymous().post(reset, asked).await,
                app.session(&ben.cookie).post(&invites(&ben), invitation(&ann.email)).await,
            ] {
                assert_retry_after(&refused.assert_error(429, "RATE_LIMIT_ERROR"), "mail_address");
            }
        })
        .await;
}

fn invites(person: &TestAccount) -> String {
    format!("/api/user/organizations/{}/invites", person.org_id)
}

fn invitation(email: &str) -> serde_json::Value {
    json!({ "email": email, "role": "member" })
}

/// Invites somebody; the path to do it again.

#[tokio::test]
async fn nobody_is_kept_from_a_mail_by_who_hangs_up_before_it_is_sent() {
    with_settings(&[("LIMITS_PROFILE", "usual"), ("REQUIRE_EMAIL_VERIFICATION", "on")])
        .run(async |app| {
            let mut elsewhere = app.sql().await;
            let mut held = elsewhere.begin().await.unwrap();
            let lock = "lock table accounts in exclusive mode";
            sqlx::query(lock).execute(&mut *held).await.unwrap();
            let new = json!({ "email": "ann@example.com", "password": PASSWORD, "name": "Ann" });
            let counted = async |is_counted: bool| {
                let open = "select count(*) from rate_limits
                            where name = 'mail_address' and full_at > now()";
                let is_it = async || (app.count(open).await > 0) == is_counted;
                wait_until_async("the mail is counted, or given back", is_it).await;
            };
            let stranger = app.anonymous();
            let signing_up = async {
                tokio::select! {
                    answer = stranger.post("/api/auth/sign-up/email", new) => {
                        panic!("{}", answer.text)
                    }
                    () = counted(true) => {}
                }
                counted(false).await;
            };
            signing_up.await;
            held.rollback().await.unwrap();
        })
        .await;
}

async fn invite(app: &TestApp, owner: &TestAccount, email: &str) -> String {
    let session = app.session(&owner.cookie);
    let made = session.post(&invites(owner), invitation(email)).await.assert_status(201);
    format!("{}/{}/resend", invites(owner), text(&made.body["data"]["id"]))
}

#[tokio::test]
async fn an_invitation_that_fails_takes_nothing_from_whom_it_was_for() {
    with_limits("{}")
        .run(async |app| {
            let owner = app.verified_account("ann@example.com").await;
            let member = app.verified_account("ben@example.com").await;
            // The one invitation that joining takes.
            app.invite_and_accept(&owner, &member, "member").await;
            for _ in 0..4 {
                let session = app.session(&owner.cookie);
                let again = session.post(&invites(&owner), invitation(&member.email)).await;
                again.assert_error(409, "CONFLICT");
            }
            let other = app.verified_account("cid@example.com").await;
            invite(app, &other, &member.email).await;
            invite(app, &other, &member.email).await;
        })
        .await;
}

#[tokio::test]
async fn many_organizations_mail_one_recipient_no_more_often_than_one_does() {
    with_limits("{}")
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let ben = app.verified_account("ben@example.com").await;
            let of_ann = invite(app, &ann, "cid@example.com").await;
            app.session(&ann.cookie).post(&of_ann, json!({})).await.assert_status(200);
            let of_ben = invite(app, &ben, "cid@example.com").await;
            for (person, path) in [(&ann, of_ann), (&ben, of_ben)] {
                let refused = app.session(&person.cookie).post(&path, json!({})).await;
                assert_retry_after(&refused.assert_error(429, "RATE_LIMIT_ERROR"), "mail_address");
            }
        })
        .await;
}

#[tokio::test]
async fn a_repeated_invitation_is_answered_again_however_often_and_takes_nothing() {
    with_limits("{}")
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let named = app.session(&ann.cookie).with("idempotency-key", "one");
            let mut path = invites(&ann);
            for number in 0..6 {
                let made =
                    named.post(&path, invitation("ben@example.com")).await.assert_status(201);
                let again = if number == 0 { "" } else { "true" };
                assert_eq!(made.header("idempotent-replayed"), again);
                if number == 5 {
                    path = format!("{path}/{}/resend", text(&made.body["data"]["id"]));
                }
            }
            for _ in 0..6 {
                named.post(&path, json!({})).await.assert_status(200);
            }
            // The third, and the fourth.
            invite(app, &ann, "ben@example.com").await;
            let session = app.session(&ann.cookie);
            let refused = session.post(&invites(&ann), invitation("ben@example.com")).await;
            refused.assert_status(429);
        })
        .await;
}

#[tokio::test]
async fn where_addresses_have_to_be_proven_the_limits_tell_of_no_account() {
    with_settings(&[("LIMITS_PROFILE", "usual"), ("REQUIRE_EMAIL_VERIFICATION", "on")])
        .run(async |app| {
            app.sign_up_for_mail("ann@example.com").await;
            app.execute("delete from rate_limits").await;
            let (server, path) = (app.replica(), "/api/auth/sign-up/email");
            for email in ["ann@example.com", "nobody@example.com"] {
                for _ in 0..3 {
                    server.anonymous().post(path, sign_up_request(email)).await.assert_status(200);
                }
                let refused = server.anonymous().post(path, sign_up_request(email)).await;
                assert_retry_after(&refused.assert_error(429, "RATE_LIMIT_ERROR"), "mail_address");
            }
            server.close();
        })
        .await;
}

#[tokio::test]
async fn what_is_left_of_another_s_limit_is_told_to_nobody() {
    with_limits_behind_proxy("{}")
        .run(async |app| {
            app.sign_up_account("ann@example.com").await;
            let reset = "/api/auth/request-password-reset";
            for email in ["ann@example.com", "nobody@example.com"] {
                let asked = json!({ "email": email });
                let mailed =
                    client_from(app, "192.0.2.1").post(reset, asked).await.assert_status(200);
                let failed = sign_in_from(app, "192.0.2.1", email, "not the password").await;
                for answer in [mailed, failed.assert_status(401)] {
                    for header in ["ratelimit", "ratelimit-policy"] {
                        let told = answer.header(header);
                        assert!(!told.is_empty());
                        for limit in ["sign_in_failures", "mail_address"] {
                            assert!(!told.contains(limit), "{told}");
                        }
                    }
                }
            }
        })
        .await;
}
