//! GitHub's public keys, fetched from a server: at most once a minute, with an `ETag`.

use chrono::TimeDelta;
use serde_json::json;

use crate::support::client::TestResponse;
use crate::support::github::{KeyServer, SigningKey};
use crate::support::ports::free_address;
use crate::support::waiting::wait_until_async;
use crate::support::{TestApp, with_settings};

/// Sends an empty list that is signed with this key.
async fn send(app: &TestApp, key: &SigningKey) -> TestResponse {
    key.send(app, &json!([])).await
}

/// Runs a test with the keys of a server on loopback.
async fn run_with(url: &str, test: impl AsyncFnOnce(&TestApp)) {
    let host = url.strip_prefix("http://").and_then(|it| it.strip_suffix("/keys")).unwrap();
    let settings = [("GITHUB_SECRET_SCANNING_KEYS", url), ("OUTBOUND_ALLOW", host)];
    with_settings(&settings).run(test).await;
}

#[tokio::test]
async fn the_list_is_fetched_once_and_for_unknown_keys_at_most_once_a_minute_with_the_etag() {
    let (one, two) = (SigningKey::generate("one"), SigningKey::generate("two"));
    let server = KeyServer::start(&[&one], "\"v1\"").await;
    run_with(&server.url(), async |app| {
        assert!(server.requests().is_empty(), "nothing is fetched before it is needed");
        for _ in 0..3 {
            send(app, &one).await.assert_status(200);
            send(app, &two).await.assert_error(401, "unauthorized");
        }
        assert_eq!(server.requests(), [None]);
        app.clock.advance(TimeDelta::seconds(60));
        for _ in 0..3 {
            send(app, &two).await.assert_error(401, "unauthorized");
            send(app, &one).await.assert_status(200);
        }
        assert_eq!(server.requests(), [None, Some("\"v1\"".to_owned())]);
        server.publish(&[&two], "\"v2\"");
        send(app, &two).await.assert_error(401, "unauthorized");
        app.clock.advance(TimeDelta::seconds(60));
        send(app, &two).await.assert_status(200);
        // A key that GitHub withdrew is not trusted any more.
        send(app, &one).await.assert_error(401, "unauthorized");
        assert_eq!(server.requests().len(), 3);
        app.clock.advance(TimeDelta::seconds(60));
        send(app, &one).await.assert_error(401, "unauthorized");
        assert_eq!(server.requests()[3], Some("\"v2\"".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn known_keys_are_fetched_again_after_an_hour() {
    let (one, two) = (SigningKey::generate("one"), SigningKey::generate("two"));
    let server = KeyServer::start(&[&one], "\"v1\"").await;
    run_with(&server.url(), async |app| {
        send(app, &one).await.assert_status(200);
        app.clock.advance(TimeDelta::minutes(59));
        send(app, &one).await.assert_status(200);
        assert_eq!(server.requests().len(), 1);
        server.publish(&[&two], "\"v2\"");
        app.clock.advance(TimeDelta::minutes(1));
        send(app, &one).await.assert_error(401, "unauthorized");
        assert_eq!(server.requests().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn while_github_fails_known_keys_work_and_others_get_a_503_with_retry_after() {
    let (one, two) = (SigningKey::generate("one"), SigningKey::generate("two"));
    let server = KeyServer::start(&[&one, &two], "\"v1\"").await;
    run_with(&server.url(), async |app| {
        for status in [500, 403, 302, 304] {
            server.fail_with(Some(status));
            for _ in 0..2 {
                let response = send(app, &one).await.assert_error(503, "service_unavailable");
                assert_eq!(response.header("retry-after"), "60");
            }
            app.clock.advance(TimeDelta::seconds(60));
        }
        assert_eq!(server.requests().len(), 4);
        server.fail_with(None);
        send(app, &one).await.assert_status(200);
        server.fail_with(Some(500));
        app.clock.advance(TimeDelta::minutes(61));
        send(app, &two).await.assert_status(200);
        let three = SigningKey::generate("three");
        send(app, &three).await.assert_error(503, "service_unavailable");
        assert_eq!(server.requests().len(), 6);
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_server_or_a_list_without_keys_causes_a_503() {
    let url = format!("http://{}/keys", free_address());
    let key = SigningKey::generate("one");
    run_with(&url, async |app| {
        send(app, &key).await.assert_error(503, "service_unavailable");
    })
    .await;
    let server = KeyServer::start(&[], "\"v1\"").await;
    run_with(&server.url(), async |app| {
        send(app, &key).await.assert_error(503, "service_unavailable");
    })
    .await;
}

#[tokio::test]
async fn concurrent_requests_with_an_unknown_key_cause_one_fetch() {
    let one = SigningKey::generate("one");
    let server = KeyServer::start(&[&one], "\"v1\"").await;
    run_with(&server.url(), async |app| {
        let responses = futures_util::future::join_all((0..8).map(|_| send(app, &one))).await;
        for response in responses {
            response.assert_status(200);
        }
        assert_eq!(server.requests().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_fetch_for_an_unknown_key_delays_no_request_with_a_known_one() {
    let (one, two) = (SigningKey::generate("one"), SigningKey::generate("two"));
    let server = KeyServer::start(&[&one], "\"v1\"").await;
    run_with(&server.url(), async |app| {
        send(app, &one).await.assert_status(200);
        // A fetch for an unknown key, and an hour later one because the list is old.
        for (minutes, stranger) in [(1, &two), (60, &one)] {
            app.clock.advance(TimeDelta::minutes(minutes));
            let (held, before) = (server.hold(), server.requests().len());
            let mut waiting = Box::pin(send(app, stranger));
            tokio::select! {
                response = &mut waiting => panic!("without a fetch: {}", response.text),
                () = wait_until_async("a fetch", async || server.requests().len() > before) => {}
            }
            tokio::select! {
                biased;
                response = &mut waiting => panic!("answered first: {}", response.text),
                response = send(app, &one) => response.assert_status(200),
            };
            held.add_permits(1);
            waiting.await.assert_status(if stranger.id == "one" { 200 } else { 401 });
        }
    })
    .await;
}

#[tokio::test]
async fn keys_of_another_kind_in_the_list_are_ignored_and_the_others_are_used() {
    let one = SigningKey::generate("one");
    let server = KeyServer::start(&[], "\"v1\"").await;
    // An Ed25519 key (RFC 8410).
    let ed25519 = "-----BEGIN PUBLIC KEY-----\n\
                   MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                   -----END PUBLIC KEY-----\n";
    let others = vec![
        json!({ "key_identifier": "new", "key": ed25519 }),
        json!({ "key_identifier": "newer", "key": { "kty": "AKP" } }),
        json!({ "id": 7 }),
        json!("newest"),
    ];
    let all = others.iter().cloned().chain([one.published()]).collect();
    server.publish_list(all, "\"v1\"");
    run_with(&server.url(), async |app| {
        send(app, &one).await.assert_status(200);
        // A list without a usable key does not replace the last.
        server.publish_list(others, "\"v2\"");
        app.clock.advance(TimeDelta::hours(1));
        send(app, &one).await.assert_status(200);
        assert_eq!(server.requests().len(), 2);
    })
    .await;
}
