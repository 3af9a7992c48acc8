//! Keys that are public by design, such as those in a web page: a visitor cannot stop them with a
//! report.

use serde_json::json;

use super::{EVENTS, leak_events, leak_mails, new_key, report, set_policy};
use crate::support::accounts::TestAccount;
use crate::support::client::TestClient;
use crate::support::github::{SigningKey, found};
use crate::support::{TestApp, run};

const KEYS: &str = "/v1/organization/api-keys";

async fn set_origins(app: &TestApp, account: &TestAccount, origins: &[&str]) {
    let path = format!("/api/user/organizations/{}", account.org_id);
    let request = json!({ "allowedOrigins": origins });
    app.session(&account.cookie).put(&path, request).await.assert_status(200);
}

/// Rotates a key with a grace period of 1 hour, and returns the new one's text and id.
async fn rotate(client: &TestClient, id: &str) -> (String, String) {
    let request = json!({ "grace_period": 3_600 });
    let response = client.post(&format!("{KEYS}/{id}/rotate"), request).await.assert_status(200);
    let text = |name: &str| response.body[name].as_str().unwrap().to_owned();
    (text("key"), text("id"))
}

async fn set_enabled(client: &TestClient, id: &str, enabled: bool) {
    let request = json!({ "enabled": enabled });
    client.patch(&format!("{KEYS}/{id}"), request).await.assert_status(200);
}

#[tokio::test]
async fn reports_do_not_disable_keys_of_an_organization_with_allowed_origins() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        for (number, policy) in ["disable", "revoke"].into_iter().enumerate() {
            set_policy(app, &ann, policy).await;
            set_origins(app, &ann, &["https://app.example.com"]).await;
            let (by_visitor, _) = new_key(app, &ann, "by visitor").await;
            let (by_github, _) = new_key(app, &ann, "by github").await;
            app.mails().await;
            report(app, &by_visitor).await;
            let matches = json!([found(&by_github, "https://github.com/a/b")]);
            SigningKey::pinned().send(app, &matches).await.assert_status(200);
            let mails = leak_mails(app).await;
            assert_eq!(mails.len(), 2, "{policy}");
            assert!(
                mails.iter().all(|(_, text)| text.contains("Nothing was done: it still works")),
                "{policy}"
            );
            let events = leak_events(app, &ann).await;
            assert_eq!(events.len(), 2 + 3 * number);
            for event in &events[..2] {
                let detail = &event["detail"];
                assert_eq!(
                    (&detail["policy"], &detail["action"]),
                    (&json!("notify"), &json!("none"))
                );
            }
            for key in [&by_visitor, &by_github] {
                app.key(key).get("/me").await.assert_status(200);
            }
            set_origins(app, &ann, &[]).await;
            let (secret, _) = new_key(app, &ann, "secret").await;
            report(app, &secret).await;
            app.key(&secret).get("/me").await.assert_status(401);
            app.execute("update api_keys set revoked_at = now(), name_held = false").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_that_was_enabled_again_and_its_successors_stay_enabled() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (admin, _) = new_key(app, &ann, "admin").await;
        let admin = app.key(&admin);
        let (key, id) = new_key(app, &ann, "in an app").await;
        report(app, &key).await;
        set_enabled(&admin, &id, true).await;
        let (second, second_id) = rotate(&admin, &id).await;
        let (third, _) = rotate(&admin, &second_id).await;
        app.mails().await;
        for key in [&key, &second, &third] {
            report(app, key).await;
            app.key(key).get("/me").await.assert_status(200);
        }
        assert!(leak_mails(app).await.is_empty());
        assert_eq!(app.count(EVENTS).await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_successor_of_a_reported_key_that_was_not_enabled_again_is_acted_on() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (admin, _) = new_key(app, &ann, "admin").await;
        let admin = app.key(&admin);
        let (key, id) = new_key(app, &ann, "secret").await;
        report(app, &key).await;
        let (second, second_id) = rotate(&admin, &id).await;
        set_enabled(&admin, &second_id, true).await;
        app.key(&second).get("/me").await.assert_status(200);
        report(app, &second).await;
        app.key(&second).get("/me").await.assert_status(401);
        assert_eq!(app.count(EVENTS).await, 2);
        set_policy(app, &ann, "notify").await;
        let (key, id) = new_key(app, &ann, "other").await;
        report(app, &key).await;
        let (successor, _) = rotate(&admin, &id).await;
        app.mails().await;
        report(app, &successor).await;
        assert_eq!(leak_mails(app).await.len(), 1);
        assert_eq!(app.count(EVENTS).await, 4);
    })
    .await;
}
