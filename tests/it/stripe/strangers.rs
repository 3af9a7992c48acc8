//! Events of what is not ours: other types, other products in the same account, other customers.

use serde_json::{Value, json};

use super::{bought, with};
use crate::support::stripe::{checkout, ended, event, later, not_paid, paid};
use crate::support::{TestApp, leaks, run};

/// Passes an event that is received and not used.
async fn is_unused(app: &TestApp, event: &Value) {
    let answer = app.stripe(event).await.has_status(200);
    assert_eq!(answer.body, json!({ "received": true }));
}

const SUSPENDED: &str = "select count(*) from organizations where suspended_at is not null";

#[tokio::test]
async fn events_of_other_types_are_received_and_leave_nothing() {
    run(async |app| {
        for kind in ["customer.created", "charge.refunded", "checkout.session.expired", "x"] {
            is_unused(app, &event("evt_1", kind, &json!({}))).await;
        }
        is_unused(app, &json!({ "type": "customer.created" })).await;
        assert_eq!(app.count("select count(*) from idempotency_keys").await, 0);
        assert_eq!(app.count("select count(*) from audit_events").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_customer_of_something_else_is_received_logged_without_a_person_and_may_come_again() {
    run(async |app| {
        let id = format!("evt_of_{}", std::process::id());
        let event = with(not_paid(&id, "acme"), "customer_email", "someone@example.com");
        is_unused(app, &event).await;
        assert!(leaks::log().contains(&id));
        assert!(!leaks::log().contains("someone@example.com"));
        assert!(!leaks::log().contains("cus_acme_unheard_of"));
        is_unused(app, &with(paid("evt_2", "x"), "metadata", json!({ "org_id": "nobody" }))).await;
        is_unused(app, &with(paid("evt_3", "x"), "metadata", json!({ "org_id": "a b" }))).await;
        is_unused(app, &with(ended("evt_4", "x"), "metadata", json!({ "org_id": "system" }))).await;
        assert_eq!(app.count("select count(*) from payments").await, 0);
        // Once its organization is there, the same event counts.
        bought(app, "acme").await;
        let answer = app.stripe(&event).await.has_status(200);
        assert_eq!(answer.body["effect"], "suspended");
    })
    .await;
}

#[tokio::test]
async fn another_product_that_the_same_customer_buys_is_none_of_ours() {
    run(async |app| {
        bought(app, "acme").await;
        let elsewhere = |event: Value| with(with(event, "customer", "cus_acme"), "id", "sub_else");
        is_unused(app, &later(elsewhere(ended("evt_2", "else")), 10)).await;
        is_unused(app, &later(with(not_paid("evt_3", "else"), "customer", "cus_acme"), 20)).await;
        assert_eq!(app.count(SUSPENDED).await, 0);
        app.stripe(&later(not_paid("evt_4", "acme"), 30)).await.has_status(200);
        is_unused(app, &later(with(paid("evt_5", "else"), "customer", "cus_acme"), 40)).await;
        assert_eq!(app.count(SUSPENDED).await, 1);
        assert_eq!(app.count("select count(*) from payments").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_customer_may_pay_for_two_organizations_and_each_stands_for_itself() {
    run(async |app| {
        for org_id in ["one", "two"] {
            let event = checkout(&format!("evt_{org_id}"), org_id, "starter");
            app.stripe(&with(event, "customer", "cus_both")).await.has_status(200);
        }
        let event = with(later(ended("evt_3", "two"), 10), "customer", "cus_both");
        app.stripe(&event).await.has_status(200);
        let two = "select count(*) from organizations
                   where suspended_at is not null and handle = 'two'";
        assert_eq!((app.count(SUSPENDED).await, app.count(two).await), (1, 1));
        // An invoice of neither subscription says nothing of which.
        let mut loose = later(with(not_paid("evt_4", "x"), "customer", "cus_both"), 20);
        loose["data"]["object"].as_object_mut().unwrap().remove("parent");
        is_unused(app, &loose).await;
        assert_eq!(app.count(SUSPENDED).await, 1);
    })
    .await;
}

/// The event as Stripe sends it of an invoice that no subscription made.
fn one_off(mut event: Value) -> Value {
    event["data"]["object"].as_object_mut().unwrap().remove("parent");
    event["data"]["object"]["billing_reason"] = "manual".into();
    event
}

#[tokio::test]
async fn an_invoice_without_the_subscription_that_is_paid_by_suspends_and_reactivates_nobody() {
    run(async |app| {
        bought(app, "acme").await;
        is_unused(app, &one_off(later(not_paid("evt_2", "acme"), 10))).await;
        assert_eq!(app.count(SUSPENDED).await, 0);
        app.stripe(&later(not_paid("evt_3", "acme"), 20)).await.has_status(200);
        assert_eq!(app.count(SUSPENDED).await, 1);
        is_unused(app, &one_off(later(paid("evt_4", "acme"), 30))).await;
        assert_eq!(app.count(SUSPENDED).await, 1);
        assert_eq!(app.count("select count(*) from payments").await, 2);
        // Where it names the organization, it is one of its payments, and still no more than that.
        let named = |event| with(one_off(event), "metadata", json!({ "org_id": "acme" }));
        for (event, seconds) in [(paid("evt_5", "acme"), 40), (not_paid("evt_6", "acme"), 50)] {
            let answer = app.stripe(&later(named(event), seconds)).await.has_status(200);
            assert_eq!(answer.body["effect"], "recorded");
        }
        assert_eq!(app.count(SUSPENDED).await, 1);
        assert_eq!(app.count("select count(*) from payments").await, 4);
        // It hides nothing that the subscription says: that was before it.
        app.stripe(&later(paid("evt_7", "acme"), 35)).await.has_status(200);
        assert_eq!(app.count(SUSPENDED).await, 0);
    })
    .await;
}

/// One endpoint of Stripe's hears of everything that an account sells, and is disabled where it
/// fails for long.
#[tokio::test]
async fn a_checkout_of_another_product_is_received_and_not_used() {
    run(async |app| {
        let event = checkout("evt_1", "acme", "starter");
        for metadata in [json!({}), json!({ "tier": "gold", "plan": "pro", "sku": "mug" })] {
            is_unused(app, &with(event.clone(), "metadata", metadata)).await;
        }
        is_unused(app, &with(event.clone(), "metadata", Value::Null)).await;
        is_unused(app, &super::without(event.clone(), "metadata")).await;
        let unpriced = with(event.clone(), "metadata", json!({}));
        is_unused(app, &with(unpriced, "customer_details", Value::Null)).await;
        // Nothing is bought where a card is only noted down for later.
        let setup = with(event.clone(), "mode", "setup");
        let setup = with(setup, "payment_status", "no_payment_required");
        let setup = with(setup, "amount_total", Value::Null);
        is_unused(app, &with(setup.clone(), "metadata", json!({}))).await;
        is_unused(app, &setup).await;
        assert_eq!(app.count("select count(*) from idempotency_keys").await, 0);
        assert_eq!(app.count(crate::support::app::ORGANIZATIONS).await, 0);
        // What names an organization is ours, and what is broken there is named.
        let broken = with(event, "metadata", json!({ "org_id": "" }));
        app.stripe(&broken).await.has_failed(422, "validation_error");
    })
    .await;
}

#[tokio::test]
async fn a_guest_who_pays_once_has_an_organization_and_no_customer() {
    run(async |app| {
        let event = with(checkout("evt_1", "acme", "pro"), "customer", Value::Null);
        let event = with(event, "subscription", Value::Null);
        let event = with(event, "invoice", Value::Null);
        let answer = app.stripe(&event).await.has_status(200);
        assert_eq!(answer.body["effect"], "provisioned");
        let nobody = "select count(*) from billing_customers where customer_id is null";
        assert_eq!(app.count(nobody).await, 1);
        let reference = "select count(*) from payments where reference = 'cs_test_evt_1'";
        assert_eq!(app.count(reference).await, 1);
    })
    .await;
}
