//! Secrets: after every test the database and the log are searched for each secret that it received
//! (`support::leaks`). The first test checks the search.

use crate::support::leaks::{self, LogStart};
use crate::support::{TestApp, run};

#[tokio::test]
async fn the_search_finds_a_plaintext_in_a_row_and_in_the_log() {
    run(async |app| {
        let in_row = ["a-plaintext-in-a-row".to_owned()];
        app.execute(
            "insert into organizations (id, handle, name, plan, created_at, updated_at)
             values (gen_random_uuid(), 'a-plaintext-in-a-row', '', 'trial', now(), now())",
        )
        .await;
        let start = app.log_start;
        assert!(finds_plaintext(app, in_row, start).await);
        tracing::info!("a-plaintext-in-the-log");
        let in_log = ["a-plaintext-in-the-log".to_owned()];
        assert!(finds_plaintext(app, in_log.clone(), start).await);
        assert!(!finds_plaintext(app, ["a-plaintext-nowhere".to_owned()], start).await);
        let later = leaks::capture_log();
        assert!(!finds_plaintext(app, in_log, later).await, "a later test is blamed");
    })
    .await;
}

async fn finds_plaintext(app: &TestApp, plaintexts: [String; 1], since: LogStart) -> bool {
    let mut db = app.connect().await;
    tokio::spawn(async move { leaks::assert_no_plaintexts(&mut db, &plaintexts, since).await })
        .await
        .is_err()
}

#[tokio::test]
async fn an_invalid_credential_is_not_logged() {
    run(async |app| {
        let garbage = "tnt_live_this-is-a-password-pasted-by-mistake";
        app.key(garbage).get("/me").await.assert_status(401);
        app.bearer(garbage).get(&format!("/me?key={garbage}")).await.assert_status(401);
        app.anonymous().get(&format!("/me/{garbage}")).await.assert_status(404);
        // A key as the request id or as the method, which are both logged.
        let key = app.sign_up().await.api_key;
        let response = app.anonymous().with("x-request-id", &key).get("/me").await;
        assert!(response.header("x-request-id").starts_with("req_"));
        app.anonymous().send(&key, "/me", "").await.assert_status(405);
        let ann = app.sign_up_account("ann@example.com").await;
        let link = app.mailed_token().await;
        let (_, refresh) = app.exchange(&key).await;
        for secret in [&ann.cookie, &link, &refresh] {
            let response = app.anonymous().with("x-request-id", secret).get("/me").await;
            assert!(response.header("x-request-id").starts_with("req_"));
        }
        app.seen_secrets.lock().unwrap().push(garbage.to_owned());
    })
    .await;
}
