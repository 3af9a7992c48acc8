//! An event that is delivered repeatedly or concurrently counts once.

use serde_json::json;
use tokio::task::JoinSet;

use super::buy;
use crate::support::app::COUNT_ORGANIZATIONS;
use crate::support::run;
use crate::support::stripe::{
    PATH, WEBHOOK_SECRET, checkout, invoice_paid, invoice_payment_failed, later, signature_header,
};

#[tokio::test]
async fn a_repeated_event_gets_the_same_response_whatever_else_differs() {
    run(async |app| {
        let mut event = checkout("evt_1", "acme", "starter");
        let first = app.send_stripe_event(&event).await.assert_status(200);
        assert_eq!(first.header("idempotent-replayed"), "");
        event["pending_webhooks"] = 0.into();
        app.clock.advance(chrono::TimeDelta::days(3));
        let again = app.send_stripe_event(&event).await.assert_status(200);
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("idempotent-replayed"), "true");
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 1);
        assert_eq!(app.count("select count(*) from payments").await, 1);
        assert_eq!(app.mails().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_suspension_event_does_not_undo_a_later_payment() {
    run(async |app| {
        buy(app, "acme").await;
        let failed = later(invoice_payment_failed("evt_2", "acme"), 10);
        app.send_stripe_event(&failed).await.assert_status(200);
        app.send_stripe_event(&later(invoice_paid("evt_3", "acme"), 10)).await.assert_status(200);
        let again = app.send_stripe_event(&failed).await.assert_status(200);
        assert_eq!(again.body["effect"], "suspended");
        let suspended = "select count(*) from organizations where suspended_at is not null";
        assert_eq!(app.count(suspended).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_concurrent_deliveries_create_one_organization() {
    run(async |app| {
        let body = checkout("evt_1", "acme", "starter").to_string();
        let signed = signature_header(WEBHOOK_SECRET, app.now_seconds(), body.as_bytes());
        let stripe = app.anonymous().with("stripe-signature", &signed);
        let mut deliveries = JoinSet::new();
        for _ in 0..20 {
            let (stripe, body) = (stripe.clone(), body.clone());
            deliveries.spawn(async move { stripe.send("POST", PATH, body).await });
        }
        for response in deliveries.join_all().await {
            if response.status == 200 {
                assert_eq!(response.body["effect"], "provisioned");
                continue;
            }
            let busy = response.assert_error(409, "idempotency_processing");
            assert_eq!(busy.header("retry-after"), "1");
        }
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 1);
        assert_eq!(app.count("select count(*) from payments").await, 1);
        assert_eq!(app.count("select count(*) from outbox").await, 1);
        stripe.send("POST", PATH, body).await.assert_status(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_several_concurrent_events_counts() {
    run(async |app| {
        buy(app, "acme").await;
        let mut deliveries = JoinSet::new();
        for number in 0..10 {
            let event = later(invoice_paid(&format!("evt_{number}"), "acme"), number);
            let body = event.to_string();
            let stripe = app.stripe_client(&body);
            deliveries.spawn(async move { stripe.send("POST", PATH, body).await });
        }
        for response in deliveries.join_all().await {
            response.assert_status(200);
        }
        assert_eq!(app.count("select count(*) from payments").await, 11);
    })
    .await;
}

#[tokio::test]
async fn only_the_outcome_of_an_event_is_stored() {
    run(async |app| {
        let mut event = checkout("evt_1", "acme", "starter");
        event["data"]["object"]["customer_details"]["phone"] = "+15551234567".into();
        app.send_stripe_event(&event).await.assert_status(200);
        app.seen_secrets.lock().unwrap().push("+15551234567".to_owned());
        let stored: serde_json::Value = sqlx::query_scalar("select body from idempotency_keys")
            .fetch_one(&mut app.connect().await)
            .await
            .unwrap();
        assert_eq!(stored, json!({ "received": true, "effect": "provisioned" }));
        let until = "select count(*) from idempotency_keys
                     where expires_at = created_at + interval '30 days' and principal = 'STRIPE'";
        assert_eq!(app.count(until).await, 1);
    })
    .await;
}
