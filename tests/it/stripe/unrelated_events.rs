//! Unrelated events: other types, other products in the same Stripe account, other customers.

use serde_json::{Value, json};

use super::{buy, with_field};
use crate::support::stripe::{
    checkout, event, invoice_paid, invoice_payment_failed, later, subscription_deleted,
};
use crate::support::{TestApp, run};

/// Checks that an event is received and has no effect.
async fn assert_unused(app: &TestApp, event: &Value) {
    let response = app.send_stripe_event(event).await.assert_status(200);
    assert_eq!(response.body, json!({ "received": true }));
}

const SUSPENDED: &str = "select count(*) from organizations where suspended_at is not null";

#[tokio::test]
async fn events_of_other_types_are_received_and_leave_nothing() {
    run(async |app| {
        for kind in ["customer.created", "charge.refunded", "checkout.session.expired", "x"] {
            assert_unused(app, &event("evt_1", kind, &json!({}))).await;
        }
        assert_unused(app, &json!({ "type": "customer.created" })).await;
        assert_eq!(app.count("select count(*) from idempotency_keys").await, 0);
        assert_eq!(app.count("select count(*) from audit_events").await, 0);
    })
    .await;
}

#[tokio::test]
async fn an_unrelated_customer_s_event_is_logged_without_personal_data_and_can_be_sent_again() {
    run(async |app| {
        let id = format!("evt_of_{}", std::process::id());
        let event = with_field(
            invoice_payment_failed(&id, "acme"),
            "customer_email",
            "someone@example.com",
        );
        assert_unused(app, &event).await;
        assert!(app.log().contains(&id));
        assert!(!app.log().contains("someone@example.com"));
        assert!(!app.log().contains("cus_acme_unheard_of"));
        assert_unused(
            app,
            &with_field(invoice_paid("evt_2", "x"), "metadata", json!({ "org_id": "nobody" })),
        )
        .await;
        assert_unused(
            app,
            &with_field(invoice_paid("evt_3", "x"), "metadata", json!({ "org_id": "a b" })),
        )
        .await;
        assert_unused(
            app,
            &with_field(
                subscription_deleted("evt_4", "x"),
                "metadata",
                json!({ "org_id": "system" }),
            ),
        )
        .await;
        assert_eq!(app.count("select count(*) from payments").await, 0);
        // Once its organization exists, the same event counts.
        buy(app, "acme").await;
        let response = app.send_stripe_event(&event).await.assert_status(200);
        assert_eq!(response.body["effect"], "suspended");
    })
    .await;
}

#[tokio::test]
async fn another_product_of_the_same_customer_is_ignored() {
    run(async |app| {
        buy(app, "acme").await;
        let elsewhere =
            |event: Value| with_field(with_field(event, "customer", "cus_acme"), "id", "sub_else");
        assert_unused(app, &later(elsewhere(subscription_deleted("evt_2", "else")), 10)).await;
        assert_unused(
            app,
            &later(with_field(invoice_payment_failed("evt_3", "else"), "customer", "cus_acme"), 20),
        )
        .await;
        assert_eq!(app.count(SUSPENDED).await, 0);
        app.send_stripe_event(&later(invoice_payment_failed("evt_4", "acme"), 30))
            .await
            .assert_status(200);
        assert_unused(
            app,
            &later(with_field(invoice_paid("evt_5", "else"), "customer", "cus_acme"), 40),
        )
        .await;
        assert_eq!(app.count(SUSPENDED).await, 1);
        assert_eq!(app.count("select count(*) from payments").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_customer_may_pay_for_two_organizations_with_independent_statuses() {
    run(async |app| {
        for org_id in ["one", "two"] {
            let event = checkout(&format!("evt_{org_id}"), org_id, "starter");
            app.send_stripe_event(&with_field(event, "customer", "cus_both"))
                .await
                .assert_status(200);
        }
        let event =
            with_field(later(subscription_deleted("evt_3", "two"), 10), "customer", "cus_both");
        app.send_stripe_event(&event).await.assert_status(200);
        let two = "select count(*) from organizations
                   where suspended_at is not null and handle = 'two'";
        assert_eq!((app.count(SUSPENDED).await, app.count(two).await), (1, 1));
        // An invoice without a subscription belongs to neither organization.
        let mut unrelated =
            later(with_field(invoice_payment_failed("evt_4", "x"), "customer", "cus_both"), 20);
        unrelated["data"]["object"].as_object_mut().unwrap().remove("parent");
        assert_unused(app, &unrelated).await;
        assert_eq!(app.count(SUSPENDED).await, 1);
    })
    .await;
}

/// The event as Stripe sends it for an invoice without a subscription.
fn one_off(mut event: Value) -> Value {
    event["data"]["object"].as_object_mut().unwrap().remove("parent");
    event["data"]["object"]["billing_reason"] = "manual".into();
    event
}

#[tokio::test]
async fn an_invoice_without_the_subscription_suspends_and_reactivates_no_organization() {
    run(async |app| {
        buy(app, "acme").await;
        assert_unused(app, &one_off(later(invoice_payment_failed("evt_2", "acme"), 10))).await;
        assert_eq!(app.count(SUSPENDED).await, 0);
        app.send_stripe_event(&later(invoice_payment_failed("evt_3", "acme"), 20))
            .await
            .assert_status(200);
        assert_eq!(app.count(SUSPENDED).await, 1);
        assert_unused(app, &one_off(later(invoice_paid("evt_4", "acme"), 30))).await;
        assert_eq!(app.count(SUSPENDED).await, 1);
        assert_eq!(app.count("select count(*) from payments").await, 2);
        // If it names the organization, it is recorded as a payment and has no effect.
        let of_acme = |event| with_field(one_off(event), "metadata", json!({ "org_id": "acme" }));
        for (event, seconds) in
            [(invoice_paid("evt_5", "acme"), 40), (invoice_payment_failed("evt_6", "acme"), 50)]
        {
            let response =
                app.send_stripe_event(&later(of_acme(event), seconds)).await.assert_status(200);
            assert_eq!(response.body["effect"], "recorded");
        }
        assert_eq!(app.count(SUSPENDED).await, 1);
        assert_eq!(app.count("select count(*) from payments").await, 4);
        // It does not hide an earlier event of the subscription.
        app.send_stripe_event(&later(invoice_paid("evt_7", "acme"), 35)).await.assert_status(200);
        assert_eq!(app.count(SUSPENDED).await, 0);
    })
    .await;
}

/// A Stripe endpoint receives the events of all products of an account, and is disabled if it fails
/// for long.
#[tokio::test]
async fn a_checkout_of_another_product_is_received_and_not_used() {
    run(async |app| {
        let event = checkout("evt_1", "acme", "starter");
        for metadata in [json!({}), json!({ "tier": "gold", "plan": "pro", "sku": "mug" })] {
            assert_unused(app, &with_field(event.clone(), "metadata", metadata)).await;
        }
        assert_unused(app, &with_field(event.clone(), "metadata", Value::Null)).await;
        assert_unused(app, &super::without_field(event.clone(), "metadata")).await;
        let unpriced = with_field(event.clone(), "metadata", json!({}));
        assert_unused(app, &with_field(unpriced, "customer_details", Value::Null)).await;
        // A checkout that only saves a card buys nothing.
        let setup = with_field(event.clone(), "mode", "setup");
        let setup = with_field(setup, "payment_status", "no_payment_required");
        let setup = with_field(setup, "amount_total", Value::Null);
        assert_unused(app, &with_field(setup.clone(), "metadata", json!({}))).await;
        assert_unused(app, &setup).await;
        assert_eq!(app.count("select count(*) from idempotency_keys").await, 0);
        assert_eq!(app.count(crate::support::app::COUNT_ORGANIZATIONS).await, 0);
        // An event that names an organization is ours, and its invalid fields are reported.
        let broken = with_field(event, "metadata", json!({ "org_id": "" }));
        app.send_stripe_event(&broken).await.assert_error(422, "validation_error");
    })
    .await;
}

#[tokio::test]
async fn a_guest_who_pays_once_gets_an_organization_without_a_customer_id() {
    run(async |app| {
        let event = with_field(checkout("evt_1", "acme", "pro"), "customer", Value::Null);
        let event = with_field(event, "subscription", Value::Null);
        let event = with_field(event, "invoice", Value::Null);
        let response = app.send_stripe_event(&event).await.assert_status(200);
        assert_eq!(response.body["effect"], "provisioned");
        let without_customer = "select count(*) from billing_customers where customer_id is null";
        assert_eq!(app.count(without_customer).await, 1);
        let reference = "select count(*) from payments where reference = 'cs_test_evt_1'";
        assert_eq!(app.count(reference).await, 1);
    })
    .await;
}
