//! Signed webhook events of Stripe.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tenantry::clock::Clock;

use super::TestApp;
use super::client::{TestClient, TestResponse};
use super::leaks;

/// The secret of Stripe's signatures in tests.
pub const WEBHOOK_SECRET: &str = "whsec_of_the_tests_0123456789";
/// The path of the webhook.
pub const PATH: &str = "/webhooks/stripe";

/// The `v1` signature of a body that is signed at a time.
pub fn signature(secret: &str, seconds: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    leaks::hex(&mac.finalize().into_bytes())
}

/// The signature header of a body that is signed at a time.
pub fn signature_header(secret: &str, seconds: i64, body: &[u8]) -> String {
    format!("t={seconds},v1={}", signature(secret, seconds, body))
}

impl TestApp {
    /// The server's time in seconds.
    pub fn now_seconds(&self) -> i64 {
        let now: DateTime<Utc> = self.clock.now();
        now.timestamp()
    }

    /// A client with the signature of this body at the current time.
    pub fn stripe_client(&self, body: &str) -> TestClient {
        self.seen_secrets.lock().unwrap().push(WEBHOOK_SECRET.to_owned());
        self.anonymous().with(
            "stripe-signature",
            &signature_header(WEBHOOK_SECRET, self.now_seconds(), body.as_bytes()),
        )
    }

    /// Sends an event, signed at the current time.
    pub async fn send_stripe_event(&self, event: &Value) -> TestResponse {
        let body = event.to_string();
        self.stripe_client(&body).send("POST", PATH, body).await
    }
}

/// An event that happened when the tests' clock starts.
pub fn event(id: &str, kind: &str, object: &Value) -> Value {
    json!({
        "id": id, "object": "event", "api_version": "2025-03-31.basil", "created": 2_093_853_402,
        "data": { "object": object }, "livemode": false, "pending_webhooks": 1, "type": kind,
        "request": { "id": null, "idempotency_key": null },
    })
}

/// The same event, created some seconds later.
pub fn later(mut event: Value, seconds: i64) -> Value {
    event["created"] = json!(event["created"].as_i64().unwrap() + seconds);
    event
}

/// A paid checkout of an organization, whose customer and subscription ids contain its id.
pub fn checkout(id: &str, org_id: &str, tier: &str) -> Value {
    event(
        id,
        "checkout.session.completed",
        &json!({
            "id": format!("cs_test_{id}"), "object": "checkout.session", "mode": "subscription",
            "amount_total": 2900, "currency": "usd", "customer": format!("cus_{org_id}"),
            "customer_details": { "email": "Buyer@Example.com", "name": "Buyer Inc.",
                                  "tax_ids": [] },
            "invoice": format!("in_of_{id}"), "payment_status": "paid", "status": "complete",
            "subscription": format!("sub_{org_id}"),
            "metadata": { "org_id": org_id, "tier": tier },
        }),
    )
}

/// An invoice of the subscription of [`checkout`].
fn invoice(id: &str, kind: &str, org_id: &str) -> Value {
    event(
        id,
        kind,
        &json!({
            "id": format!("in_of_{id}"), "object": "invoice", "customer": format!("cus_{org_id}"),
            "amount_due": 2900, "amount_paid": if kind == "invoice.paid" { 2900 } else { 0 },
            "currency": "usd", "billing_reason": "subscription_cycle", "metadata": {},
            "lines": { "data": [{ "description": "1 × Starter (at $29.00 / month)" }] },
            "parent": { "type": "subscription_details",
                        "subscription_details": { "subscription": format!("sub_{org_id}"),
                                                  "metadata": {} } },
        }),
    )
}

/// `invoice.paid`
pub fn invoice_paid(id: &str, org_id: &str) -> Value {
    invoice(id, "invoice.paid", org_id)
}

/// `invoice.payment_failed`
pub fn invoice_payment_failed(id: &str, org_id: &str) -> Value {
    invoice(id, "invoice.payment_failed", org_id)
}

/// `customer.subscription.deleted`
pub fn subscription_deleted(id: &str, org_id: &str) -> Value {
    event(
        id,
        "customer.subscription.deleted",
        &json!({
            "id": format!("sub_{org_id}"), "object": "subscription", "status": "canceled",
            "customer": format!("cus_{org_id}"), "metadata": {},
        }),
    )
}
