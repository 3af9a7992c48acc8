//! What an organization learns about grants to apps: the mails to its owners, and the events of its
//! audit log.

use chrono::TimeDelta;
use serde_json::json;

use crate::support::accounts::TestAccount;
use crate::support::app::text;
use crate::support::oauth::{Browser, OauthClient, OauthClientSpec};
use crate::support::{TestApp, run};

/// The end of the subject of a mail about an app.
const NOTICE: &str = "an app has access to your organization";

/// An owner, a member of the owner's organization, and apps of another organization.
async fn owner_member_and_apps(
    app: &TestApp,
    names: [&'static str; 3],
) -> (TestAccount, TestAccount, Vec<OauthClient>) {
    let ann = app.verified_account("ann@example.com").await;
    let ben = app.verified_account("ben@example.com").await;
    app.invite_and_accept(&ann, &ben, "member").await;
    let vendor = app.sign_up().await;
    let mut clients = Vec::new();
    for name in names {
        let spec = OauthClientSpec { name, ..OauthClientSpec::default() };
        clients.push(spec.insert(app, &vendor.org_id).await);
    }
    app.mails().await;
    (ann, ben, clients)
}

async fn grant(app: &TestApp, person: &TestAccount, client: &OauthClient, org_id: &str) {
    Browser::signed_in(app, &person.cookie).grant(&client.path(&[]), org_id).await;
}

#[tokio::test]
async fn owners_are_mailed_about_the_first_grant_to_a_foreign_app_and_at_most_once_a_day() {
    run(async |app| {
        let (ann, ben, clients) = owner_member_and_apps(app, ["A", "B", "C"]).await;
        let [first, second, third] = &clients[..] else { panic!("{}", clients.len()) };
        grant(app, &ben, first, &ann.org_id).await;
        let mails = "select count(*) from outbox where kind = 'app_granted'
                       and address = 'ann@example.com'";
        assert_eq!(app.count(mails).await, 1);
        assert_eq!(app.security_notices().await, [NOTICE]);
        // Other apps on that day, and another grant to the same app, cause no mail.
        grant(app, &ben, second, &ann.org_id).await;
        app.clock.advance(TimeDelta::hours(23));
        app.execute("update sessions set expires_at = expires_at + interval '3 days'").await;
        grant(app, &ben, third, &ann.org_id).await;
        assert!(app.security_notices().await.is_empty());
        app.execute("update organizations set app_notice_at = app_notice_at - interval '1 day'")
            .await;
        grant(app, &ann, first, &ann.org_id).await;
        assert!(app.security_notices().await.is_empty());
        // In Ben's own organization, this is the first grant.
        grant(app, &ben, first, &ben.org_id).await;
        assert_eq!(app.security_notices().await, [NOTICE]);
    })
    .await;
}

#[tokio::test]
async fn owners_are_not_mailed_about_an_allowed_app_or_one_of_their_own() {
    run(async |app| {
        let (ann, ben, clients) = owner_member_and_apps(app, ["A", "B", "C"]).await;
        let policy = format!("/api/user/organizations/{}/app-policy", ann.org_id);
        let allowed = json!({ "mode": "approved", "allowed": [clients[0].client_id] });
        app.session(&ann.cookie).put(&policy, allowed).await.assert_status(200);
        grant(app, &ben, &clients[0], &ann.org_id).await;
        let open = json!({ "mode": "open" });
        app.session(&ann.cookie).put(&policy, open).await.assert_status(200);
        let own = OauthClientSpec { name: "Own", ..Default::default() };
        let own = own.insert(app, &ann.org_id).await;
        grant(app, &ben, &own, &ann.org_id).await;
        assert!(app.security_notices().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_the_policy_rejects_is_an_event_of_the_organization() {
    run(async |app| {
        let (ann, ben, clients) = owner_member_and_apps(app, ["A", "B", "C"]).await;
        let mut browser = Browser::signed_in(app, &ben.cookie);
        let handle = browser.begin(&clients[0].path(&[])).await;
        let policy = format!("/api/user/organizations/{}/app-policy", ann.org_id);
        let blocked = json!({ "mode": "open", "blocked": [clients[0].client_id] });
        app.session(&ann.cookie).put(&policy, blocked).await.assert_status(200);
        let rejected = browser.allow(&handle, &ann.org_id).await.assert_status(403);
        assert!(text(&rejected.body["error_description"]).contains("does not permit this app"));
        let events = "select count(*) from audit_events e
                      join organizations o on o.id = e.organization_id
                      join accounts a on a.home_organization_id = o.id
                      where event_type = 'app_grant.rejected' and a.email = 'ann@example.com'
                        and e.actor like 'user\\_%' and e.target like 'app\\_%'
                        and e.status = 403 and e.detail ->> 'client_name' = 'A'";
        assert_eq!(app.count(events).await, 1);
        // The request is not used up: there may be another organization.
        browser.allow(&handle, &ben.org_id).await.assert_status(200);
        assert_eq!(app.count(events).await, 1);
    })
    .await;
}
