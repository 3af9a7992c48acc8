//! The operator family: provisioning with master keys, and stepping in.

mod audit_log;
mod billing;
mod commands;
mod crash;
mod create_organization;
mod forced_key_changes;
mod master_keys;
mod own_key;
mod suspension;
mod usage;

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::client::TestResponse;

/// The request of the published page.
fn create_request() -> Value {
    json!({
        "org_id": "org_acme_2026_example",
        "name": "Acme Corp",
        "domain": "general",
        "tier": "starter",
        "allowed_origins": "https://acme.example.com",
    })
}

/// The same with one field changed.
fn create_request_with(field: &str, value: impl Into<Value>) -> Value {
    let mut request = create_request();
    request[field] = value.into();
    request
}

/// Makes an organization under a name for the request.
async fn provision(app: &TestApp, name: &str, request: Value) -> TestResponse {
    app.master_with_idempotency_key("ORG_CREATE", name).post("/v1/admin/org/create", request).await
}

/// Does to an organization what needs a confirmation.
async fn send_confirmed(
    app: &TestApp,
    scope: &str,
    org_id: &str,
    what: &str,
    name: &str,
) -> TestResponse {
    let request = json!({ "confirm_org_id": org_id, "idempotency_key": name });
    app.master_with_idempotency_key(scope, name)
        .post(&format!("/v1/admin/org/{org_id}/{what}"), request)
        .await
}
