//! The operator family: provisioning with master keys, and stepping in.

mod audit_log;
mod billing;
mod commands;
mod crash;
mod forced;
mod master_keys;
mod org_create;
mod own_key;
mod standing;
mod usage;

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::actor::Answer;

/// The request of the published page.
fn acme() -> Value {
    json!({
        "org_id": "org_acme_2026_example",
        "name": "Acme Corp",
        "domain": "general",
        "tier": "starter",
        "allowed_origins": "https://acme.example.com",
    })
}

/// The same with one field changed.
fn acme_with(field: &str, value: impl Into<Value>) -> Value {
    let mut request = acme();
    request[field] = value.into();
    request
}

/// Makes an organization under a name for the request.
async fn provision(app: &TestApp, name: &str, request: Value) -> Answer {
    app.master_naming("ORG_CREATE", name).post("/v1/admin/org/create", request).await
}

/// Does to an organization what needs a confirmation.
async fn confirmed(app: &TestApp, scope: &str, org_id: &str, what: &str, name: &str) -> Answer {
    let request = json!({ "confirm_org_id": org_id, "idempotency_key": name });
    app.master_naming(scope, name).post(&format!("/v1/admin/org/{org_id}/{what}"), request).await
}
