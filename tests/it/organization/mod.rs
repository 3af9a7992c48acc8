//! The organization family: every status that each of its routes can give.

mod audit;
mod key_changes;
mod keys;
mod lists;
mod peppers;
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

/// A key made in this family, with what it was asked to be.
async fn create(app: &TestApp, key: &str, request: Value) -> CreatedKey {
    let response = app.key(key).post(KEYS, request).await.assert_status(201);
    CreatedKey {
        org_id: String::new(),
        user_id: String::new(),
        api_key: text(&response.body["key"]),
        key_id: text(&response.body["id"]),
    }
}

/// A key that may do everything, with a name.
async fn create_named(app: &TestApp, key: &str, name: &str) -> CreatedKey {
    create(app, key, json!({ "name": name, "scopes": ["*"] })).await
}

/// The status of a use of the key.
async fn status(app: &TestApp, key: &str) -> u16 {
    app.key(key).get("/v1/organization/me").await.status.as_u16()
}
