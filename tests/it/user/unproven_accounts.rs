//! What requires a proven address: inviting, and creating further organizations.

use serde_json::json;

use crate::support::accounts::PASSWORD;
use crate::support::app::text;
use crate::support::client::TestClient;
use crate::support::{TestApp, run, with_settings};

async fn assert_may_invite(
    app: &TestApp,
    client: &TestClient,
    org_id: &str,
    email: &str,
    may: bool,
) {
    let path = format!("/api/user/organizations/{org_id}/invites");
    let response = client.post(&path, json!({ "email": email, "role": "member" })).await;
    if may {
        response.assert_status(201);
        app.mailed_token().await;
    } else {
        response.assert_error(403, "EMAIL_NOT_VERIFIED");
        assert!(app.mails().await.is_empty());
    }
}

#[tokio::test]
async fn an_unproven_account_cannot_invite_with_any_credential() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let link = app.mailed_token().await;
        let scopes = json!(["members:write"]);
        let pinned = json!({ "organizationId": ann.org_id });
        let token = json!({ "name": "t", "scopes": scopes, "metadata": pinned });
        let (pinned, _) = app.create_token(&ann.cookie, token).await;
        let (token, _) =
            app.create_token(&ann.cookie, json!({ "name": "t", "scopes": scopes })).await;
        // Keys that the account created are restricted as well.
        let key = app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await.api_key;
        let child = app.create_key_with(&key, json!({ "name": "child" })).await.api_key;
        let credentials = [
            app.session(&ann.cookie),
            app.bearer(&ann.token),
            app.key(&pinned),
            app.key(&token),
            app.key(&key),
            app.key(&child),
        ];
        for client in &credentials {
            assert_may_invite(app, client, &ann.org_id, "ben@example.com", false).await;
        }
        let request = json!({ "token": link });
        let session = app.session(&ann.cookie);
        session.post("/api/auth/verify-email", request).await.assert_status(200);
        for (number, client) in credentials.iter().enumerate() {
            let email = format!("person{number}@example.com");
            assert_may_invite(app, client, &ann.org_id, &email, true).await;
        }
    })
    .await;
}

/// A membership that open signup created belongs to no account: there is no address to prove.
#[tokio::test]
async fn a_key_of_an_unclaimed_organization_can_invite() {
    run(async |app| {
        let acme = app.sign_up().await;
        assert_may_invite(app, &app.key(&acme.api_key), &acme.org_id, "ben@example.com", true)
            .await;
    })
    .await;
}

/// An account from before 2026-11-28 that has left: its keys stay the organization's.
#[tokio::test]
async fn a_key_that_outlives_its_membership_invites_whether_or_not_the_address_was_proven() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let membership = app.invite_and_accept(&ann, &ben, "admin").await;
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let session = app.session(&ben.cookie);
        let request = json!({ "name": "k", "scopes": ["members:write"] });
        let created = session.post(&format!("{path}/api-keys"), request).await.assert_status(201);
        let key = app.key(&text(&created.body["data"]["key"]));
        app.execute("update accounts set proven_at = null where email = 'ben@example.com'").await;
        assert_may_invite(app, &key, &ann.org_id, "cleo@example.com", false).await;
        let own = format!("{path}/members/{membership}");
        session.delete(&own).await.assert_status(200);
        assert_may_invite(app, &key, &ann.org_id, "cleo@example.com", true).await;
    })
    .await;
}

/// The invitation was created before inviting required a proof.
#[tokio::test]
async fn an_unproven_account_cannot_resend_an_invitation() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let path = format!("/api/user/organizations/{}/invites", ann.org_id);
        let session = app.session(&ann.cookie);
        let request = json!({ "email": "ben@example.com", "role": "member" });
        let created = session.post(&path, request).await.assert_status(201);
        app.mails().await;
        app.execute("update accounts set verified_at = null, proven_at = null").await;
        let again = format!("{path}/{}/resend", text(&created.body["data"]["id"]));
        session.post(&again, json!({})).await.assert_error(403, "EMAIL_NOT_VERIFIED");
        assert!(app.mails().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_unproven_account_cannot_create_another_organization() {
    run(async |app| {
        let ann = app.sign_up_account("ann@example.com").await;
        let link = app.mailed_token().await;
        let clients = [app.session(&ann.cookie), app.bearer(&ann.token)];
        for client in &clients {
            let rejected = client.post("/api/user/organizations", json!({ "name": "More" })).await;
            rejected.assert_error(403, "EMAIL_NOT_VERIFIED");
        }
        let request = json!({ "token": link });
        clients[0].post("/api/auth/verify-email", request).await.assert_status(200);
        for client in &clients {
            let created = client.post("/api/user/organizations", json!({ "name": "More" })).await;
            created.assert_status(201);
        }
    })
    .await;
}

/// An account from before 2026-11-28, when a click in the mail was enough.
#[tokio::test]
async fn an_address_with_only_a_clicked_link_is_unproven_and_can_be_proven_without_a_reset() {
    with_settings(&[("REQUIRE_EMAIL_VERIFICATION", "on")])
        .run(async |app| {
            let ann = "ann@example.com";
            app.sign_up_for_mail(ann).await;
            app.mails().await;
            app.execute("update accounts set verified_at = now()").await;
            app.execute("delete from email_tokens").await;
            // It can sign in, and its address is reported as verified.
            let signed_in = app.sign_in(ann, PASSWORD).await.assert_status(200);
            assert_eq!(signed_in.body["data"]["user"]["emailVerified"], true);
            let session = app.session(&signed_in.cookie().unwrap());
            let list = session.get("/api/user/organizations").await.assert_status(200);
            let org_id = text(&list.body["data"][0]["id"]);
            let request = json!({ "name": "t", "scopes": ["members:write"] });
            let (token, _) = app.create_token(&signed_in.cookie().unwrap(), request).await;
            let more = json!({ "name": "More" });
            for client in [&session, &app.key(&token)] {
                assert_may_invite(app, client, &org_id, "ben@example.com", false).await;
            }
            let rejected = session.post("/api/user/organizations", more.clone()).await;
            rejected.assert_error(403, "EMAIL_NOT_VERIFIED");
            // A stranger who signs up with the address takes over nothing.
            let request = json!({ "email": ann, "password": "of a stranger 1", "name": "S" });
            app.anonymous().post("/api/auth/sign-up/email", request).await.assert_status(200);
            assert_eq!(app.mails().await[0].token(), None);
            app.sign_in(ann, PASSWORD).await.assert_status(200);

            let again = "/api/auth/send-verification-email";
            session.post(again, json!({})).await.assert_status(200);
            let request = json!({ "token": app.mailed_token().await });
            session.post("/api/auth/verify-email", request).await.assert_status(200);
            for (number, client) in [&session, &app.key(&token)].into_iter().enumerate() {
                let email = format!("person{number}@example.com");
                assert_may_invite(app, client, &org_id, &email, true).await;
            }
            session.post("/api/user/organizations", more).await.assert_status(201);
            session.post(again, json!({})).await.assert_status(200);
            assert!(app.mails().await.is_empty());
        })
        .await;
}

#[tokio::test]
async fn an_account_that_only_followed_the_link_cannot_resend_an_earlier_invitation() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let path = format!("/api/user/organizations/{}/invites", ann.org_id);
        let session = app.session(&ann.cookie);
        let request = json!({ "email": "ben@example.com", "role": "member" });
        let created = session.post(&path, request).await.assert_status(201);
        app.mails().await;
        app.execute("update accounts set proven_at = null").await;
        let again = format!("{path}/{}/resend", text(&created.body["data"]["id"]));
        session.post(&again, json!({})).await.assert_error(403, "EMAIL_NOT_VERIFIED");
    })
    .await;
}
