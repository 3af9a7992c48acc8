//! Who may check credentials.

use serde_json::json;

use super::code;
use crate::support::rate_limits::with_limits;
use crate::support::{run, with_settings};

const NEW: &str = "verifier-new-0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn a_secret_is_accepted_in_either_header_while_another_replaces_it() {
    let keys = format!("gateway:verifier-gateway-0123456789abcdef0123456789,gateway:{NEW}");
    with_settings(&[("VERIFIER_KEYS", &keys)])
        .run(async |app| {
            let acme = app.sign_up().await;
            let check = json!({ "key": acme.api_key });
            for verifier in [
                app.verifier(),
                app.anonymous().with("x-tenantry-verifier", NEW),
                app.anonymous().with("authorization", &format!("Bearer {NEW}")),
            ] {
                verifier.post("/v1/verify", check.clone()).await.assert_status(200);
            }
            app.seen_secrets.lock().unwrap().push(NEW.to_owned());
            let truncated = app.anonymous().with("x-tenantry-verifier", &NEW[1..]);
            truncated.post("/v1/verify", check).await.assert_error(401, "unauthorized");
        })
        .await;
}

#[tokio::test]
async fn the_error_for_a_missing_or_wrong_secret_suggests_the_verifier_s_header() {
    run(async |app| {
        let check = json!({ "key": app.sign_up().await.api_key });
        for secret in [None, Some(NEW)] {
            let caller = app.anonymous();
            let caller = secret.map_or(caller.clone(), |it| caller.with("x-tenantry-verifier", it));
            let response = caller.post("/v1/verify", check.clone()).await.assert_status(401);
            let suggestion = &response.body["error"]["suggestion"];
            assert_eq!(suggestion, "Send a verifier's secret in X-Tenantry-Verifier.");
        }
    })
    .await;
}

#[tokio::test]
async fn without_verifiers_the_routes_do_not_exist() {
    with_settings(&[("VERIFIER_KEYS", "")])
        .run(async |app| {
            let check = json!({ "key": "k" });
            app.anonymous().post("/v1/verify", check).await.assert_error(404, "not_found");
            for route in ["forward", "nginx", "envoy", "envoy/any/path"] {
                let response = app.anonymous().get(&format!("/v1/verify/{route}")).await;
                // nginx passes only some statuses on.
                let status = if route == "nginx" { 403 } else { 404 };
                response.assert_error(status, "not_found");
            }
        })
        .await;
}

#[tokio::test]
async fn wrong_secrets_are_rate_limited_and_recorded_once_and_do_not_block_the_right_one() {
    with_limits(r#"{"verifier_failures":{"quota":3,"window_s":600}}"#)
        .run(async |app| {
            let acme = app.sign_up().await;
            let check = json!({ "key": acme.api_key });
            let wrong = app.anonymous().with("x-tenantry-verifier", "wrong");
            for status in [401, 401, 401, 429, 429] {
                wrong.post("/v1/verify", check.clone()).await.assert_status(status);
            }
            assert_eq!(code(app, &acme.api_key, json!({})).await, "valid");
            app.app.rejections.flush().await.unwrap();
            let events = "select count(*) from audit_events where event_type = 'AUTH_FAIL_VERIFIER'
                          and detail->>'count' = '5' and address = '192.0.2.7'";
            assert_eq!(app.count(events).await, 1);
            app.app.meter.flush().await.unwrap();
            let requests = "select sum(requests)::bigint from usage_daily";
            assert_eq!(app.count(requests).await, 1, "the right verifier's check alone");
        })
        .await;
}

#[tokio::test]
async fn a_verifier_s_secret_is_rejected_in_every_other_family() {
    run(async |app| {
        for path in ["/me", "/v1/organization/me", "/v1/admin/org/acme/usage", "/api/user/me"] {
            app.verifier().get(path).await.assert_error(401, "unauthorized");
            let secret = "verifier-gateway-0123456789abcdef0123456789";
            app.key(secret).get(path).await.assert_error(401, "unauthorized");
        }
    })
    .await;
}
