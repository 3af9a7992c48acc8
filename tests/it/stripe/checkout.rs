//! `checkout.session.completed`: creates an organization, or changes its plan to the bought one.

use serde_json::{Value, json};

use super::{buy, with_field, without_field};
use crate::support::app::COUNT_ORGANIZATIONS;
use crate::support::stripe::{
    checkout, invoice_paid, invoice_payment_failed, later, subscription_deleted,
};
use crate::support::{TestApp, run};

/// An organization's stored name, plan, business domain and allowed origins.
async fn stored(app: &TestApp, org_id: &str) -> (String, String, Option<String>, Vec<String>) {
    sqlx::query_as(
        "select name, plan, domain, allowed_origins from organizations where handle = $1",
    )
    .bind(org_id)
    .fetch_one(&mut app.connect().await)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_paid_organization_is_created_from_the_metadata_and_its_key_is_in_no_response() {
    run(async |app| {
        let event = with_field(
            checkout("evt_1", "acme", "starter"),
            "metadata",
            json!({ "org_id": "acme", "plan": "scale", "name": "Acme Corp", "domain": "financial",
                    "allowed_origins": "https://acme.example.com, http://localhost:5173",
                    "colour": "green" }),
        );
        let response = app.send_stripe_event(&event).await.assert_status(200);
        assert_eq!(response.body, json!({ "received": true, "effect": "provisioned" }));
        let (name, plan, domain, origins) = stored(app, "acme").await;
        assert_eq!((name.as_str(), plan.as_str()), ("Acme Corp", "scale"));
        assert_eq!(domain.as_deref(), Some("financial"));
        assert_eq!(origins, ["https://acme.example.com", "http://localhost:5173"]);
        assert_eq!(app.count("select count(*) from api_keys").await, 0);
        let events: (String, Value, String, i16) = sqlx::query_as(
            "select actor, detail, path, status from audit_events
             where event_type = 'organization.provisioned'",
        )
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap();
        assert_eq!(events.0, "stripe");
        assert_eq!(events.1["plan"], "scale");
        assert_eq!((events.2.as_str(), events.3), ("/webhooks/stripe", 200));
    })
    .await;
}

#[tokio::test]
async fn a_missing_name_defaults_to_the_buyer_s_or_the_id() {
    run(async |app| {
        buy(app, "one").await;
        assert_eq!(stored(app, "one").await.0, "Buyer Inc.");
        let nameless =
            with_field(checkout("evt_2", "two", "pro"), "customer_details/name", Value::Null);
        app.send_stripe_event(&nameless).await.assert_status(200);
        let odd = with_field(checkout("evt_3", "three", "pro"), "customer_details/name", "a\u{7}b");
        app.send_stripe_event(&odd).await.assert_status(200);
        for org_id in ["two", "three"] {
            let (name, _, domain, origins) = stored(app, org_id).await;
            assert_eq!((name.as_str(), domain, origins), (org_id, None, vec![]));
        }
    })
    .await;
}

#[tokio::test]
async fn an_unpaid_checkout_creates_its_organization_when_it_is_paid() {
    run(async |app| {
        let mut event =
            with_field(checkout("evt_1", "acme", "starter"), "payment_status", "unpaid");
        let response = app.send_stripe_event(&event).await.assert_status(200);
        assert_eq!(response.body, json!({ "received": true }));
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 0);
        event = with_field(event, "payment_status", "paid");
        event["id"] = "evt_2".into();
        event["type"] = "checkout.session.async_payment_succeeded".into();
        let response = app.send_stripe_event(&event).await.assert_status(200);
        assert_eq!(response.body["effect"], "provisioned");
        let free = with_field(checkout("evt_3", "free", "trial"), "amount_total", 0);
        let free = with_field(free, "payment_status", "no_payment_required");
        app.send_stripe_event(&free).await.assert_status(200);
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 2);
        assert_eq!(app.count("select count(*) from payments").await, 1);
    })
    .await;
}

#[tokio::test]
async fn invalid_metadata_is_named_and_can_be_corrected() {
    run(async |app| {
        let event = checkout("evt_1", "acme", "starter");
        let metadata = "data.object.metadata";
        for (broken, fields) in [
            (with_field(event.clone(), "metadata/org_id", ""), vec!["org_id"]),
            (with_field(event.clone(), "metadata/org_id", "a b"), vec!["org_id"]),
            (with_field(event.clone(), "metadata/org_id", "admin"), vec!["org_id"]),
            (with_field(event.clone(), "metadata/org_id", "system"), vec!["org_id"]),
            (with_field(event.clone(), "metadata/org_id", 7), vec!["org_id"]),
            (without_field(event.clone(), "metadata/tier"), vec!["plan"]),
            (with_field(event.clone(), "metadata/tier", "gold"), vec!["tier"]),
            (with_field(event.clone(), "metadata/name", "x".repeat(129)), vec!["name"]),
            (with_field(event.clone(), "metadata/domain", "farming"), vec!["domain"]),
            (with_field(event.clone(), "metadata/allowed_origins", "*"), vec!["allowed_origins"]),
            (
                with_field(
                    event.clone(),
                    "metadata",
                    json!({ "org_id": "", "tier": "gold", "domain": "x", "allowed_origins": "x" }),
                ),
                vec!["org_id", "tier", "domain", "allowed_origins"],
            ),
        ] {
            let response =
                app.send_stripe_event(&broken).await.assert_error(422, "validation_error");
            assert_eq!(response.header("content-type"), "application/problem+json");
            let issues = response.body["issues"].as_array().unwrap();
            let paths: Vec<_> = issues
                .iter()
                .map(|issue| {
                    let path: Vec<_> = issue["path"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|step| step.as_str().unwrap())
                        .collect();
                    path.join(".")
                })
                .collect();
            let expected: Vec<_> =
                fields.iter().map(|field| format!("{metadata}.{field}")).collect();
            assert_eq!(paths, expected);
        }
        let nowhere = without_field(event.clone(), "customer_details/email");
        let odd = with_field(event.clone(), "customer_details/email", "no address");
        for broken in [nowhere, odd] {
            let response =
                app.send_stripe_event(&broken).await.assert_error(422, "validation_error");
            let path = &response.body["issues"][0]["path"];
            assert_eq!(*path, json!(["data", "object", "customer_details", "email"]));
        }
        let costly = with_field(event.clone(), "currency", "dollars");
        app.send_stripe_event(&costly).await.assert_error(422, "validation_error");
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 0);
        assert_eq!(app.count("select count(*) from idempotency_keys").await, 0);
        // The same event, sent again after the missing data was added.
        app.send_stripe_event(&event).await.assert_status(200);
        assert_eq!(app.count(COUNT_ORGANIZATIONS).await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_existing_organization_gets_the_bought_plan_and_no_key_to_claim() {
    run(async |app| {
        let acme = app.sign_up().await;
        let event = checkout("evt_1", &acme.org_id.to_uppercase(), "scale");
        let event = with_field(event, "metadata/mode", "existing");
        // No mail is sent, so no address is required.
        let event = without_field(event, "customer_details/email");
        let response = app.send_stripe_event(&event).await.assert_status(200);
        assert_eq!(response.body["effect"], "plan_set");
        assert_eq!(stored(app, &acme.org_id).await.1, "scale");
        assert!(app.mails().await.is_empty());
        assert_eq!(app.count("select count(*) from key_claims").await, 0);
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        let events = "select count(*) from audit_events
                    where event_type = 'organization.plan_changed' and actor = 'stripe'";
        assert_eq!(app.count(events).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_home_organization_is_not_moved_to_a_plan_that_it_cannot_have() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        for tier in ["standard", "enterprise"] {
            let event =
                with_field(checkout("evt_1", &ann.org_id, tier), "metadata/mode", "existing");
            let response = app.send_stripe_event(&event).await;
            let response = response.assert_error(422, "validation_error");
            assert_eq!(response.invalid_fields(), ["tier"]);
        }
        assert_eq!(app.count("select count(*) from payments").await, 0);
        let event = with_field(checkout("evt_1", &ann.org_id, "pro"), "metadata/mode", "existing");
        app.send_stripe_event(&event).await.assert_status(200);
        assert_eq!(stored(app, &ann.org_id).await.1, "pro");
    })
    .await;
}

#[tokio::test]
async fn the_newest_checkout_counts_in_whatever_order_they_arrive() {
    run(async |app| {
        buy(app, "acme").await;
        let newer = later(checkout("evt_3", "acme", "scale"), 20);
        assert_eq!(
            app.send_stripe_event(&newer).await.assert_status(200).body["effect"],
            "plan_set"
        );
        let older = later(checkout("evt_2", "acme", "pro"), 10);
        assert_eq!(
            app.send_stripe_event(&older).await.assert_status(200).body["effect"],
            "recorded"
        );
        assert_eq!(stored(app, "acme").await.1, "scale");
        assert_eq!(app.count("select count(*) from payments").await, 3);
    })
    .await;
}

/// Stripe may send the invoice and the session in any order, with timestamps in any order.
#[tokio::test]
async fn an_invoice_reported_before_its_checkout_does_not_prevent_the_plan_change() {
    run(async |app| {
        buy(app, "acme").await;
        let invoice = invoice_paid("evt_2", "acme");
        let details = json!({ "subscription": "sub_new", "metadata": { "org_id": "acme" } });
        let invoice = with_field(invoice, "parent/subscription_details", details);
        let invoice = with_field(invoice, "billing_reason", "subscription_create");
        app.send_stripe_event(&later(invoice, 21)).await.assert_status(200);
        let session = checkout("evt_3", "acme", "scale");
        let session = later(with_field(session, "subscription", "sub_new"), 20);
        assert_eq!(
            app.send_stripe_event(&session).await.assert_status(200).body["effect"],
            "plan_set"
        );
        assert_eq!(stored(app, "acme").await.1, "scale");
        // A checkout does not lift the suspension for a later failed payment.
        let failed = later(invoice_payment_failed("evt_4", "acme"), 40);
        let failed = with_field(failed, "parent/subscription_details/subscription", "sub_new");
        assert_eq!(
            app.send_stripe_event(&failed).await.assert_status(200).body["effect"],
            "suspended"
        );
        let session = checkout("evt_5", "acme", "pro");
        let session = later(with_field(session, "subscription", "sub_new"), 30);
        assert_eq!(
            app.send_stripe_event(&session).await.assert_status(200).body["effect"],
            "plan_set"
        );
        assert_eq!(stored(app, "acme").await.1, "pro");
        let suspended = "select count(*) from organizations where suspended_at is not null";
        assert_eq!(app.count(suspended).await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_last_events_of_the_previous_subscription_change_nothing() {
    run(async |app| {
        buy(app, "acme").await;
        let session = with_field(checkout("evt_2", "acme", "scale"), "subscription", "sub_new");
        assert_eq!(
            app.send_stripe_event(&later(session, 10)).await.assert_status(200).body["effect"],
            "plan_set"
        );
        let details = json!({ "subscription": "sub_acme", "metadata": { "org_id": "acme" } });
        let last =
            with_field(invoice_paid("evt_3", "acme"), "parent/subscription_details", details);
        let response = app.send_stripe_event(&later(last, 20)).await.assert_status(200);
        assert_eq!(response.body["effect"], "recorded");
        app.send_stripe_event(&later(subscription_deleted("evt_4", "acme"), 30))
            .await
            .assert_status(200);
        let suspended = "select count(*) from organizations where suspended_at is not null";
        assert_eq!(app.count(suspended).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_one_time_purchase_does_not_end_with_a_subscription() {
    run(async |app| {
        buy(app, "acme").await;
        let once = with_field(checkout("evt_2", "acme", "scale"), "mode", "payment");
        let once = later(with_field(once, "subscription", Value::Null), 10);
        assert_eq!(
            app.send_stripe_event(&once).await.assert_status(200).body["effect"],
            "plan_set"
        );
        let response = app
            .send_stripe_event(&later(subscription_deleted("evt_3", "acme"), 20))
            .await
            .assert_status(200);
        assert_eq!(response.body, json!({ "received": true }));
        let suspended = "select count(*) from organizations where suspended_at is not null";
        assert_eq!(app.count(suspended).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_new_purchase_reactivates_and_replaces_the_earlier_subscription() {
    run(async |app| {
        buy(app, "acme").await;
        let response = app
            .send_stripe_event(&later(subscription_deleted("evt_2", "acme"), 10))
            .await
            .assert_status(200);
        assert_eq!(response.body["effect"], "suspended");
        // Bought again by another customer with another subscription.
        let again = with_field(checkout("evt_3", "acme", "pro"), "customer", "cus_new");
        let again = with_field(again, "metadata/mode", "existing");
        let again = later(with_field(again, "subscription", "sub_new"), 20);
        assert_eq!(
            app.send_stripe_event(&again).await.assert_status(200).body["effect"],
            "plan_set"
        );
        let suspended = "select count(*) from organizations where suspended_at is not null";
        assert_eq!(app.count(suspended).await, 0);
        let old = later(invoice_payment_failed("evt_4", "acme"), 30);
        assert_eq!(
            app.send_stripe_event(&old).await.assert_status(200).body,
            json!({ "received": true })
        );
        let named = with_field(old, "metadata", json!({ "org_id": "acme" }));
        let named = with_field(named, "parent/subscription_details/metadata/org_id", "acme");
        let mut named = named;
        named["id"] = "evt_5".into();
        assert_eq!(
            app.send_stripe_event(&named).await.assert_status(200).body,
            json!({ "received": true })
        );
        assert_eq!(app.count(suspended).await, 0);
    })
    .await;
}
