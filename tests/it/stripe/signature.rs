//! Signatures: an event is accepted if its body was signed recently with a configured secret.

use axum::body::{Body, Bytes};

use crate::support::app::COUNT_ORGANIZATIONS;
use crate::support::stripe::{PATH, WEBHOOK_SECRET, checkout, signature, signature_header};
use crate::support::{TestApp, run, with_settings};

fn body() -> String {
    checkout("evt_1", "acme", "starter").to_string()
}

async fn send(
    app: &TestApp,
    header: &str,
    body: impl Into<Body>,
) -> crate::support::client::TestResponse {
    app.anonymous().with("stripe-signature", header).send("POST", PATH, body).await
}

async fn assert_rejected(app: &TestApp, header: &str, body: impl Into<Body>) {
    let response = send(app, header, body).await.assert_error(400, "malformed");
    assert_eq!(response.header("content-type"), "application/problem+json");
    assert!(response.body["detail"].as_str().unwrap().starts_with("Stripe-Signature "));
    assert!(!response.text.contains("whsec"), "{}", response.text);
    assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 0);
}

#[tokio::test]
async fn a_signature_is_valid_for_five_minutes_either_way() {
    run(async |app| {
        let (body, now) = (body(), app.now_seconds());
        for seconds in [now - 301, now + 302, 0, i64::MAX] {
            assert_rejected(
                app,
                &signature_header(WEBHOOK_SECRET, seconds, body.as_bytes()),
                body.clone(),
            )
            .await;
        }
        for seconds in [now - 299, now + 300] {
            send(app, &signature_header(WEBHOOK_SECRET, seconds, body.as_bytes()), body.clone())
                .await
                .assert_status(200);
        }
    })
    .await;
}

#[tokio::test]
async fn a_missing_or_malformed_signature_is_rejected() {
    run(async |app| {
        let (body, now) = (body(), app.now_seconds());
        let v1 = signature(WEBHOOK_SECRET, now, body.as_bytes());
        app.anonymous().send("POST", PATH, body.clone()).await.assert_error(400, "malformed");
        for header in [
            "",
            "garbage",
            &v1,
            &format!("v1={v1}"),
            &format!("t={now}"),
            &format!("t={now},v1="),
            &format!("t={now},v0={v1}"),
            &format!("t={now},t={now},v1={v1}"),
            &format!("t=x{now},v1={v1}"),
            &format!("t={now},v1={}", &v1[1..]),
            "é",
        ] {
            assert_rejected(app, header, body.clone()).await;
        }
        let good = signature_header(WEBHOOK_SECRET, now, body.as_bytes());
        let twice = app.anonymous().with("stripe-signature", &good).with("stripe-signature", &good);
        twice.send("POST", PATH, body).await.assert_error(400, "malformed");
    })
    .await;
}

#[tokio::test]
async fn a_signature_with_another_secret_body_or_time_is_rejected() {
    run(async |app| {
        let (body, now) = (body(), app.now_seconds());
        assert_rejected(
            app,
            &signature_header("whsec_of_another_0123456789", now, body.as_bytes()),
            body.clone(),
        )
        .await;
        let good = signature_header(WEBHOOK_SECRET, now, body.as_bytes());
        assert_rejected(app, &good, body.replacen("2900", "2901", 1)).await;
        assert_rejected(app, &good, format!("{body} ")).await;
        assert_rejected(app, &good, "").await;
        assert_rejected(
            app,
            &good.replacen(&now.to_string(), &(now + 1).to_string(), 1),
            body.clone(),
        )
        .await;
        send(app, &good, body).await.assert_status(200);
    })
    .await;
}

#[tokio::test]
async fn one_valid_signature_with_any_configured_secret_is_enough() {
    let (old, new) = ("whsec_old_0123456789", "whsec_new_0123456789");
    with_settings(&[("STRIPE_WEBHOOK_SECRET", &format!("{new}, {old}"))])
        .run(async |app| {
            let now = app.now_seconds();
            for (secret, org_id) in [(old, "one"), (new, "two")] {
                let body = checkout(&format!("evt_{org_id}"), org_id, "starter").to_string();
                let other = signature("whsec_other_0123456789", now, body.as_bytes());
                let right = signature(secret, now, body.as_bytes());
                let header = format!("t={now},v1={other},v1={right},v0={other}");
                send(app, &header, body).await.assert_status(200);
            }
            assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 2);
        })
        .await;
}

#[tokio::test]
async fn a_signed_body_that_is_no_event_is_rejected_with_the_reason() {
    run(async |app| {
        for body in ["garbage", "{", "", "{}{}", "nul"] {
            let response = app.stripe_client(body).send("POST", PATH, body).await;
            let response = response.assert_error(400, "malformed");
            assert!(response.body["detail"].as_str().unwrap().contains("not valid JSON"));
        }
        for body in ["[]", "null", "7", "\"text\"", "{}", "\u{feff}{}", r#"{"type":7}"#] {
            let response = app.stripe_client(body).send("POST", PATH, body).await;
            let response = response.assert_error(422, "validation_error");
            assert_eq!(response.invalid_fields(), ["type"]);
        }
        let bare = r#"{"type":"invoice.paid"}"#;
        let response = app.stripe_client(bare).send("POST", PATH, bare).await;
        let response = response.assert_error(422, "validation_error");
        assert_eq!(response.invalid_fields(), ["id", "created"]);
    })
    .await;
}

#[tokio::test]
async fn an_oversized_or_too_deep_body_is_rejected_and_an_endless_one_is_not_read_to_its_end() {
    run(async |app| {
        let mut event = checkout("evt_1", "acme", "starter");
        event["padding"] = "x".repeat(500 * 1024).into();
        app.send_stripe_event(&event).await.assert_status(200);
        event["padding"] = "x".repeat(1024 * 1024).into();
        app.send_stripe_event(&event).await.assert_error(413, "entity_too_large");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(32), "]".repeat(32));
        app.stripe_client(&deep).send("POST", PATH, deep).await.assert_error(400, "malformed");
        let pieces = std::iter::repeat(Bytes::from(" ".repeat(1024)));
        let endless = Body::from_stream(tokio_stream::iter(pieces.map(Ok::<_, String>)));
        app.anonymous().send("POST", PATH, endless).await.assert_error(413, "entity_too_large");
    })
    .await;
}

#[tokio::test]
async fn without_a_secret_no_route_matches_the_path() {
    with_settings(&[("STRIPE_WEBHOOK_SECRET", "")])
        .run(async |app| {
            let body = body();
            for method in ["POST", "GET"] {
                let response = app.stripe_client(&body).send(method, PATH, body.clone()).await;
                let response = response.assert_error(404, "not_found");
                let nowhere = app.anonymous().send(method, "/webhooks/other", "").await;
                assert_eq!(response.body_without_request(), nowhere.body_without_request());
            }
            assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 0);
        })
        .await;
}

#[tokio::test]
async fn other_methods_are_rejected_with_the_allowed_method() {
    run(async |app| {
        let response = app.anonymous().get(PATH).await.assert_error(405, "method_not_allowed");
        assert_eq!(response.header("allow"), "POST");
    })
    .await;
}
