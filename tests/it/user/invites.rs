//! `/api/user/organizations/{organizationId}/invites`, and accepting one.

use serde_json::json;

use crate::support::accounts::TestAccount;
use crate::support::client::TestResponse;
use crate::support::{TestApp, run};

fn path(owner: &TestAccount) -> String {
    format!("/api/user/organizations/{}/invites", owner.org_id)
}

async fn invite(app: &TestApp, owner: &TestAccount, email: &str, role: &str) -> TestResponse {
    let request = json!({ "email": email, "role": role });
    app.session(&owner.cookie).post(&path(owner), request).await
}

async fn accept(app: &TestApp, account: &TestAccount, token: &str) -> TestResponse {
    let path = format!("/api/user/invites/{token}/accept");
    app.session(&account.cookie).post(&path, json!({})).await
}

#[tokio::test]
async fn an_invited_account_accepts_from_the_mail_and_becomes_a_member() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let created = invite(app, &ann, "BEN@example.com", "admin").await.assert_status(201);
        assert_eq!(created.body["data"]["status"], "pending");
        assert_eq!(created.body["data"]["email"], "ben@example.com");
        let mails = app.mails().await;
        assert_eq!(mails[0].header("To"), "ben@example.com");
        let link = mails[0].link().unwrap();
        assert!(link.starts_with("http://127.0.0.1:8080/api/user/invites/tnt_link_"), "{link}");
        assert!(link.ends_with(&format!("/accept?organization={}", ann.org_id)), "{link}");
        // The organization's name is a member's free text: it is not in the mail.
        assert!(!mails[0].text.contains("Ann Example"));
        let here = link.strip_prefix("http://127.0.0.1:8080").unwrap();
        let page = app.session(&ben.cookie).get(here).await.assert_status(200);
        assert!(page.text.contains("<button>"));
        let token = mails[0].token().unwrap();
        let accepted = accept(app, &ben, &token).await.assert_status(200);
        assert_eq!(accepted.body["data"]["id"], ann.org_id);
        assert_eq!(accepted.body["data"]["role"], "admin");
        let list = app.session(&ben.cookie).get(&path(&ann)).await.assert_status(200);
        assert_eq!(list.body["data"][0]["status"], "accepted");
        accept(app, &ben, &token).await.assert_error(404, "NOT_FOUND");
        let events = "select count(*) from audit_events where path like '%tnt_link_%'";
        assert_eq!(app.count(events).await, 0);
    })
    .await;
}

#[tokio::test]
async fn only_the_proven_owner_of_the_invited_address_accepts() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let cleo = app.verified_account("cleo@example.com").await;
        invite(app, &ann, "ben@example.com", "member").await.assert_status(201);
        let token = app.mailed_token().await;
        accept(app, &cleo, &token).await.assert_error(403, "FORBIDDEN");
        // The account has the address, but has not proven it.
        let ben = app.sign_up_account("ben@example.com").await;
        let verify = app.mailed_token().await;
        accept(app, &ben, &token).await.assert_error(403, "FORBIDDEN");
        let verifying = app.session(&ben.cookie);
        verifying
            .post("/api/auth/verify-email", json!({ "token": verify }))
            .await
            .assert_status(200);
        accept(app, &ben, &token).await.assert_status(200);
        let path = format!("/api/user/invites/{token}/accept");
        app.anonymous().post(&path, json!({})).await.assert_error(401, "AUTHENTICATION_REQUIRED");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_20_concurrent_acceptances_of_one_invitation_creates_the_membership() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        invite(app, &ann, &ben.email, "member").await.assert_status(201);
        let path = format!("/api/user/invites/{}/accept", app.mailed_token().await);
        let mut attempts = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (session, path) = (app.session(&ben.cookie), path.clone());
            attempts.spawn(async move { session.post(&path, json!({})).await.status.as_u16() });
        }
        let statuses = attempts.join_all().await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 404).count(), 19, "{statuses:?}");
        assert_eq!(app.count("select count(*) from users where role = 'member'").await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_invitation_ends_after_seven_days_or_when_it_is_revoked_or_replaced() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let session = app.session(&ann.cookie);
        invite(app, &ann, &ben.email, "member").await.assert_status(201);
        let first = app.mailed_token().await;
        let second = invite(app, &ann, &ben.email, "admin").await.assert_status(201);
        accept(app, &ben, &first).await.assert_error(404, "NOT_FOUND");
        let link = app.mailed_token().await;
        let one = format!("{}/{}", path(&ann), second.body["data"]["id"].as_str().unwrap());

        let week = "select count(*) from invites where expires_at = created_at + interval '7 days'";
        assert_eq!(app.count(week).await, 2);
        app.execute("update invites set expires_at = now() where revoked_at is null").await;
        accept(app, &ben, &link).await.assert_error(404, "NOT_FOUND");
        let list = session.get(&path(&ann)).await.assert_status(200);
        let statuses: Vec<_> =
            list.body["data"].as_array().unwrap().iter().map(|it| it["status"].clone()).collect();
        assert!(statuses.contains(&json!("expired")) && statuses.contains(&json!("revoked")));
        // After a resend the invitation is valid again, with the newest link only.
        session.post(&format!("{one}/resend"), json!({})).await.assert_status(200);
        let again = app.mailed_token().await;
        accept(app, &ben, &link).await.assert_error(404, "NOT_FOUND");
        session.delete(&one).await.assert_status(200);
        accept(app, &ben, &again).await.assert_error(404, "NOT_FOUND");
        session.delete(&one).await.assert_error(404, "NOT_FOUND");
        session.post(&format!("{one}/resend"), json!({})).await.assert_error(404, "NOT_FOUND");
        assert!(app.mails().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_invitation_that_was_revoked_before_it_was_mailed_is_not_mailed() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let created = invite(app, &ann, "ben@example.com", "member").await.assert_status(201);
        let one = format!("{}/{}", path(&ann), created.body["data"]["id"].as_str().unwrap());
        app.session(&ann.cookie).delete(&one).await.assert_status(200);
        assert!(app.mails().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_membership_created_by_open_signup_is_claimed_by_inviting_an_owner() {
    run(async |app| {
        let acme = app.sign_up().await;
        let ann = app.verified_account("ann@example.com").await;
        let invites = format!("/api/user/organizations/{}/invites", acme.org_id);
        let request = json!({ "email": ann.email, "role": "owner" });
        app.key(&acme.api_key).post(&invites, request).await.assert_status(201);
        let token = app.mailed_token().await;
        let accepted = accept(app, &ann, &token).await.assert_status(200);
        assert_eq!(accepted.body["data"]["role"], "owner");
        let own = format!("/api/user/organizations/{}/my-membership", acme.org_id);
        let own = app.session(&ann.cookie).get(&own).await.assert_status(200);
        assert_eq!(own.body["data"]["id"], acme.user_id);
        let list = app.session(&ann.cookie).get("/api/user/organizations").await.assert_status(200);
        assert_eq!(list.body["meta"]["total"], 2);
    })
    .await;
}

#[tokio::test]
async fn only_authorized_roles_invite_and_only_owners_invite_owners() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let cleo = app.verified_account("cleo@example.com").await;
        app.invite_and_accept(&ann, &ben, "admin").await;
        app.invite_and_accept(&ann, &cleo, "member").await;
        let ask = async |account: &TestAccount, role: &str| {
            let request = json!({ "email": "dan@example.com", "role": role });
            app.session(&account.cookie).post(&path(&ann), request).await
        };
        ask(&cleo, "member").await.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        app.session(&cleo.cookie)
            .get(&path(&ann))
            .await
            .assert_error(403, "INSUFFICIENT_PERMISSIONS");
        let rejected = ask(&ben, "owner").await.assert_error(403, "INSUFFICIENT_PERMISSIONS");
        assert_eq!(rejected.body["meta"]["required_role"], "owner");
        ask(&ben, "member").await.assert_status(201);
        invite(app, &ann, "ben@example.com", "member").await.assert_error(409, "CONFLICT");
        invite(app, &ann, "ann@example.com", "member").await.assert_error(409, "CONFLICT");
    })
    .await;
}

#[tokio::test]
async fn an_invalid_address_or_role_is_rejected_by_name() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        for email in ["", "ben", "ben@", "a@example.com, b@example.com", "a@b.c\r\nBcc: d@e.f"] {
            let response = invite(app, &ann, email, "member,owner").await.assert_status(400);
            assert_eq!(response.invalid_fields(), ["email", "role"], "{email:?}");
        }
        let smuggled = json!({ "email": "b@example.com", "role": "member",
                               "organizationId": "x", "invitedBy": "y" });
        let response =
            app.session(&ann.cookie).post(&path(&ann), smuggled).await.assert_status(400);
        let mut fields = response.invalid_fields();
        fields.sort_unstable();
        assert_eq!(fields, ["invitedBy", "organizationId"]);
    })
    .await;
}

#[tokio::test]
async fn an_invalid_token_or_the_token_of_another_link_is_no_invitation() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let request = json!({ "email": ann.email });
        app.anonymous().post("/api/auth/request-password-reset", request).await.assert_status(200);
        let reset = app.mailed_token().await;
        for token in ["garbage", "tnt_link_", reset.as_str(), "%00"] {
            accept(app, &ann, token).await.assert_error(404, "NOT_FOUND");
        }
    })
    .await;
}
