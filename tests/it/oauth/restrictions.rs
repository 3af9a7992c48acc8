//! What limits an app after it was granted access.

use serde_json::json;

use super::flow::{SCOPE, grant, refresh, register};
use crate::support::oauth::Browser;
use crate::support::{run, with_settings};

#[tokio::test]
async fn an_app_that_was_changed_is_unverified_and_needs_consent_again() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = register(app, &ann).await;
        grant(app, &client, (&ann, &ann.org_id)).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let path = client.0.path(&[("scope", SCOPE)]);
        let remembered = browser.get(&path).await.assert_status(303);
        assert!(remembered.header("location").starts_with(client.0.redirect_uri));
        app.execute("update oauth_clients set visibility = 'public', published_at = now()").await;
        app.clock.advance(chrono::TimeDelta::seconds(1));
        let change = json!({ "redirectUris": [client.0.redirect_uri, "https://b.example/cb"] });
        let app_path =
            format!("/api/user/organizations/{}/apps/{}", ann.org_id, client.0.client_id);
        app.session(&ann.cookie).put(&app_path, change).await.assert_status(200);
        let published = "select count(*) from oauth_clients where published_at is not null";
        assert_eq!(app.count(published).await, 0);
        let handle = browser.begin(&path).await;
        let page = browser.get(&format!("/oauth2/consent?request={handle}")).await;
        assert!(page.text.contains("unverified"), "{}", page.text);
    })
    .await;
}

#[tokio::test]
async fn a_scope_that_an_app_may_no_longer_request_is_in_no_new_token() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = register(app, &ann).await;
        let tokens = grant(app, &client, (&ann, &ann.org_id)).await;
        app.execute("update oauth_clients set scopes = '{projects:read,offline_access}'").await;
        let narrowed = refresh(app, &client, &tokens).await.assert_status(200).body;
        assert_eq!(narrowed["scope"], "projects:read offline_access");
        app.execute("update oauth_clients set scopes = '{usage:read,offline_access}'").await;
        let rejected = refresh(app, &client, &narrowed).await.assert_status(400);
        assert_eq!(rejected.body["error"], "invalid_grant");
    })
    .await;
}

#[tokio::test]
async fn the_requests_of_an_app_count_against_the_organization_s_monthly_quota() {
    with_settings(&[("PLANS", r#"{"trial":{"requests_per_month":2}}"#)])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let client = register(app, &ann).await;
            let tokens = grant(app, &client, (&ann, &ann.org_id)).await;
            let api = app.bearer(tokens["access_token"].as_str().unwrap());
            let projects = format!("/api/user/organizations/{}/projects", ann.org_id);
            api.get(&projects).await.assert_status(200);
            api.get(&projects).await.assert_status(200);
            api.get(&projects).await.assert_status(429);
        })
        .await;
}

#[tokio::test]
async fn a_password_reset_of_an_unproven_account_revokes_its_grants() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let client = register(app, &ann).await;
        let tokens = grant(app, &client, (&ann, &ann.org_id)).await;
        app.execute("update accounts set proven_at = null").await;
        let request = json!({ "email": "ann@example.com" });
        let reset = app.anonymous().post("/api/auth/request-password-reset", request).await;
        reset.assert_status(200);
        let token = app.mailed_token().await;
        let page = app.anonymous().get(&format!("/api/auth/reset-password?token={token}")).await;
        assert!(page.text.contains("1 grant to an app"), "{}", page.text);
        let new = json!({ "token": token, "newPassword": "another-long-passphrase" });
        app.anonymous().post("/api/auth/reset-password", new).await.assert_status(200);
        let reason = "select count(*) from oauth_grants where revoked_reason = 'address_unproven'";
        assert_eq!(app.count(reason).await, 1);
        refresh(app, &client, &tokens).await.assert_status(400);
        app.mails().await;
    })
    .await;
}

#[tokio::test]
async fn ended_grants_and_the_apps_of_deleted_organizations_are_removed() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let ben = app.verified_account("ben@example.com").await;
        let client = register(app, &ann).await;
        grant(app, &client, (&ann, &ann.org_id)).await;
        app.execute("update oauth_clients set visibility = 'public'").await;
        grant(app, &client, (&ben, &ben.org_id)).await;
        let grants = "select count(*) from oauth_grants";
        let sweep = async || tenantry::domain::retention::sweep(&app.app).await;
        sweep().await;
        assert_eq!(app.count(grants).await, 2);
        app.execute(
            "update oauth_grants g
             set revoked_at = now() - interval '366 days', revoked_reason = 'person'
             from accounts a where a.id = g.account_id and a.email = 'ben@example.com'",
        )
        .await;
        sweep().await;
        assert_eq!(app.count(grants).await, 1);
        app.execute(
            "update organizations o set deleted_at = now() - interval '31 days'
             from accounts a where a.home_organization_id = o.id and a.email = 'ann@example.com'",
        )
        .await;
        sweep().await;
        let clients = "select count(*) from oauth_clients";
        assert_eq!((app.count(grants).await, app.count(clients).await), (0, 0));
        let purged = "select count(*) from organizations where purged_at is not null";
        assert_eq!(app.count(purged).await, 1);
    })
    .await;
}
