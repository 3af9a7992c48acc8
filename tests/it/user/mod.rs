//! The `user` family: `/api/auth/…`, `/api/user/me`, `/api/user/organizations/…`.

mod account;
mod api_keys;
mod app_grants;
mod app_policy;
mod app_secrets;
mod apps;
mod audit_logs;
mod email_proofs;
mod html_pages;
mod invites;
mod lists;
mod mail;
mod members;
mod organizations;
mod passwords;
mod personal_tokens;
mod projects;
mod security;
mod sessions;
mod sign_up;
mod unproven_accounts;
mod usage;
mod verification;

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::accounts::TestAccount;

/// A path below an organization.
fn organization_path(organization: &str, rest: &str) -> String {
    format!("/api/user/organizations/{organization}{rest}")
}

/// A personal access token with these scopes, pinned to an organization or to none.
async fn token(
    app: &TestApp,
    account: &TestAccount,
    scopes: Value,
    pinned_to: Option<&str>,
) -> String {
    let mut request = json!({ "name": "ci", "scopes": scopes });
    if let Some(organization) = pinned_to {
        request["metadata"] = json!({ "organizationId": organization });
    }
    app.create_token(&account.cookie, request).await.0
}

/// Creates an account, and makes all others owners of its home organization.
async fn shared_organization(app: &TestApp) -> TestAccount {
    let host = app.sign_up_account("host@example.com").await;
    app.execute(
        "insert into users (id, organization_id, handle, role, account_id, created_at)
         select gen_random_uuid(), h.home_organization_id, 'user_' || a.handle, 'owner', a.id,
                now()
         from accounts a, accounts h
         where h.email = 'host@example.com' and a.id <> h.id",
    )
    .await;
    host
}

/// Sets every role to `member`.
async fn demote_all(app: &TestApp) {
    app.execute("update users set role = 'member'").await;
}

/// Checks that a list or an object of an organization is readable with the required role or scope
/// only.
async fn assert_readable_by_members_and_keys(app: &TestApp, rest: &str, scope: &str, role: &str) {
    let ann = app.sign_up_account("ann@example.com").await;
    let host = shared_organization(app).await;
    let stranger = app.sign_up().await;
    let own = app.create_key(&ann, json!({ "name": "own", "scopes": [scope] })).await;
    let (own_token, _) = app.exchange(&own.api_key).await;
    let path = organization_path(&ann.org_id, rest);
    let authorized = [
        app.session(&ann.cookie),
        app.bearer(&ann.token),
        app.key(&token(app, &ann, json!([scope]), None).await),
        app.bearer(&token(app, &ann, json!(["*"]), Some(&ann.org_id)).await),
        app.key(&own.api_key),
        app.bearer(&own_token),
    ];
    for client in &authorized {
        client.get(&path).await.assert_status(200);
        // The organization's id is case-insensitive.
        client.get(&organization_path(&ann.org_id.to_uppercase(), rest)).await.assert_status(200);
    }
    let elsewhere = app.key(&token(app, &ann, json!(["*"]), Some(&host.org_id)).await);
    elsewhere.get(&organization_path(&host.org_id, rest)).await.assert_status(200);
    let rejected = elsewhere.get(&path).await.assert_error(403, "FORBIDDEN").text;
    app.key(&stranger.api_key).get(&path).await.assert_error(403, "FORBIDDEN");
    // The response does not reveal whether the organization exists.
    for client in &authorized {
        for organization in [&stranger.org_id, "org_never", "user_1", "%00", "a%20b"] {
            let response = client.get(&organization_path(organization, rest)).await;
            assert_eq!(response.assert_error(403, "FORBIDDEN").text, rejected, "{organization}");
        }
    }

    let other = app.create_key(&ann, json!({ "name": "other", "scopes": ["user:read"] })).await;
    for narrow in [other.api_key, token(app, &ann, json!(["user:read"]), None).await] {
        let response = app.key(&narrow).get(&path).await;
        let response = response.assert_error(403, "API_KEY_MISSING_SCOPES");
        assert_eq!(response.body["meta"]["missing_scopes"], json!([scope]));
    }

    demote_all(app).await;
    for client in &authorized[..4] {
        let response = client.get(&path).await;
        if role == "member" {
            response.assert_status(200);
        } else {
            let response = response.assert_error(403, "INSUFFICIENT_PERMISSIONS");
            assert_eq!(response.body["meta"]["required_role"], role);
        }
    }
    // The organization's own keys need no role.
    app.key(&own.api_key).get(&path).await.assert_status(200);
    app.execute("update users set removed_at = now() where account_id is not null").await;
    for client in &authorized[..4] {
        assert_eq!(client.get(&path).await.assert_error(403, "FORBIDDEN").text, rejected);
    }
}
