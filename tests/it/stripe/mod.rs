//! `POST /webhooks/stripe`, and its effects: organizations, their first keys, payments.

mod checkout;
mod claim;
mod deliveries;
mod ends;
mod payments;
mod readme;
mod signature;
mod suspension;
mod unfulfilled;
mod unrelated_events;

use serde_json::Value;

use crate::support::TestApp;
use crate::support::stripe::checkout;

/// Creates an organization by a checkout; its key is not claimed.
async fn buy(app: &TestApp, org_id: &str) {
    let event = checkout(&format!("evt_buys_{org_id}"), org_id, "starter");
    let response = app.send_stripe_event(&event).await.assert_status(200);
    assert_eq!(response.body["effect"], "provisioned");
}

/// Creates an organization by a checkout, and claims its key.
async fn buy_and_claim(app: &TestApp, org_id: &str) -> String {
    buy(app, org_id).await;
    let token = app.mailed_token().await;
    let response = claim::claim(app, &token).await.assert_status(200);
    crate::support::app::text(&response.body["data"]["key"])
}

/// The event with another value at a path in its object.
fn with_field(mut event: Value, path: &str, value: impl Into<Value>) -> Value {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = if parent.is_empty() { String::new() } else { format!("/{parent}") };
    let object = event["data"]["object"].pointer_mut(&parent).unwrap();
    object[name] = value.into();
    event
}

/// The event without the value at a path in its object.
fn without_field(mut event: Value, path: &str) -> Value {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = if parent.is_empty() { String::new() } else { format!("/{parent}") };
    let object = event["data"]["object"].pointer_mut(&parent).unwrap();
    object.as_object_mut().unwrap().remove(name).unwrap();
    event
}
