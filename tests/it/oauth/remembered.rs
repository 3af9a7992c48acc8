//! Access that was granted before is granted again without a page, and only then.

use chrono::TimeDelta;
use serde_json::json;
use sqlx::Executor;

use super::{CODES, LIVE_GRANTS, account_and_client, texts};
use crate::support::app::text;
use crate::support::client::TestResponse;
use crate::support::oauth::{Browser, OauthClientSpec};
use crate::support::run;

const EVENTS: &str = "select array_agg(event_type order by id) from audit_events
                      where event_type like 'app\\_grant%'";

/// Whether the client got a code, or the person is asked.
#[track_caller]
fn has_code(response: &TestResponse) -> bool {
    assert_eq!(response.status, 303, "{}", response.text);
    let location = response.header("location");
    assert!(location.contains("?code=") || location.starts_with("/oauth2/consent?"), "{location}");
    location.contains("?code=")
}

#[tokio::test]
async fn the_same_access_is_granted_again_without_a_page() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        assert!(!has_code(&browser.get(&client.path(&[])).await));
        browser.grant(&client.path(&[]), &ann.org_id).await;
        assert!(has_code(&browser.get(&client.path(&[])).await));
        assert!(has_code(&browser.get(&client.path(&[("prompt", "none")])).await));
        let named = client.path(&[("organization_id", &ann.org_id.to_uppercase())]);
        assert!(has_code(&browser.get(&named).await));
        assert_eq!(app.count(LIVE_GRANTS).await, 1);
        assert_eq!(app.count(CODES).await, 4);
        for (name, value) in [
            ("prompt", "consent"),
            ("prompt", "select_account"),
            ("scope", "projects:read projects:write"),
            ("scope", "projects:read offline_access"),
            ("organization_id", "org_other"),
        ] {
            assert!(!has_code(&browser.get(&client.path(&[(name, value)])).await), "{name}");
        }
        assert_eq!(texts(app, EVENTS).await, ["app_grant.created"]);
        // Another account, and another client.
        let ben = app.verified_account("ben@example.com").await;
        let mut other = browser.with_session(&ben.cookie);
        assert!(!has_code(&other.get(&client.path(&[])).await));
        let another = OauthClientSpec::default().insert(app, &ben.org_id).await;
        assert!(!has_code(&browser.get(&another.path(&[])).await));
    })
    .await;
}

#[tokio::test]
async fn with_several_organizations_the_person_is_asked_unless_the_client_names_one() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        browser.grant(&client.path(&[]), &ann.org_id).await;
        let session = app.session(&ann.cookie);
        let created = session.post("/api/user/organizations", json!({ "name": "B" })).await;
        let other = text(&created.assert_status(201).body["data"]["id"]);
        assert!(!has_code(&browser.get(&client.path(&[])).await));
        assert!(has_code(&browser.get(&client.path(&[("organization_id", &ann.org_id)])).await));
        assert!(!has_code(&browser.get(&client.path(&[("organization_id", &other)])).await));
        browser.grant(&client.path(&[]), &other).await;
        assert_eq!(app.count(LIVE_GRANTS).await, 2);
    })
    .await;
}

#[tokio::test]
async fn more_access_is_added_to_the_one_grant() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        browser.grant(&client.path(&[]), &ann.org_id).await;
        let wider = client.path(&[("scope", "projects:write offline_access")]);
        browser.grant(&wider, &ann.org_id).await;
        assert_eq!(app.count(LIVE_GRANTS).await, 1);
        let scopes = texts(app, "select scopes from oauth_grants").await;
        assert_eq!(scopes, ["projects:read", "projects:write", "offline_access"]);
        assert_eq!(texts(app, EVENTS).await, ["app_grant.created", "app_grant.widened"]);
        // Tokens get only what was requested now.
        let last = "select scopes from oauth_codes where is_offline";
        assert_eq!(texts(app, last).await, ["projects:write"]);
        assert!(has_code(&browser.get(&client.path(&[])).await));
        assert!(has_code(&browser.get(&wider).await));
    })
    .await;
}

#[tokio::test]
async fn a_public_client_with_a_loopback_or_custom_scheme_redirect_uri_is_never_remembered() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        for (redirect_uris, auth_method, expected) in [
            (&["http://localhost/cb"], "none", false),
            (&["http://localhost/cb"], "client_secret_basic", true),
            (&["com.example.app:/cb"], "none", false),
            (&["https://a.example/cb"], "none", true),
        ] {
            let name: &'static str = Box::leak(format!("{redirect_uris:?}{auth_method}").into());
            let spec =
                OauthClientSpec { name, redirect_uris, auth_method, ..OauthClientSpec::default() };
            let client = spec.insert(app, &ann.org_id).await;
            let mut browser = Browser::signed_in(app, &ann.cookie);
            browser.grant(&client.path(&[]), &ann.org_id).await;
            assert_eq!(has_code(&browser.get(&client.path(&[])).await), expected, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_grant_that_was_revoked_or_that_the_policy_forbids_is_not_remembered() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        browser.grant(&client.path(&[]), &ann.org_id).await;
        app.execute(
            "insert into organization_app_policies (organization_id, mode, updated_at)
             select id, 'none', now() from organizations",
        )
        .await;
        assert!(!has_code(&browser.get(&client.path(&[])).await));
        app.execute("delete from organization_app_policies").await;
        assert!(has_code(&browser.get(&client.path(&[])).await));
        app.execute("update oauth_grants set revoked_at = now(), revoked_reason = 'test'").await;
        assert!(!has_code(&browser.get(&client.path(&[])).await));
        browser.grant(&client.path(&[]), &ann.org_id).await;
        assert_eq!(app.count(LIVE_GRANTS).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_grant_that_is_revoked_while_a_code_is_issued_is_not_created_again() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        browser.grant(&client.path(&[]), &ann.org_id).await;
        let mut db = app.connect().await;
        db.execute("begin; select id from accounts for update").await.unwrap();
        let path = client.path(&[]);
        let asking = browser.get(&path);
        let revoking = async {
            // The grant was found, and the account is to be locked.
            app.wait_for_lock_waiters(1).await;
            db.execute(
                "update oauth_grants set revoked_at = now(), revoked_reason = 'person'; commit",
            )
            .await
            .unwrap();
        };
        let (response, ()) = futures_util::future::join(asking, revoking).await;
        assert!(!has_code(&response));
        assert_eq!(app.count(LIVE_GRANTS).await, 0);
    })
    .await;
}

#[tokio::test]
async fn after_a_change_of_the_client_the_person_is_asked_once() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        browser.grant(&client.path(&[]), &ann.org_id).await;
        app.clock.advance(TimeDelta::seconds(60));
        app.execute("update oauth_clients set updated_at = '2036-05-08T09:57:00Z'").await;
        assert!(!has_code(&browser.get(&client.path(&[])).await));
        browser.grant(&client.path(&[]), &ann.org_id).await;
        assert!(has_code(&browser.get(&client.path(&[])).await));
        assert_eq!(texts(app, EVENTS).await, ["app_grant.created"]);
    })
    .await;
}

#[tokio::test]
async fn a_new_membership_does_not_bring_back_what_an_earlier_one_granted() {
    run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let ben = app.verified_account("ben@example.com").await;
        app.invite_and_accept(&ann, &ben, "member").await;
        let mut browser = Browser::signed_in(app, &ben.cookie);
        let path = client.path(&[("organization_id", &ann.org_id)]);
        browser.grant(&path, &ann.org_id).await;
        app.execute(
            "update users set removed_at = now() where role = 'member' and removed_at is null",
        )
        .await;
        app.invite_and_accept(&ann, &ben, "member").await;
        assert!(!has_code(&browser.get(&path).await));
        browser.grant(&path, &ann.org_id).await;
        let live = "select count(*) from oauth_grants g join users u on u.id = g.user_id
                    where g.revoked_at is null and u.removed_at is null";
        assert_eq!(app.count(live).await, 1);
        assert_eq!(app.count(LIVE_GRANTS).await, 1);
        assert_eq!(app.count("select count(*) from oauth_grants").await, 2);
    })
    .await;
}

#[tokio::test]
async fn resources_in_any_order_give_the_same_grant() {
    crate::support::with_settings(&[(
        "OAUTH_RESOURCES",
        "https://mcp.example.com,https://files.example.com/api",
    )])
    .run(async |app| {
        let (ann, client) = account_and_client(app).await;
        let mut browser = Browser::signed_in(app, &ann.cookie);
        let (one, other) = ("HTTPS://MCP.example.com/", "https://files.example.com/api");
        let with = |first: &str, second: &str| {
            let pairs = [("resource", first), ("resource", second)];
            format!(
                "/oauth2/authorize?{}&{}",
                crate::support::oauth::form(&pairs),
                client.query(&[])
            )
        };
        browser.grant(&with(one, other), &ann.org_id).await;
        assert!(has_code(&browser.get(&with(other, one)).await));
        let resources = texts(app, "select resources from oauth_grants").await;
        assert_eq!(resources, ["https://files.example.com/api", "https://mcp.example.com"]);
        let distinct = "select count(distinct resources) from oauth_codes";
        assert_eq!(app.count(distinct).await, 1);
        // Another resource is more access, and by default the tokens are for this API.
        assert!(!has_code(&browser.get(&client.path(&[])).await));
        browser.grant(&client.path(&[]), &ann.org_id).await;
        let last = "select resources from oauth_codes where cardinality(resources) = 1";
        assert_eq!(texts(app, last).await, [crate::support::oauth::ISSUER]);
        assert!(has_code(&browser.get(&client.path(&[("resource", one)])).await));
    })
    .await;
}
