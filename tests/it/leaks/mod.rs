//! Leaked keys: reports by anyone and by GitHub's secret scanning, and what is done about them.

mod github;
mod github_keys;
mod jobs;
mod policies;
mod public_keys;
mod reports;
mod tokens;

use serde_json::{Value, json};
use tenantry::jobs::run_due;

use crate::support::TestApp;
use crate::support::accounts::{TestAccount, TestMail};
use crate::support::client::TestResponse;

const PATH: &str = "/v1/leaks";
const EVENTS: &str = "select count(*) from audit_events where event_type = 'KEY_LEAKED'";

/// Reports a key and waits until the report was acted on.
async fn report(app: &TestApp, key: &str) -> TestResponse {
    let response = app.anonymous().post(PATH, json!({ "key": key })).await.assert_status(202);
    run_due(&app.app).await.unwrap();
    response
}

/// A key of the account's organization with every scope.
async fn new_key(app: &TestApp, account: &TestAccount, name: &str) -> (String, String) {
    let key = app.create_key(account, json!({ "name": name, "scopes": ["*"] })).await;
    (key.api_key, key.key_id)
}

/// Sets the leak policy of an account's home organization.
async fn set_policy(app: &TestApp, account: &TestAccount, policy: &str) {
    let path = format!("/api/user/organizations/{}", account.org_id);
    let request = json!({ "leakPolicy": policy });
    let response = app.session(&account.cookie).put(&path, request).await.assert_status(200);
    assert_eq!(response.body["data"]["leakPolicy"], policy);
}

/// The leak events in the audit log of an account's home organization, newest first.
async fn leak_events(app: &TestApp, account: &TestAccount) -> Vec<Value> {
    let path =
        format!("/api/user/organizations/{}/audit-logs?eventType=KEY_LEAKED", account.org_id);
    let response = app.session(&account.cookie).get(&path).await.assert_status(200);
    response.body["data"].as_array().unwrap().clone()
}

/// The mails about leaks so far, with white space collapsed. Deletes all mails.
async fn leak_mails(app: &TestApp) -> Vec<(String, String)> {
    let mails = app.mails().await;
    let mails = mails.iter().filter(|mail| mail.header("Subject").ends_with("has leaked"));
    mails.map(|mail| (recipient(mail), decoded(&mail.text))).collect()
}

fn recipient(mail: &TestMail) -> String {
    mail.header("To").trim_matches(['<', '>']).to_owned()
}

/// The text of a mail without the line breaks of quoted-printable.
fn decoded(text: &str) -> String {
    let joined = text.replace("=\r\n", "").replace("=\n", "").replace("=3D", "=");
    joined.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The 8 characters after the prefix of a key.
fn display_id(key: &str) -> &str {
    let start = key.len() - 49;
    &key[start..start + 8]
}
