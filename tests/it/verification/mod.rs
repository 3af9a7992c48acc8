//! The `verification` family: checks of customers' credentials by the operator's API and proxies.

mod checks;
mod credits;
mod guarantees;
pub mod introspection;
mod killed_server;
mod limits;
mod listener;
mod named_limits;
mod nginx;
mod proxies;
mod proxy_tokens;
mod revocation_causes;
pub mod revocations;
pub mod tokens;
mod usage;
mod verifiers;

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::accounts::TestAccount;

/// Checks a key with these additions to the request, and returns the verdict.
async fn verify(app: &TestApp, key: &str, additions: Value) -> Value {
    let mut request = json!({ "key": key });
    request.as_object_mut().unwrap().extend(additions.as_object().unwrap().clone());
    app.verifier().post("/v1/verify", request).await.assert_status(200).body
}

/// Checks a key and returns the code of the verdict.
async fn code(app: &TestApp, key: &str, additions: Value) -> String {
    let verdict = verify(app, key, additions).await;
    assert_eq!(verdict["valid"], verdict["code"] == "valid", "{verdict}");
    verdict["code"].as_str().unwrap().to_owned()
}

/// A key of the account's organization with one scope.
async fn key_with_scope(app: &TestApp, account: &TestAccount, scope: &str) -> String {
    app.create_key(account, json!({ "name": scope, "scopes": [scope] })).await.api_key
}
