//! The end of a subscription is final. An organization may have several ended subscriptions.

use serde_json::{Value, json};
use tenantry::domain::retention;

use super::{buy_and_claim, with_field, without_field};
use crate::support::app::text;
use crate::support::stripe::{
    checkout, invoice_paid, invoice_payment_failed, later, subscription_deleted,
};
use crate::support::{TestApp, run, with_settings};

const OPEN: &str = "select count(*) from unfulfilled_checkouts where settled_at is null";
const PAID: &str = "select count(*) from payments where status = 'paid'";

async fn effect(app: &TestApp, event: &Value, seconds: i64) -> String {
    let response = app.send_stripe_event(&later(event.clone(), seconds)).await.assert_status(200);
    text(&response.body["effect"])
}

async fn status(app: &TestApp, key: &str) -> u16 {
    app.key(key).get("/me").await.status.as_u16()
}

/// A checkout of another subscription.
fn buys(id: &str, subscription: &str) -> Value {
    with_field(checkout(id, "acme", "scale"), "subscription", subscription)
}

/// The end of a subscription, with the organization in its metadata.
fn ends(id: &str, subscription: &str) -> Value {
    let event =
        with_field(subscription_deleted(id, "acme"), "metadata", json!({ "org_id": "acme" }));
    with_field(event, "id", subscription)
}

/// An invoice of a subscription; `reason` makes it the first or a later one.
fn of(invoice: Value, subscription: &str, reason: &str) -> Value {
    let invoice = with_field(invoice, "billing_reason", reason);
    let details = json!({ "subscription": subscription, "metadata": { "org_id": "acme" } });
    with_field(invoice, "parent/subscription_details", details)
}

async fn payer(app: &TestApp) -> String {
    sqlx::query_scalar("select subscription_id from billing_customers")
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_end_reported_before_its_checkout_leaves_the_customer_unchanged() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        assert_eq!(effect(app, &invoice_payment_failed("evt_1", "acme"), 5).await, "suspended");
        assert_eq!(effect(app, &ends("evt_2", "sub_new"), 20).await, "recorded");
        for (id, reason) in [("evt_3", "subscription_create"), ("evt_4", "subscription_cycle")] {
            let invoice = of(invoice_paid(id, "acme"), "sub_new", reason);
            assert_eq!(effect(app, &invoice, 10).await, "recorded", "{reason}");
        }
        assert_eq!(app.count(PAID).await, 3);
        let late = later(buys("evt_5", "sub_new"), 10);
        let response = app.send_stripe_event(&late).await.assert_error(409, "conflict");
        assert!(response.text.contains("subscription has ended"), "{}", response.text);
        assert_eq!(payer(app).await, "sub_acme");
        assert_eq!(status(app, &key).await, 403);
        assert_eq!(app.count("select count(*) from organizations where plan = 'scale'").await, 0);
        // The current subscription continues.
        assert_eq!(effect(app, &invoice_paid("evt_6", "acme"), 30).await, "reactivated");
        assert_eq!(status(app, &key).await, 200);
    })
    .await;
}

#[tokio::test]
async fn a_first_invoice_of_an_ended_subscription_reactivates_nothing() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        assert_eq!(effect(app, &ends("evt_1", "sub_acme"), 10).await, "suspended");
        assert_eq!(effect(app, &buys("evt_2", "sub_new"), 20).await, "plan_set");
        assert_eq!(effect(app, &ends("evt_3", "sub_new"), 30).await, "suspended");
        for (id, subscription) in [("evt_4", "sub_acme"), ("evt_5", "sub_new")] {
            let first = of(invoice_paid(id, "acme"), subscription, "subscription_create");
            assert_eq!(effect(app, &first, 40).await, "recorded", "{subscription}");
        }
        assert_eq!(payer(app).await, "sub_new");
        assert_eq!(status(app, &key).await, 403);
        assert_eq!(effect(app, &buys("evt_6", "sub_newest"), 50).await, "plan_set");
        // An unpaid invoice of an earlier subscription does not suspend.
        let failed = of(invoice_payment_failed("evt_7", "acme"), "sub_acme", "subscription_cycle");
        assert_eq!(effect(app, &failed, 60).await, "recorded");
        assert_eq!(status(app, &key).await, 200);
        assert_eq!(app.count("select count(*) from ended_subscriptions").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_late_payment_from_before_the_end_lifts_only_a_suspension_the_end_did_not_cause() {
    for (policy, lifted) in
        [("payment_failed", true), ("payment_failed,subscription_deleted", false)]
    {
        with_settings(&[("STRIPE_SUSPEND_ON", policy)])
            .run(async |app| {
                let key = buy_and_claim(app, "acme").await;
                assert_eq!(
                    effect(app, &invoice_payment_failed("evt_1", "acme"), 10).await,
                    "suspended"
                );
                assert_eq!(
                    effect(app, &subscription_deleted("evt_2", "acme"), 30).await,
                    "recorded"
                );
                let expected = if lifted { "reactivated" } else { "recorded" };
                assert_eq!(
                    effect(app, &invoice_paid("evt_3", "acme"), 20).await,
                    expected,
                    "{policy}"
                );
                assert_eq!(status(app, &key).await, if lifted { 200 } else { 403 });
            })
            .await;
    }
}

#[tokio::test]
async fn a_paid_checkout_of_an_ended_subscription_is_reported_and_resolves_no_other() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        app.mails().await;
        let other = later(buys("evt_1", "sub_incomplete"), 5);
        let other = without_field(other, "customer_details/email");
        let other = with_field(other, "metadata/tier", "gold");
        app.send_stripe_event(&other).await.assert_error(422, "validation_error");
        assert_eq!(effect(app, &ends("evt_2", "sub_acme"), 20).await, "suspended");
        for _ in 0..2 {
            let late = later(buys("evt_3", "sub_acme"), 10);
            app.send_stripe_event(&late).await.assert_error(409, "conflict");
        }
        let reason = "select count(*) from audit_events where event_type = 'checkout.unfulfilled'
                      and detail ->> 'reason' = 'subscription_ended'";
        assert_eq!(app.count(reason).await, 1);
        assert_eq!(app.mails().await.len(), 1);
        assert_eq!(app.count(OPEN).await, 2);
        assert_eq!(status(app, &key).await, 403);
        // A checkout that is older than the last one does not resolve others, either.
        assert_eq!(effect(app, &buys("evt_4", "sub_newer"), 30).await, "plan_set");
        assert_eq!(app.count(OPEN).await, 0, "the later checkout resolves every earlier one");
        let third = with_field(later(buys("evt_5", "sub_third"), 28), "metadata/tier", "gold");
        app.send_stripe_event(&third).await.assert_error(422, "validation_error");
        assert_eq!(effect(app, &buys("evt_6", "sub_older"), 25).await, "recorded");
        assert_eq!(app.count(OPEN).await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_end_of_an_unknown_subscription_is_stored_and_its_late_checkout_is_a_conflict() {
    run(async |app| {
        // The event's metadata names no organization, and its subscription is unknown.
        let end = later(subscription_deleted("evt_1", "acme"), 20);
        assert!(app.send_stripe_event(&end).await.assert_status(200).body["effect"].is_null());
        let late = later(checkout("evt_2", "acme", "starter"), 10);
        app.send_stripe_event(&late).await.assert_error(409, "conflict");
        app.anonymous().post("/signup", json!({ "org_id": "acme" })).await.assert_status(201);
        let existing =
            with_field(later(checkout("evt_3", "acme", "scale"), 10), "metadata/mode", "existing");
        app.send_stripe_event(&existing).await.assert_error(409, "conflict");
        let count = "select count(*) from organizations where plan in ('starter', 'scale')";
        assert_eq!(app.count(count).await, 0);
        // Unknown ended subscriptions are deleted after 30 days.
        app.execute("update ended_subscriptions set ended_at = now() - interval '31 days'").await;
        retention::sweep(&app.app).await;
        assert_eq!(app.count("select count(*) from ended_subscriptions").await, 0);
    })
    .await;
}

#[tokio::test]
async fn an_older_checkout_of_an_ended_subscription_is_no_failure_once_a_newer_one_is_fulfilled() {
    run(async |app| {
        buy_and_claim(app, "acme").await;
        assert_eq!(effect(app, &buys("evt_1", "sub_new"), 30).await, "plan_set");
        assert_eq!(effect(app, &ends("evt_2", "sub_old"), 20).await, "recorded");
        assert_eq!(effect(app, &buys("evt_3", "sub_old"), 10).await, "recorded");
        assert_eq!(app.count(OPEN).await, 0);
    })
    .await;
}
