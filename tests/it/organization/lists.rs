//! Pages of `GET /v1/organization/api-keys`

use chrono::TimeDelta;
use serde_json::Value;

use super::{KEYS, create_named, path};
use crate::support::app::{CreatedKey, text};
use crate::support::{TestApp, run};

/// An organization with keys named 1 to `count`, the last the newest.
async fn with_keys(app: &TestApp, count: usize) -> (CreatedKey, Vec<CreatedKey>) {
    let acme = app.sign_up().await;
    let mut keys = Vec::new();
    for number in 1..=count {
        app.clock.advance(TimeDelta::milliseconds(1));
        keys.push(create_named(app, &acme.api_key, &number.to_string()).await);
    }
    (acme, keys)
}

async fn page(app: &TestApp, key: &str, query: &str) -> Value {
    app.key(key).get(&format!("{KEYS}?{query}")).await.assert_status(200).body
}

fn names(page: &Value) -> Vec<String> {
    let keys = page["data"].as_array().unwrap().iter();
    keys.map(|key| key["name"].as_str().unwrap_or("-").to_owned()).collect()
}

#[tokio::test]
async fn pages_list_all_keys_newest_first() {
    run(async |app| {
        let (acme, _) = with_keys(app, 4).await;
        let first = page(app, &acme.api_key, "limit=2").await;
        assert_eq!(names(&first), ["4", "3"]);
        assert_eq!(first["object"], "list");
        assert_eq!(first["has_more"], true);
        let cursor = text(&first["pagination"]["cursor"]);
        let second = page(app, &acme.api_key, &format!("limit=2&cursor={cursor}")).await;
        assert_eq!(names(&second), ["2", "1"]);
        let cursor = text(&second["pagination"]["cursor"]);
        let last = page(app, &acme.api_key, &format!("limit=2&cursor={cursor}")).await;
        assert_eq!(names(&last), ["-"]);
        assert_eq!(last["has_more"], false);
        assert_eq!(last["pagination"]["cursor"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn creations_and_revocations_between_two_pages_hide_and_repeat_no_key() {
    run(async |app| {
        let (acme, keys) = with_keys(app, 4).await;
        let first = page(app, &acme.api_key, "limit=2").await;
        app.clock.advance(TimeDelta::milliseconds(1));
        create_named(app, &acme.api_key, "new").await;
        // The key that the cursor points to, and the next one.
        for key in [&keys[2], &keys[1]] {
            app.key(&acme.api_key).delete(&path(&key.key_id)).await.assert_status(200);
        }
        let cursor = text(&first["pagination"]["cursor"]);
        let second = page(app, &acme.api_key, &format!("limit=2&cursor={cursor}")).await;
        assert_eq!(names(&second), ["1", "-"]);
    })
    .await;
}

#[tokio::test]
async fn revoked_keys_are_listed_on_request() {
    run(async |app| {
        let (acme, keys) = with_keys(app, 2).await;
        app.key(&acme.api_key).delete(&path(&keys[1].key_id)).await.assert_status(200);
        assert_eq!(names(&page(app, &acme.api_key, "").await), ["1", "-"]);
        let all = page(app, &acme.api_key, "include_revoked=true").await;
        assert_eq!(names(&all), ["2", "1", "-"]);
    })
    .await;
}

#[tokio::test]
async fn a_cursor_is_valid_only_unaltered_and_for_its_own_list() {
    run(async |app| {
        let (acme, _) = with_keys(app, 2).await;
        let (other, _) = with_keys(app, 2).await;
        let cursor = text(&page(app, &acme.api_key, "limit=1").await["pagination"]["cursor"]);
        let foreign = text(&page(app, &other.api_key, "limit=1").await["pagination"]["cursor"]);
        let mut altered = cursor.clone();
        altered.replace_range(0..1, if cursor.starts_with('A') { "B" } else { "A" });
        let wrong = [
            format!("{KEYS}?cursor={altered}"),
            format!("{KEYS}?cursor={foreign}"),
            format!("{KEYS}?cursor={cursor}&include_revoked=true"),
            format!("{KEYS}?cursor={}", &cursor[1..]),
            format!("{KEYS}?cursor=%00"),
            format!("/v1/organization/audit-log?cursor={cursor}"),
        ];
        for path in wrong {
            let response = app.key(&acme.api_key).get(&path).await;
            let response = response.assert_error(400, "validation_error");
            assert_eq!(response.invalid_fields(), ["cursor"], "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn every_invalid_parameter_is_rejected_by_name() {
    run(async |app| {
        let acme = app.sign_up().await;
        for limit in ["0", "101", "abc", "-1", "1.5", "99999999999999999999"] {
            let path = format!("{KEYS}?limit={limit}&cursor=x&include_revoked=y");
            let response = app.key(&acme.api_key).get(&path).await;
            let response = response.assert_error(400, "validation_error");
            assert_eq!(response.invalid_fields(), ["include_revoked", "limit", "cursor"]);
        }
    })
    .await;
}
