//! `POST /webhooks/github/secret-scanning`: signatures, matches, and what is done about keys.

use axum::body::Body;
use axum::body::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tenantry::jobs::run_due;

use super::{EVENTS, leak_events, leak_mails, new_key};
use crate::support::github::{PATH, SigningKey, found, signed};
use crate::support::leaks::hex;
use crate::support::{TestApp, run, with_settings};

const SEEN_AT: &str = "https://github.com/octocat/Hello-World/blob/12345600b9/foo/bar.txt";

async fn assert_rejected(app: &TestApp, key_id: &str, signature: &str, body: &str) {
    let response = signed(app, key_id, signature).send("POST", PATH, body.to_owned()).await;
    let response = response.assert_error(401, "unauthorized");
    assert_eq!(response.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn keys_are_acted_on_and_each_match_is_labelled_in_order() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (key, id) = new_key(app, &ann, "k").await;
        let (token, token_id) =
            app.create_token(&ann.cookie, json!({ "name": "ci", "scopes": ["*"] })).await;
        app.mails().await;
        let unknown = app.app.config.keys.format.generate(&*app.app.entropy).expose().to_owned();
        app.seen_secrets.lock().unwrap().push(unknown.clone());
        let in_url = format!("https://github.com/a/b?key={token}");
        let mut without_url = found(&key, "");
        without_url.as_object_mut().unwrap().remove("source");
        let matches = json!([
            found(&unknown, SEEN_AT),
            found(&key, SEEN_AT),
            { "token": "garbage", "type": "other_type", "url": null },
            found(&token, &in_url),
            without_url,
        ]);
        let response = SigningKey::pinned().send(app, &matches).await.assert_status(200);
        let label = |text: &str, token_type: &str, label: &str| {
            let token_hash = hex(&Sha256::digest(text));
            json!({ "token_hash": token_hash, "token_type": token_type, "label": label })
        };
        let expected = json!([
            label(&unknown, "acme_api_key", "false_positive"),
            label(&key, "acme_api_key", "true_positive"),
            label("garbage", "other_type", "false_positive"),
            label(&token, "acme_api_key", "true_positive"),
            label(&key, "acme_api_key", "true_positive"),
        ]);
        assert_eq!(response.body, expected);
        let mails = leak_mails(app).await;
        app.key(&key).get("/me").await.assert_status(401);
        app.bearer(&token).get("/api/user/me").await.assert_status(401);
        assert_eq!(mails.len(), 2);
        let of_key = mails.iter().find(|(_, text)| text.contains("An API key of your")).unwrap();
        assert!(of_key.1.contains(&format!("GitHub found it in public: {SEEN_AT}")), "{of_key:?}");
        let events = leak_events(app, &ann).await;
        assert_eq!(events.len(), 2);
        for event in events {
            assert_eq!(event["actor"], "github");
            let (url, target) = (&event["detail"]["url"], event["target"].as_str().unwrap());
            assert_eq!(event["detail"]["found_in"], "commit");
            assert!(target == id || target == token_id);
            assert_eq!(url, if target == id { SEEN_AT } else { "https://github.com/" });
        }
        // A key is acted on once. Its label is true also when it is disabled.
        let again = json!([found(&key, SEEN_AT)]);
        let response = SigningKey::pinned().send(app, &again).await.assert_status(200);
        assert_eq!(response.body[0]["label"], "true_positive");
        assert!(leak_mails(app).await.is_empty());
        assert_eq!(app.count(EVENTS).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_body_is_accepted_only_with_the_signature_of_its_bytes() {
    run(async |app| {
        let acme = app.sign_up().await;
        let (key, other) = (SigningKey::pinned(), SigningKey::generate("other"));
        let body = json!([found(&acme.api_key, SEEN_AT)]).to_string();
        let signature = key.sign(body.as_bytes());
        assert_rejected(app, &key.id, &other.sign(body.as_bytes()), &body).await;
        assert_rejected(app, &other.id, &signature, &body).await;
        assert_rejected(app, &other.id, &other.sign(body.as_bytes()), &body).await;
        assert_rejected(app, "", &signature, &body).await;
        for signature in ["", "garbage", "é", "MEUCIQ==", &signature[4..], "====", "AAAA"] {
            assert_rejected(app, &key.id, signature, &body).await;
        }
        for altered in [format!("{body} "), body.replacen("commit", "commis", 1), String::new()] {
            assert_rejected(app, &key.id, &signature, &altered).await;
        }
        let once = app.anonymous().with("github-public-key-signature", &signature);
        once.send("POST", PATH, body.clone()).await.assert_error(401, "unauthorized");
        for name in ["github-public-key-signature", "github-public-key-identifier"] {
            let value = if name.ends_with("signature") { &signature } else { &key.id };
            let twice = signed(app, &key.id, &signature).with(name, value);
            twice.send("POST", PATH, body.clone()).await.assert_error(401, "unauthorized");
        }
        // A body that is no JSON is not parsed before it is verified.
        assert_rejected(app, &key.id, &signature, "garbage").await;
        run_due(&app.app).await.unwrap();
        assert_eq!(app.count(EVENTS).await, 0);
        signed(app, &key.id, &signature).send("POST", PATH, body).await.assert_status(200);
        run_due(&app.app).await.unwrap();
        assert_eq!(app.count(EVENTS).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_signed_body_that_is_no_list_of_matches_is_rejected_with_the_reason() {
    run(async |app| {
        let key = SigningKey::pinned();
        for body in ["garbage", "", "[", "[]]"] {
            let response = key.client(app, body).send("POST", PATH, body).await;
            response.assert_error(400, "malformed");
        }
        for (body, fields) in [
            (json!({}), vec![""]),
            (json!("a"), vec![""]),
            (json!([{}]), vec!["0.token", "0.type"]),
            (json!([found("a", ""), { "token": 1, "type": "" }]), vec!["1.token", "1.type"]),
            (
                json!([1, { "token": "a", "type": "x".repeat(257) }]),
                vec!["0.token", "0.type", "1.type"],
            ),
        ] {
            let response = key.send(app, &body).await.assert_error(422, "validation_error");
            let issues = response.body["issues"].as_array().unwrap();
            let paths: Vec<_> = issues.iter().map(path_of).collect();
            assert_eq!(paths, fields, "{}", response.text);
        }
        let empty = key.send(app, &json!([])).await.assert_status(200);
        assert_eq!(empty.body, json!([]));
        // Unused fields are not checked.
        let odd = json!([{ "token": "a", "type": "t", "url": 7, "source": ["x"], "more": null }]);
        key.send(app, &odd).await.assert_status(200);
    })
    .await;
}

fn path_of(issue: &Value) -> String {
    let parts = issue["path"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().map(|part| part.as_str().unwrap()).collect::<Vec<_>>().join(".")
}

#[tokio::test]
async fn a_body_of_one_mebibyte_is_accepted_and_one_byte_more_is_not() {
    run(async |app| {
        let acme = app.sign_up().await;
        let key = SigningKey::pinned();
        let mut body = json!([found(&acme.api_key, SEEN_AT), found("x", "")]).to_string();
        body.push_str(&" ".repeat(1024 * 1024 - body.len()));
        let response = key.client(app, &body).send("POST", PATH, body.clone()).await;
        assert_eq!(response.assert_status(200).body[0]["label"], "true_positive");
        body.push(' ');
        let client = key.client(app, &body);
        client.send("POST", PATH, body).await.assert_error(413, "entity_too_large");
        let pieces = std::iter::repeat(Bytes::from(" ".repeat(1024)));
        let endless = Body::from_stream(tokio_stream::iter(pieces.map(Ok::<_, String>)));
        let signature = key.sign(b"");
        let client = signed(app, &key.id, &signature);
        client.send("POST", PATH, endless).await.assert_error(413, "entity_too_large");
    })
    .await;
}

#[tokio::test]
async fn thousands_of_matches_are_answered_in_one_response() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let (key, _) = new_key(app, &ann, "k").await;
        let format = &app.app.config.keys.format;
        let text = |number: usize| match number {
            4_000 => key.clone(),
            _ => format.generate(&*app.app.entropy).expose().to_owned(),
        };
        let matches: Vec<_> = (0..5_000).map(|it| found(&text(it), "")).collect();
        let response = SigningKey::pinned().send(app, &json!(matches)).await.assert_status(200);
        let labels = response.body.as_array().unwrap().iter().map(|it| &it["label"]);
        let real: Vec<_> = labels.enumerate().filter(|(_, it)| **it == "true_positive").collect();
        assert_eq!(real.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [4_000]);
        assert_eq!(app.count("select count(*) from outbox where kind = 'leak_report'").await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_route_exists_only_with_configured_keys_and_accepts_only_post() {
    run(async |app| {
        let response = app.anonymous().get(PATH).await.assert_error(405, "method_not_allowed");
        assert_eq!(response.header("allow"), "POST");
    })
    .await;
    with_settings(&[("GITHUB_SECRET_SCANNING_KEYS", "")])
        .run(async |app| {
            for method in ["POST", "GET"] {
                let client = SigningKey::pinned().client(app, "[]");
                let response = client.send(method, PATH, "[]").await;
                let response = response.assert_error(404, "not_found");
                let nowhere = app.anonymous().send(method, "/webhooks/other", "").await;
                assert_eq!(response.body_without_request(), nowhere.body_without_request());
            }
        })
        .await;
}
