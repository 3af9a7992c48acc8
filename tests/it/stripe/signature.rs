//! Who is believed: whoever signed this very body, not long ago, with a secret that is configured.

use axum::body::{Body, Bytes};

use crate::support::app::ORGANIZATIONS;
use crate::support::stripe::{PATH, SECRET, checkout, header, signature};
use crate::support::{TestApp, run, with};

fn body() -> String {
    checkout("evt_1", "acme", "starter").to_string()
}

async fn sent(app: &TestApp, header: &str, body: impl Into<Body>) -> crate::support::actor::Answer {
    app.anon().with("stripe-signature", header).send("POST", PATH, body).await
}

async fn refused(app: &TestApp, header: &str, body: impl Into<Body>) {
    let answer = sent(app, header, body).await.has_failed(400, "malformed");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(answer.body["detail"].as_str().unwrap().starts_with("Stripe-Signature "));
    assert!(!answer.text.contains("whsec"), "{}", answer.text);
    assert_eq!(app.count(ORGANIZATIONS).await, 0);
}

#[tokio::test]
async fn a_signature_is_good_for_five_minutes_either_way() {
    run(async |app| {
        let (body, now) = (body(), app.seconds());
        for seconds in [now - 301, now + 302, 0, i64::MAX] {
            refused(app, &header(SECRET, seconds, body.as_bytes()), body.clone()).await;
        }
        for seconds in [now - 299, now + 300] {
            sent(app, &header(SECRET, seconds, body.as_bytes()), body.clone())
                .await
                .has_status(200);
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_signature_or_with_one_that_can_not_be_read_nothing_is_believed() {
    run(async |app| {
        let (body, now) = (body(), app.seconds());
        let v1 = signature(SECRET, now, body.as_bytes());
        app.anon().send("POST", PATH, body.clone()).await.has_failed(400, "malformed");
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
            refused(app, header, body.clone()).await;
        }
        let good = header(SECRET, now, body.as_bytes());
        let twice = app.anon().with("stripe-signature", &good).with("stripe-signature", &good);
        twice.send("POST", PATH, body).await.has_failed(400, "malformed");
    })
    .await;
}

#[tokio::test]
async fn another_secret_or_one_byte_of_the_body_or_of_the_time_is_another_signature() {
    run(async |app| {
        let (body, now) = (body(), app.seconds());
        refused(app, &header("whsec_of_another_0123456789", now, body.as_bytes()), body.clone())
            .await;
        let good = header(SECRET, now, body.as_bytes());
        refused(app, &good, body.replacen("2900", "2901", 1)).await;
        refused(app, &good, format!("{body} ")).await;
        refused(app, &good, "").await;
        refused(app, &good.replacen(&now.to_string(), &(now + 1).to_string(), 1), body.clone())
            .await;
        sent(app, &good, body).await.has_status(200);
    })
    .await;
}

#[tokio::test]
async fn one_good_signature_among_several_is_enough_under_any_secret() {
    let (old, new) = ("whsec_old_0123456789", "whsec_new_0123456789");
    with(&[("STRIPE_WEBHOOK_SECRET", &format!("{new}, {old}"))])
        .run(async |app| {
            let now = app.seconds();
            for (secret, org_id) in [(old, "one"), (new, "two")] {
                let body = checkout(&format!("evt_{org_id}"), org_id, "starter").to_string();
                let other = signature("whsec_other_0123456789", now, body.as_bytes());
                let right = signature(secret, now, body.as_bytes());
                let header = format!("t={now},v1={other},v1={right},v0={other}");
                sent(app, &header, body).await.has_status(200);
            }
            assert_eq!(app.count(ORGANIZATIONS).await, 2);
        })
        .await;
}

#[tokio::test]
async fn what_stripe_signed_and_is_no_event_is_refused_with_what_is_wrong() {
    run(async |app| {
        for body in ["garbage", "{", "", "{}{}", "nul"] {
            let answer = app.signing(body).send("POST", PATH, body).await;
            let answer = answer.has_failed(400, "malformed");
            assert!(answer.body["detail"].as_str().unwrap().contains("not valid JSON"));
        }
        for body in ["[]", "null", "7", "\"text\"", "{}", "\u{feff}{}", r#"{"type":7}"#] {
            let answer = app.signing(body).send("POST", PATH, body).await;
            let answer = answer.has_failed(422, "validation_error");
            assert_eq!(answer.refused_fields(), ["type"]);
        }
        let bare = r#"{"type":"invoice.paid"}"#;
        let answer = app.signing(bare).send("POST", PATH, bare).await;
        let answer = answer.has_failed(422, "validation_error");
        assert_eq!(answer.refused_fields(), ["id", "created"]);
    })
    .await;
}

#[tokio::test]
async fn a_body_over_512_kib_or_too_deep_is_refused_signed_or_not_and_not_read_to_its_end() {
    run(async |app| {
        let mut event = checkout("evt_1", "acme", "starter");
        event["padding"] = "x".repeat(500 * 1024).into();
        app.stripe(&event).await.has_status(200);
        event["padding"] = "x".repeat(1024 * 1024).into();
        app.stripe(&event).await.has_failed(413, "entity_too_large");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(32), "]".repeat(32));
        app.signing(&deep).send("POST", PATH, deep).await.has_failed(400, "malformed");
        let pieces = std::iter::repeat(Bytes::from(" ".repeat(1024)));
        let endless = Body::from_stream(tokio_stream::iter(pieces.map(Ok::<_, String>)));
        app.anon().send("POST", PATH, endless).await.has_failed(413, "entity_too_large");
    })
    .await;
}

#[tokio::test]
async fn without_a_secret_there_is_nothing_at_the_path() {
    with(&[("STRIPE_WEBHOOK_SECRET", "")])
        .run(async |app| {
            let body = body();
            for method in ["POST", "GET"] {
                let answer = app.signing(&body).send(method, PATH, body.clone()).await;
                let answer = answer.has_failed(404, "not_found");
                let nowhere = app.anon().send(method, "/webhooks/other", "").await;
                assert_eq!(answer.body_without_request(), nowhere.body_without_request());
            }
            assert_eq!(app.count(ORGANIZATIONS).await, 0);
        })
        .await;
}

#[tokio::test]
async fn other_methods_are_told_which_there_is() {
    run(async |app| {
        let answer = app.anon().get(PATH).await.has_failed(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "POST");
    })
    .await;
}
