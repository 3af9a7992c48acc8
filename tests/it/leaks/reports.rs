//! `POST /v1/leaks`: the response reveals nothing, and no report is lost.

use serde_json::json;
use sha2::{Digest, Sha256};
use tenantry::domain::keys::import::{ImportedKey, import};
use tenantry::model::organization_handle::OrganizationHandle;

use super::{EVENTS, PATH, leak_events, leak_mails, new_key, report};
use crate::support::rate_limits::{assert_retry_after, client_from, with_limits_behind_proxy};
use crate::support::{run, with_settings};

const QUEUED: &str = "select count(*) from outbox where kind = 'leak_report'";

#[tokio::test]
async fn known_unknown_malformed_and_reported_keys_get_the_same_response() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (key, _) = new_key(app, &ann, "k").await;
        let unknown = app.app.config.keys.format.generate(&*app.app.entropy).expose().to_owned();
        app.seen_secrets.lock().unwrap().push(unknown.clone());
        let first = report(app, &key).await;
        assert_eq!(first.body["object"], "leak_report");
        for text in [&key, &unknown, "garbage", &key[1..], &"x".repeat(512), "é"] {
            let response = report(app, text).await;
            let names: Vec<_> = first.headers.keys().collect();
            assert_eq!(response.headers.keys().collect::<Vec<_>>(), names);
            assert_eq!(response.body_without_request(), first.body_without_request());
        }
        assert_eq!(app.count(EVENTS).await, 1);
        assert_eq!(app.count("select count(*) from outbox").await, 0);
    })
    .await;
}

#[tokio::test]
async fn reports_of_known_and_of_unknown_keys_are_queued_before_the_response() {
    run(async |app| {
        let acme = app.sign_up().await;
        let unknown = app.app.config.keys.format.generate(&*app.app.entropy).expose().to_owned();
        app.seen_secrets.lock().unwrap().push(unknown.clone());
        for (number, key) in [&acme.api_key, &unknown].into_iter().enumerate() {
            app.anonymous().post(PATH, json!({ "key": key })).await.assert_status(202);
            assert_eq!(app.count(QUEUED).await, i64::try_from(number).unwrap() + 1);
        }
        app.anonymous().post(PATH, json!({ "key": "garbage" })).await.assert_status(202);
        assert_eq!(app.count(QUEUED).await, 2);
        // Nothing was done yet: another server, started later, acts on both.
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        let other = app.replica();
        tenantry::jobs::run_due(&other.app).await.unwrap();
        app.key(&acme.api_key).get("/me").await.assert_status(401);
        assert_eq!(app.count(QUEUED).await, 0);
        other.close();
    })
    .await;
}

#[tokio::test]
async fn every_field_is_checked_and_named() {
    run(async |app| {
        let long = format!("https://example.com/{}", "x".repeat(2_029));
        for (request, fields) in [
            (json!({}), vec!["key"]),
            (json!({ "key": "", "url": "ftp://example.com/" }), vec!["key", "url"]),
            (json!({ "key": "x".repeat(513), "url": "example.com" }), vec!["key", "url"]),
            (json!({ "key": 1, "url": ["https://example.com"] }), vec!["key", "url"]),
            (json!({ "key": "a", "url": long }), vec!["url"]),
            (json!({ "key": "a", "url": "javascript:alert(1)" }), vec!["url"]),
            (json!({ "key": "a", "url": "https://" }), vec!["url"]),
            (json!({ "key": "a", "url": "https://a\u{0}b/" }), vec!["url"]),
            (json!({ "key": "a", "source": "b" }), vec!["source"]),
        ] {
            let response = app.anonymous().post(PATH, request).await;
            let response = response.assert_error(400, "validation_error");
            assert_eq!(response.invalid_fields(), fields);
        }
        let longest = &long[..2_048];
        for url in [json!(null), json!(longest), json!("http://127.0.0.1")] {
            app.anonymous().post(PATH, json!({ "key": "a", "url": url })).await.assert_status(202);
        }
        let response = app.anonymous().get(PATH).await.assert_error(405, "method_not_allowed");
        assert_eq!(response.header("allow"), "POST");
    })
    .await;
}

#[tokio::test]
async fn the_route_needs_no_credential_reads_none_and_exists_without_verification() {
    with_settings(&[("VERIFIER_KEYS", "")])
        .run(async |app| {
            let acme = app.sign_up().await;
            for client in [app.anonymous(), app.key("garbage"), app.bearer("garbage")] {
                client.post(PATH, json!({ "key": acme.api_key })).await.assert_status(202);
            }
            tenantry::jobs::run_due(&app.app).await.unwrap();
            // A disabled key in the header does not stop a report.
            let again = app.key(&acme.api_key).post(PATH, json!({ "key": acme.api_key })).await;
            again.assert_status(202);
            assert_eq!(app.count(EVENTS).await, 1);
        })
        .await;
}

#[tokio::test]
async fn reports_are_limited_for_each_client_address() {
    with_limits_behind_proxy(r#"{"leak_reports":{"quota":3,"window_s":3600}}"#)
        .run(async |app| {
            let request = || json!({ "key": "garbage" });
            let client = client_from(app, "198.51.100.1");
            for _ in 0..3 {
                client.post(PATH, request()).await.assert_status(202);
            }
            let rejected = client.post(PATH, request()).await;
            assert_retry_after(&rejected.assert_error(429, "rate_limited"), "leak_reports");
            let other = client_from(app, "198.51.100.2");
            other.post(PATH, request()).await.assert_status(202);
        })
        .await;
}

#[tokio::test]
async fn a_url_that_contains_the_key_is_recorded_without_it() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        for (number, prefix) in ["", "x="].into_iter().enumerate() {
            let (key, _) = new_key(app, &ann, &format!("k{number}")).await;
            let encoded =
                key.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"));
            let twice = encoded.replace('%', "%25");
            for text in [&key, &encoded, &twice] {
                let url = format!("https://example.com/a/{text}?{prefix}{text}#{text}");
                let request = json!({ "key": key, "url": url });
                app.anonymous().post(PATH, request).await.assert_status(202);
            }
            leak_mails(app).await;
            app.seen_secrets.lock().unwrap().extend([encoded, twice]);
        }
        let events = leak_events(app, &ann).await;
        assert_eq!(events.len(), 2);
        for event in events {
            assert_eq!(event["detail"]["url"], "https://example.com/");
        }
    })
    .await;
}

#[tokio::test]
async fn an_imported_key_is_found_by_its_text() {
    with_settings(&[("KEY_IMPORT", "on")])
        .run(async |app| {
            let ann = app.verified_account("ann@example.com").await;
            let text = "sk_other_system_0123456789abcdef";
            app.seen_secrets.lock().unwrap().push(text.to_owned());
            let imported = ImportedKey {
                line: 1,
                organization: OrganizationHandle::parse(&ann.org_id).unwrap(),
                sha256: Sha256::digest(text).into(),
                name: None,
                scopes: app.app.config.keys.scopes.parse(&["*".to_owned()]).unwrap(),
                expires_at: None,
            };
            import(&app.app, vec![imported]).await.unwrap();
            app.key(text).get("/me").await.assert_status(200);
            report(app, text).await;
            app.key(text).get("/me").await.assert_status(401);
            assert_eq!(leak_mails(app).await.len(), 1);
        })
        .await;
}
