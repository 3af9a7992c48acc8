//! `invoice.paid`, `invoice.payment_failed`, `customer.subscription.deleted`: a failed payment
//! suspends, a payment reactivates, and a decision of support stays.

use serde_json::{Value, json};

use super::{buy_and_claim, with_field};
use crate::support::app::text;
use crate::support::stripe::{
    checkout, invoice_paid, invoice_payment_failed, later, subscription_deleted,
};
use crate::support::{TestApp, run, with_settings};

/// The path of an invoice's subscription.
const SUBSCRIPTION: &str = "parent/subscription_details/subscription";
const FAILED: &str = "select count(*) from payments where status = 'failed'";

async fn send_for_effect(app: &TestApp, event: &Value) -> String {
    text(&app.send_stripe_event(event).await.assert_status(200).body["effect"])
}

/// Suspends or reactivates as support does.
async fn send_support_request(app: &TestApp, org_id: &str, what: &str, name: &str) {
    let request = json!({ "confirm_org_id": org_id, "idempotency_key": name });
    let path = format!("/v1/admin/org/{org_id}/{what}");
    app.master_with_idempotency_key("ORG_SUSPEND", name)
        .post(&path, request)
        .await
        .assert_status(200);
}

/// Suspends as a billing worker does.
async fn suspend_for_billing(app: &TestApp, org_id: &str, name: &str) {
    let path = format!("/v1/admin/billing/org/{org_id}/suspend");
    app.master_with_idempotency_key("BILLING_SUSPEND", name)
        .post(&path, json!({}))
        .await
        .assert_status(200);
}

async fn status(app: &TestApp, key: &str) -> u16 {
    app.key(key).get("/me").await.status.as_u16()
}

#[tokio::test]
async fn a_failed_payment_suspends_at_once_and_a_payment_reactivates_with_the_same_key() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        for number in 0..2 {
            let seconds = 10 + 10 * number;
            let event =
                later(invoice_payment_failed(&format!("evt_fails_{number}"), "acme"), seconds);
            assert_eq!(send_for_effect(app, &event).await, "suspended");
            app.key(&key).get("/me").await.assert_error(403, "organization_suspended");
            let pays = later(invoice_paid(&format!("evt_pays_{number}"), "acme"), seconds + 5);
            assert_eq!(send_for_effect(app, &pays).await, "reactivated");
            assert_eq!(status(app, &key).await, 200);
        }
        assert_eq!(
            send_for_effect(app, &later(invoice_paid("evt_4", "acme"), 40)).await,
            "recorded"
        );
        let events: Vec<String> = sqlx::query_scalar(
            "select event_type from audit_events where actor = 'stripe' order by id",
        )
        .fetch_all(&mut app.connect().await)
        .await
        .unwrap();
        let (off, on) = ("organization.suspended", "organization.reactivated");
        assert_eq!(events, ["organization.provisioned", off, on, off, on]);
    })
    .await;
}

#[tokio::test]
async fn the_operator_s_setting_decides_what_suspends() {
    for (policy, failed, deleted) in [
        ("payment_failed", "suspended", "recorded"),
        ("subscription_deleted", "recorded", "suspended"),
        ("never", "recorded", "recorded"),
    ] {
        with_settings(&[("STRIPE_SUSPEND_ON", policy)])
            .run(async |app| {
                buy_and_claim(app, "one").await;
                assert_eq!(
                    send_for_effect(app, &invoice_payment_failed("evt_1", "one")).await,
                    failed,
                    "{policy}"
                );
                buy_and_claim(app, "two").await;
                assert_eq!(
                    send_for_effect(app, &subscription_deleted("evt_2", "two")).await,
                    deleted,
                    "{policy}"
                );
            })
            .await;
    }
}

#[tokio::test]
async fn an_event_older_than_the_last_applied_one_changes_no_status() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        assert_eq!(
            send_for_effect(app, &later(invoice_paid("evt_2", "acme"), 60)).await,
            "recorded"
        );
        // Delivered late: a payment followed it.
        assert_eq!(
            send_for_effect(app, &later(invoice_payment_failed("evt_3", "acme"), 30)).await,
            "recorded"
        );
        assert_eq!(status(app, &key).await, 200);
        assert_eq!(
            send_for_effect(app, &later(subscription_deleted("evt_4", "acme"), 90)).await,
            "suspended"
        );
        assert_eq!(
            send_for_effect(app, &later(invoice_paid("evt_5", "acme"), 80)).await,
            "recorded"
        );
        assert_eq!(status(app, &key).await, 403);
        // All payments are recorded: the checkout's, and three invoices.
        assert_eq!(app.count("select count(*) from payments where status = 'paid'").await, 3);
        assert_eq!(app.count("select count(*) from payments where status = 'failed'").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_payment_reported_late_reactivates_after_a_newer_event_that_suspended_nothing() {
    with_settings(&[("STRIPE_SUSPEND_ON", "never")])
        .run(async |app| {
            let key = buy_and_claim(app, "acme").await;
            suspend_for_billing(app, "acme", "evt_w").await;
            assert_eq!(
                send_for_effect(app, &later(invoice_payment_failed("evt_2", "acme"), 60)).await,
                "recorded"
            );
            assert_eq!(
                send_for_effect(app, &later(invoice_paid("evt_3", "acme"), 30)).await,
                "reactivated"
            );
            assert_eq!(status(app, &key).await, 200);
        })
        .await;
}

#[tokio::test]
async fn a_payment_lifts_only_a_suspension_by_billing() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        suspend_for_billing(app, "acme", "evt_w1").await;
        assert_eq!(
            send_for_effect(app, &later(invoice_paid("evt_2", "acme"), 10)).await,
            "reactivated"
        );
        send_support_request(app, "acme", "suspend", "evt_s1").await;
        assert_eq!(
            send_for_effect(app, &later(invoice_paid("evt_3", "acme"), 20)).await,
            "recorded"
        );
        assert_eq!(status(app, &key).await, 403);
        // A failed payment does not replace support's suspension, either.
        assert_eq!(
            send_for_effect(app, &later(invoice_payment_failed("evt_4", "acme"), 30)).await,
            "recorded"
        );
        suspend_for_billing(app, "acme", "evt_w2").await;
        assert_eq!(
            send_for_effect(app, &later(invoice_paid("evt_5", "acme"), 40)).await,
            "recorded"
        );
        assert_eq!(status(app, &key).await, 403);
        send_support_request(app, "acme", "reactivate", "evt_s2").await;
        assert_eq!(status(app, &key).await, 200);
    })
    .await;
}

#[tokio::test]
async fn a_suspension_by_support_outranks_one_by_billing() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        assert_eq!(
            send_for_effect(app, &later(invoice_payment_failed("evt_2", "acme"), 10)).await,
            "suspended"
        );
        let since = "select count(*) from organizations
                     where suspended_at = '2036-05-08T09:56:42.855Z'";
        app.clock.advance(chrono::TimeDelta::hours(1));
        send_support_request(app, "acme", "suspend", "evt_s1").await;
        assert_eq!(app.count(since).await, 1);
        assert_eq!(
            send_for_effect(app, &later(invoice_paid("evt_3", "acme"), 20)).await,
            "recorded"
        );
        assert_eq!(status(app, &key).await, 403);
        let events: Vec<(String, Value)> = sqlx::query_as(
            "select actor, detail from audit_events where event_type = 'organization.suspended'
             order by id",
        )
        .fetch_all(&mut app.connect().await)
        .await
        .unwrap();
        let before = json!({ "suspended_before_by": "stripe" });
        assert_eq!(events[0], ("stripe".to_owned(), json!({})));
        assert_eq!(events[1], ("master:ORG_SUSPEND".to_owned(), before));
        assert_eq!(events.len(), 2);
        // A checkout does not lift it, either.
        let again = later(checkout("evt_4", "acme", "pro"), 30);
        assert_eq!(send_for_effect(app, &again).await, "plan_set");
        assert_eq!(status(app, &key).await, 403);
    })
    .await;
}

#[tokio::test]
async fn the_organization_is_found_by_its_metadata_if_its_customer_is_unknown() {
    run(async |app| {
        let acme = app.sign_up().await;
        let metadata = json!({ "org_id": acme.org_id, "mode": "existing" });
        let event = invoice_payment_failed("evt_1", "elsewhere");
        let basil = with_field(event, "parent/subscription_details/metadata", metadata.clone());
        assert_eq!(send_for_effect(app, &basil).await, "suspended");
        // The format of API versions before 2025-03-31.
        let mut older = later(invoice_paid("evt_2", "elsewhere"), 10);
        let object = older["data"]["object"].as_object_mut().unwrap();
        object.remove("parent");
        object.insert("subscription".to_owned(), "sub_elsewhere".into());
        let details = json!({ "metadata": metadata });
        object.insert("subscription_details".to_owned(), details);
        assert_eq!(send_for_effect(app, &older).await, "reactivated");
        // From now on the organization is found by its customer.
        assert_eq!(
            send_for_effect(app, &later(subscription_deleted("evt_3", "elsewhere"), 20)).await,
            "suspended"
        );
        assert_eq!(status(app, &acme.api_key).await, 403);
    })
    .await;
}

/// An invoice of a subscription may be paid long after the subscription ended.
#[tokio::test]
async fn the_last_invoice_of_an_ended_subscription_does_not_reactivate() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        assert_eq!(
            send_for_effect(app, &later(subscription_deleted("evt_2", "acme"), 10)).await,
            "suspended"
        );
        for (id, reason) in [("evt_3", "subscription_cycle"), ("evt_4", "subscription_create")] {
            let invoice = with_field(invoice_paid(id, "acme"), "billing_reason", reason);
            let path = "parent/subscription_details/metadata/org_id";
            let invoice = later(with_field(invoice, path, "acme"), 20);
            assert_eq!(send_for_effect(app, &invoice).await, "recorded", "{reason}");
        }
        assert_eq!(status(app, &key).await, 403);
        // All payments are recorded: the checkout's, and these.
        assert_eq!(app.count("select count(*) from payments where status = 'paid'").await, 3);
        // Another purchase reactivates.
        let again = with_field(checkout("evt_5", "acme", "pro"), "subscription", "sub_new");
        assert_eq!(send_for_effect(app, &later(again, 30)).await, "plan_set");
        assert_eq!(status(app, &key).await, 200);
        let renewal = later(with_field(invoice_paid("evt_6", "acme"), SUBSCRIPTION, "sub_new"), 50);
        let failed =
            later(with_field(invoice_payment_failed("evt_7", "acme"), SUBSCRIPTION, "sub_new"), 40);
        assert_eq!(send_for_effect(app, &failed).await, "suspended");
        assert_eq!(send_for_effect(app, &renewal).await, "reactivated");
        // The earlier subscription stays ended.
        let last =
            with_field(invoice_paid("evt_8", "acme"), "billing_reason", "subscription_create");
        let last = with_field(last, "parent/subscription_details/metadata/org_id", "acme");
        assert_eq!(send_for_effect(app, &later(last, 60)).await, "recorded");
        let end = with_field(subscription_deleted("evt_9", "acme"), "id", "sub_new");
        assert_eq!(send_for_effect(app, &later(end, 70)).await, "suspended");
    })
    .await;
}

/// An end is final: events with a later timestamp that arrived before it do not hide it.
#[tokio::test]
async fn a_subscription_ends_in_whatever_order_its_last_events_arrive() {
    run(async |app| {
        let key = buy_and_claim(app, "acme").await;
        assert_eq!(
            send_for_effect(app, &later(invoice_payment_failed("evt_2", "acme"), 10)).await,
            "suspended"
        );
        assert_eq!(
            send_for_effect(app, &later(invoice_paid("evt_3", "acme"), 30)).await,
            "reactivated"
        );
        assert_eq!(
            send_for_effect(app, &later(subscription_deleted("evt_4", "acme"), 20)).await,
            "suspended"
        );
        assert_eq!(
            send_for_effect(app, &later(invoice_paid("evt_5", "acme"), 40)).await,
            "recorded"
        );
        assert_eq!(status(app, &key).await, 403);
        // The subscription's checkout, paid by slow transfer, does not reactivate, either.
        let late = later(checkout("evt_6", "acme", "scale"), 50);
        app.send_stripe_event(&late).await.assert_error(409, "conflict");
        assert_eq!(status(app, &key).await, 403);
        assert_eq!(app.count("select count(*) from organizations where plan = 'scale'").await, 0);
    })
    .await;
}

/// The operator's setting suspends only for failed payments.
#[tokio::test]
async fn the_end_of_a_subscription_is_final_even_if_it_does_not_suspend() {
    with_settings(&[("STRIPE_SUSPEND_ON", "payment_failed")])
        .run(async |app| {
            let key = buy_and_claim(app, "acme").await;
            assert_eq!(
                send_for_effect(app, &later(subscription_deleted("evt_2", "acme"), 50)).await,
                "recorded"
            );
            assert_eq!(status(app, &key).await, 200);
            // A payment that fails after the end is listed, and does not suspend.
            let failed = later(invoice_payment_failed("evt_3", "acme"), 60);
            assert_eq!(send_for_effect(app, &failed).await, "recorded");
            assert_eq!(status(app, &key).await, 200);
            // A payment that failed before the end suspends, even if it is delivered late.
            let failed = later(invoice_payment_failed("evt_4", "acme"), 20);
            assert_eq!(send_for_effect(app, &failed).await, "suspended");
            assert_eq!(status(app, &key).await, 403);
            assert_eq!(app.count(FAILED).await, 2);
        })
        .await;
}
