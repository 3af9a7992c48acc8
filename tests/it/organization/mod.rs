//! The organization family: every status of each of its routes.

mod audit;
mod key_changes;
mod keys;
mod lists;
pub mod peppers;
mod rejections;
mod rotation;

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::app::{CreatedKey, text};

const KEYS: &str = "/v1/organization/api-keys";

/// A key's path.
fn path(id: &str) -> String {
    format!("{KEYS}/{id}")
}

/// Creates a key on this family's route with these settings.
async fn create(app: &TestApp, key: &str, request: Value) -> CreatedKey {
    let response = app.key(key).post(KEYS, request).await.assert_status(201);
    CreatedKey {
        org_id: String::new(),
        user_id: String::new(),
        api_key: text(&response.body["key"]),
        key_id: text(&response.body["id"]),
    }
}

/// Creates a key with this name and every scope.
async fn create_named(app: &TestApp, key: &str, name: &str) -> CreatedKey {
    create(app, key, json!({ "name": name, "scopes": ["*"] })).await
}

/// The status of a request with the key.
async fn status(app: &TestApp, key: &str) -> u16 {
    app.key(key).get("/v1/organization/me").await.status.as_u16()
}
