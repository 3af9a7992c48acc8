//! A paid checkout that cannot be fulfilled changes no organization and is reported as a failure.
//! The buyer is mailed once.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{buy, with_field, without_field};
use crate::support::stripe::{
    PATH, checkout, invoice_paid, invoice_payment_failed, later, subscription_deleted,
};
use crate::support::{TestApp, run};

const PAYMENTS: &str = "select count(*) from payments";
const OPEN: &str = "select count(*) from unfulfilled_checkouts where settled_at is null";
const SUSPENDED: &str = "select count(*) from organizations where suspended_at is not null";
const AUDITED: &str = "select count(*) from audit_events
                       where event_type = 'checkout.unfulfilled'
                         and organization_id = '00000000-0000-0000-0000-000000000000'";

/// The event with `metadata.mode=existing`.
fn existing(event: Value) -> Value {
    with_field(event, "metadata/mode", "existing")
}

/// Signs up an organization with this id, which is not the buyer's.
async fn sign_up_with_id(app: &TestApp, org_id: &str) -> crate::support::app::CreatedKey {
    let created =
        app.anonymous().post("/signup", json!({ "org_id": org_id })).await.assert_status(201);
    crate::support::app::CreatedKey::from(&created.body)
}

async fn plan(app: &TestApp, org_id: &str) -> String {
    sqlx::query_scalar("select plan from organizations where handle = $1")
        .bind(org_id)
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap()
}

/// Sends a checkout that conflicts with the organization of its id, or with its absence; returns
/// the error's message.
async fn send_conflicting(app: &TestApp, event: &Value) -> String {
    let response = app.send_stripe_event(event).await.assert_error(409, "conflict");
    response.body["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_earlier_signup_with_the_id_does_not_receive_a_buyer_s_plan() {
    run(async |app| {
        let signed_up = sign_up_with_id(app, "buyerco").await;
        let event = checkout("evt_1", "BuyerCo", "scale");
        for _ in 0..3 {
            let detail = send_conflicting(app, &event).await;
            assert!(detail.contains("metadata.mode=existing"), "{detail}");
            app.clock.advance(chrono::TimeDelta::hours(1));
        }
        assert_eq!(plan(app, "buyerco").await, "trial");
        assert_eq!(app.count(PAYMENTS).await, 0);
        assert_eq!(app.count("select count(*) from billing_customers").await, 0);
        app.key(&signed_up.api_key).get("/me").await.assert_status(200);

        // The buyer is mailed, and the deployment's audit log has the reason: once, not per retry.
        let mails = app.mails().await;
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].header("To"), "buyer@example.com");
        assert!(!mails[0].text.to_lowercase().contains("buyerco"), "{}", mails[0].text);
        assert_eq!(app.count(AUDITED).await, 1);
        let (actor, target, status, detail): (String, String, i16, Value) = sqlx::query_as(
            "select actor, target, status, detail from audit_events
             where event_type = 'checkout.unfulfilled'",
        )
        .fetch_one(&mut app.connect().await)
        .await
        .unwrap();
        assert_eq!((actor.as_str(), target.as_str(), status), ("stripe", "BuyerCo", 409));
        let expected = json!({ "event": "evt_1", "customer": "cus_BuyerCo", "plan": "scale",
                               "reason": "belongs_to_another" });
        assert_eq!(detail, expected);
        let delivered_three_times =
            "select count(*) from unfulfilled_checkouts where deliveries = 3";
        assert_eq!(app.count(delivered_three_times).await, 1);
        // No response is stored for later deliveries.
        assert_eq!(app.count("select count(*) from idempotency_keys").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_concurrent_deliveries_send_the_buyer_one_mail() {
    run(async |app| {
        sign_up_with_id(app, "buyerco").await;
        let body = checkout("evt_1", "buyerco", "scale").to_string();
        let mut deliveries = JoinSet::new();
        for _ in 0..20 {
            let (stripe, body) = (app.stripe_client(&body), body.clone());
            deliveries.spawn(async move { stripe.send("POST", PATH, body).await });
        }
        for response in deliveries.join_all().await {
            response.assert_status(409);
        }
        assert_eq!(app.count("select count(*) from outbox").await, 1);
        assert_eq!(app.count(AUDITED).await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_invoice_that_names_an_organization_does_not_make_its_payer_the_customer() {
    run(async |app| {
        sign_up_with_id(app, "buyerco").await;
        send_conflicting(app, &checkout("evt_1", "buyerco", "scale")).await;
        for (id, event) in [
            ("evt_2", invoice_paid as fn(&str, &str) -> Value),
            ("evt_3", invoice_payment_failed),
            ("evt_4", subscription_deleted),
        ] {
            let event = event(id, "buyerco");
            let path = if id == "evt_4" {
                "metadata/org_id"
            } else {
                "parent/subscription_details/metadata/org_id"
            };
            let event = later(with_field(event, path, "buyerco"), 10);
            let response = app.send_stripe_event(&event).await.assert_status(200);
            assert_eq!(response.body, json!({ "received": true }));
        }
        // The organization with the id cannot read the payments, and a failed one does not suspend
        // it.
        assert_eq!(app.count(PAYMENTS).await, 0);
        assert_eq!(app.count(SUSPENDED).await, 0);
        send_conflicting(app, &checkout("evt_1", "buyerco", "scale")).await;
        assert_eq!(plan(app, "buyerco").await, "trial");
    })
    .await;
}

#[tokio::test]
async fn without_mode_existing_only_the_known_customer_changes_the_plan() {
    run(async |app| {
        buy(app, "acme").await;
        let upgrade = later(checkout("evt_2", "acme", "scale"), 10);
        let upgrade = with_field(upgrade, "subscription", "sub_of_the_upgrade");
        assert_eq!(
            app.send_stripe_event(&upgrade).await.assert_status(200).body["effect"],
            "plan_set"
        );
        // Another customer, and a guest, who is no known customer.
        for (id, customer) in [("evt_3", "cus_other".into()), ("evt_4", Value::Null)] {
            let other = with_field(later(checkout(id, "acme", "pro"), 20), "customer", customer);
            send_conflicting(app, &with_field(other, "subscription", format!("sub_{id}"))).await;
        }
        assert_eq!(plan(app, "acme").await, "scale");
    })
    .await;
}

#[tokio::test]
async fn two_guests_are_not_the_same_customer() {
    run(async |app| {
        let guest = |id: &str| {
            let event = with_field(checkout(id, "acme", "starter"), "customer", Value::Null);
            with_field(with_field(event, "subscription", Value::Null), "mode", "payment")
        };
        app.send_stripe_event(&guest("evt_1")).await.assert_status(200);
        send_conflicting(app, &later(guest("evt_2"), 10)).await;
        let meant = existing(later(guest("evt_3"), 20));
        assert_eq!(
            app.send_stripe_event(&meant).await.assert_status(200).body["effect"],
            "plan_set"
        );
    })
    .await;
}

#[tokio::test]
async fn a_checkout_with_mode_existing_changes_the_plan_and_makes_its_payer_the_customer() {
    run(async |app| {
        let acme = app.sign_up().await;
        let first = existing(checkout("evt_1", &acme.org_id, "starter"));
        assert_eq!(
            app.send_stripe_event(&first).await.assert_status(200).body["effect"],
            "plan_set"
        );
        let second = later(checkout("evt_2", &acme.org_id, "scale"), 10);
        assert_eq!(
            app.send_stripe_event(&second).await.assert_status(200).body["effect"],
            "plan_set"
        );
        let failed = later(invoice_payment_failed("evt_3", &acme.org_id), 20);
        assert_eq!(
            app.send_stripe_event(&failed).await.assert_status(200).body["effect"],
            "suspended"
        );
        assert_eq!(app.count(AUDITED).await, 0);
        assert!(app.mails().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_checkout_with_mode_existing_creates_no_organization() {
    run(async |app| {
        let event = existing(checkout("evt_1", "misspelt", "starter"));
        let detail = send_conflicting(app, &event).await;
        assert!(detail.contains("does not exist"), "{detail}");
        assert_eq!(app.count(crate::support::app::COUNT_ORGANIZATIONS).await, 0);
        assert_eq!(app.mails().await.len(), 1);
        // Once the organization exists, the repeated event is fulfilled, and nothing stays open.
        sign_up_with_id(app, "misspelt").await;
        assert_eq!(
            app.send_stripe_event(&event).await.assert_status(200).body["effect"],
            "plan_set"
        );
        assert_eq!(app.count(OPEN).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_organization_s_id_is_not_reused_and_the_buyer_is_mailed() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        app.mails().await;
        let json = app.session(&ann.cookie).with("content-type", "application/json");
        let path = format!("/api/user/organizations/{}", ann.org_id);
        let confirm = json!({ "confirm": ann.org_id }).to_string();
        json.send("DELETE", &path, confirm).await.assert_status(200);
        for event in ["evt_1", "evt_2"].map(|id| checkout(id, &ann.org_id, "pro")) {
            send_conflicting(app, &event).await;
            send_conflicting(app, &existing(event)).await;
        }
        assert_eq!(app.count(AUDITED).await, 2);
        // The second mail replaces the first, which was not sent yet.
        assert_eq!(app.mails().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_fulfilled_checkout_resolves_earlier_unfulfilled_ones_of_the_same_customer() {
    run(async |app| {
        sign_up_with_id(app, "buyerco").await;
        send_conflicting(app, &checkout("evt_1", "buyerco", "scale")).await;
        // Another customer's checkout, which is recorded although no mail can be sent about it.
        let other = with_field(checkout("evt_2", "buyerco", "pro"), "customer", "cus_else");
        send_conflicting(app, &without_field(other, "customer_details/email")).await;
        assert_eq!(app.count(OPEN).await, 2);
        let again = existing(later(checkout("evt_3", "buyerco", "scale"), 60));
        app.send_stripe_event(&again).await.assert_status(200);
        let left = "select count(*) from unfulfilled_checkouts
                    where event_id = 'evt_2' and settled_at is null";
        assert_eq!(app.count(left).await, 1);
        assert_eq!(app.count(OPEN).await, 1);
    })
    .await;
}

/// Stripe repeats the first event for days, even after a later checkout has fulfilled the
/// purchase.
#[tokio::test]
async fn a_purchase_that_was_fulfilled_meanwhile_is_not_reported_again() {
    run(async |app| {
        let incomplete = without_field(checkout("evt_1", "acme", "starter"), "metadata/tier");
        app.send_stripe_event(&incomplete).await.assert_error(422, "validation_error");
        assert_eq!(app.mails().await.len(), 1);
        let good = later(checkout("evt_2", "acme", "starter"), 10);
        assert_eq!(
            app.send_stripe_event(&good).await.assert_status(200).body["effect"],
            "provisioned"
        );
        assert_eq!(app.mails().await.len(), 1, "the link to the key");
        for _ in 0..2 {
            app.send_stripe_event(&incomplete).await.assert_error(422, "validation_error");
        }
        assert_eq!(app.count(AUDITED).await, 1);
        assert!(app.mails().await.is_empty());
        assert_eq!(app.count(OPEN).await, 0);
        let events = "select count(*) from unfulfilled_checkouts where deliveries = 3";
        assert_eq!(app.count(events).await, 1);
    })
    .await;
}

/// The reason, the status and the target of the event in the deployment's audit log.
async fn audited(app: &TestApp, event: &str) -> (String, i16, String) {
    sqlx::query_as(
        "select detail ->> 'reason', status, target from audit_events
         where event_type = 'checkout.unfulfilled' and detail ->> 'event' = $1",
    )
    .bind(event)
    .fetch_one(&mut app.connect().await)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_paid_plan_that_a_home_organization_cannot_have_is_reported_as_unfulfilled() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        app.mails().await;
        let event = existing(checkout("evt_1", &ann.org_id, "enterprise"));
        for _ in 0..2 {
            let response =
                app.send_stripe_event(&event).await.assert_error(422, "validation_error");
            assert_eq!(response.invalid_fields(), ["tier"]);
        }
        let target = ann.org_id.clone();
        assert_eq!(audited(app, "evt_1").await, ("plan_not_for_home".to_owned(), 422, target));
        let mails = app.mails().await;
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].header("To"), "buyer@example.com");
        assert_eq!(app.count(PAYMENTS).await, 0);
        assert_eq!(app.count("select count(*) from billing_customers").await, 0);
        // A checkout for a plan that a home organization can have resolves it.
        let other = existing(later(checkout("evt_2", &ann.org_id, "pro"), 10));
        assert_eq!(
            app.send_stripe_event(&other).await.assert_status(200).body["effect"],
            "plan_set"
        );
        assert_eq!(app.count(OPEN).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_paid_checkout_with_missing_data_is_reported() {
    run(async |app| {
        let event = |id: &str| checkout(id, "acme", "starter");
        let no_mail = [without_field(event("evt_1"), "customer_details/email")];
        let no_plan = [
            without_field(event("evt_2"), "metadata/tier"),
            with_field(event("evt_3"), "metadata/tier", "gold"),
            with_field(event("evt_4"), "metadata/domain", "farming"),
            with_field(event("evt_5"), "currency", "dollars"),
        ];
        for (event, mails) in
            no_mail.iter().map(|it| (it, 0)).chain(no_plan.iter().map(|it| (it, 1)))
        {
            for _ in 0..2 {
                app.send_stripe_event(event).await.assert_error(422, "validation_error");
            }
            let id = event["id"].as_str().unwrap();
            assert_eq!(audited(app, id).await, ("incomplete".to_owned(), 422, "acme".to_owned()));
            assert_eq!(app.mails().await.len(), mails, "{id}");
        }
        assert_eq!(app.count(OPEN).await, 5);
        assert_eq!(app.count(crate::support::app::COUNT_ORGANIZATIONS).await, 0);
        // The same event, sent again after the missing data was added.
        app.send_stripe_event(&event("evt_1")).await.assert_status(200);
        assert_eq!(app.count(OPEN).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_paid_checkout_with_an_invalid_organization_id_is_reported() {
    run(async |app| {
        for (id, org_id, target) in [
            ("evt_1", Value::from("a b"), "a b".to_owned()),
            ("evt_2", "a\u{0}b\u{7}".into(), "ab".to_owned()),
            ("evt_3", "x".repeat(70_000).into(), "x".repeat(64)),
            ("evt_4", 7.into(), String::new()),
        ] {
            let event = with_field(checkout(id, "acme", "starter"), "metadata/org_id", org_id);
            app.send_stripe_event(&event).await.assert_error(422, "validation_error");
            assert_eq!(audited(app, id).await, ("incomplete".to_owned(), 422, target));
            assert_eq!(app.mails().await.len(), 1);
        }
        // An unpaid checkout is not reported.
        let unpaid = without_field(checkout("evt_5", "acme", "starter"), "metadata/tier");
        app.send_stripe_event(&with_field(unpaid, "payment_status", "unpaid"))
            .await
            .assert_status(200);
        assert_eq!(app.count(AUDITED).await, 4);
    })
    .await;
}
