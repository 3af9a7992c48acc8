//! What a check guarantees after a change, and while others send wrong keys and secrets.
//! `.ci/verification-guarantees` tests the same with larger numbers and the real binary.

use std::iter;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tenantry::model::key_format::KeyFormat;

use super::{code, verify};
use crate::support::app::CreatedKey;
use crate::support::rate_limits::with_limits;
use crate::support::{TestApp, run};

/// A change that ends or narrows a key.
#[derive(Clone, Copy, Debug)]
enum Change {
    Revoked,
    Disabled,
    Suspended,
    Narrowed,
    Expired,
}

/// Makes the change on one of the servers. Returns the code of every check from then on.
async fn end(
    change: Change,
    server: &TestApp,
    (owner, key): (&CreatedKey, &CreatedKey),
) -> &'static str {
    let path = format!("/v1/organization/api-keys/{}", key.key_id);
    let client = server.key(&owner.api_key);
    let (update, code) = match change {
        Change::Revoked => {
            client.delete(&path).await.assert_status(200);
            return "key_revoked";
        }
        Change::Suspended => {
            set_suspended(server, &owner.org_id, "suspend").await;
            return "organization_suspended";
        }
        Change::Disabled => (json!({ "enabled": false }), "key_disabled"),
        Change::Narrowed => (json!({ "scopes": ["audit:read"] }), "scope_missing"),
        // By the clock of the database, which no test can advance.
        Change::Expired => {
            server.execute("update api_keys set expires_at = now() where name = 'customer'").await;
            return "key_expired";
        }
    };
    client.patch(&path, update).await.assert_status(200);
    code
}

async fn set_suspended(server: &TestApp, org_id: &str, action: &str) {
    let name = uuid::Uuid::now_v7().to_string();
    let request = json!({ "confirm_org_id": org_id, "idempotency_key": name });
    let path = format!("/v1/admin/org/{org_id}/{action}");
    let client = server.master_with_idempotency_key("ORG_SUSPEND", &name);
    client.post(&path, request).await.assert_status(200);
}

/// The codes of a check on each server at once.
async fn codes(servers: &[TestApp], key: &str) -> Vec<String> {
    let scopes = json!({ "scopes": [["usage:read"]] });
    join_all(servers.iter().map(|server| code(server, key, scopes.clone()))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_accepts_a_key_after_the_response_to_a_change_that_ends_or_narrows_it() {
    run(async |app| {
        let servers = [app.replica(), app.replica(), app.replica()];
        let acme = app.sign_up().await;
        let changes = [
            Change::Revoked,
            Change::Disabled,
            Change::Suspended,
            Change::Narrowed,
            Change::Expired,
        ];
        for (number, change) in changes.into_iter().cycle().take(30).enumerate() {
            let spec = json!({ "name": "customer", "scopes": ["usage:read", "audit:read"] });
            let key = servers[0].create_key_with(&acme.api_key, spec).await;
            assert_eq!(codes(&servers, &key.api_key).await, ["valid"; 3]);
            let server = &servers[number % 3];
            let expected = end(change, server, (&acme, &key)).await;
            assert_eq!(codes(&servers, &key.api_key).await, [expected; 3], "{change:?}");
            if matches!(change, Change::Suspended) {
                set_suspended(server, &acme.org_id, "reactivate").await;
            }
            // A name may be used again once its key has ended.
            let path = format!("/v1/organization/api-keys/{}", key.key_id);
            server.key(&acme.api_key).delete(&path).await;
        }
        servers.iter().for_each(TestApp::close);
    })
    .await;
}

#[tokio::test]
async fn a_valid_key_is_never_rejected_while_its_client_s_address_sends_unknown_keys() {
    with_limits(r#"{"checked_unknown_keys":{"quota":5,"window_s":3600}}"#)
        .run(async |app| {
            let acme = app.sign_up().await;
            let from =
                |number: usize| json!({ "client": { "ip": format!("203.0.113.{}", number % 10) } });
            let unknown = iter::repeat_with(|| KeyFormat::default().generate(&*app.app.entropy));
            let unknown: Vec<_> = unknown.take(200).collect();
            let attack = unknown
                .iter()
                .enumerate()
                .map(|(number, key)| code(app, key.expose(), from(number)));
            let valid = (0..100).map(|number| code(app, &acme.api_key, from(number)));
            let (attack, valid) = join(join_all(attack), join_all(valid)).await;
            let count = |it: &str| attack.iter().filter(|code| *code == it).count();
            assert_eq!((count("key_unknown"), count("rate_limited")), (50, 150));
            assert!(valid.iter().all(|code| code == "valid"), "{valid:?}");
        })
        .await;
}

/// Everything that is counted for a key.
async fn counters(app: &TestApp, key: &str) -> (Value, Value, Value, i64) {
    app.app.meter.flush().await.unwrap();
    let requests = "select coalesce(sum(requests), 0)::bigint from usage_daily";
    let mut verdict = verify(app, key, json!({ "dry_run": true })).await;
    // Not the plan's limit, which refills meanwhile.
    let limit = verdict["limits"][1].take();
    assert_eq!(limit["name"], "day", "{limit}");
    let [quota, credits] = ["quota", "credits"].map(|name| verdict[name].take());
    (limit["remaining"].clone(), quota, credits, app.count(requests).await)
}

#[tokio::test]
async fn a_check_with_a_wrong_secret_changes_no_counter_of_the_key() {
    with_limits(r#"{"verifier_failures":{"quota":10,"window_s":3600}}"#)
        .run(async |app| {
            let acme = app.sign_up().await;
            let limits =
                json!([{ "name": "day", "limit": 10, "window_s": 86_400, "always": true }]);
            let spec = json!({ "limits": limits, "credits": { "remaining": 100 } });
            let key = app.create_key_with(&acme.api_key, spec).await.api_key;
            assert_eq!(code(app, &key, json!({})).await, "valid");
            let before = counters(app, &key).await;
            let wrong = app.anonymous().with("x-tenantry-verifier", &"wrong".repeat(10));
            for number in 0..30 {
                let status = if number < 10 { 401 } else { 429 };
                wrong.post("/v1/verify", json!({ "key": key })).await.assert_status(status);
            }
            assert_eq!(counters(app, &key).await, before);
        })
        .await;
}
