//! The operator family: provisioning with master keys, suspensions and forced key changes.

mod apps;
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

/// The request of the published documentation.
fn create_request() -> Value {
    json!({
        "org_id": "org_acme_2026_example",
        "name": "Acme Corp",
        "domain": "general",
        "tier": "starter",
        "allowed_origins": "https://acme.example.com",
    })
}

/// The same request with one field changed.
fn create_request_with(field: &str, value: impl Into<Value>) -> Value {
    let mut request = create_request();
    request[field] = value.into();
    request
}

/// Creates an organization with this idempotency key.
async fn provision(app: &TestApp, name: &str, request: Value) -> TestResponse {
    app.master_with_idempotency_key("ORG_CREATE", name).post("/v1/admin/org/create", request).await
}

/// Sends a request that requires a confirmation of the organization's id.
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
