//! Servers with rate limits, clients with other addresses, and the headers of a 429.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use serde_json::{Value, json};

use super::accounts::PASSWORD;
use super::app::TestSettings;
use super::client::{TestClient, TestResponse};
use super::{TestApp, with_settings};

/// Settings with the usual limits, and these changes.
pub fn with_limits(changes: &str) -> TestSettings {
    with_settings(&[("LIMITS_PROFILE", "usual"), ("LIMITS", changes)])
}

/// Like [`with_limits`], with one trusted proxy that forwards the client address.
pub fn with_limits_behind_proxy(changes: &str) -> TestSettings {
    with_settings(&[("LIMITS_PROFILE", "usual"), ("LIMITS", changes), ("TRUSTED_PROXY_HOPS", "1")])
}

/// A client with another address, as a trusted proxy forwards it.
pub fn client_from(app: &TestApp, address: &str) -> TestClient {
    app.anonymous().with("x-forwarded-for", address)
}

/// Signs in from an address.
pub async fn sign_in_from(
    app: &TestApp,
    address: &str,
    email: &str,
    password: &str,
) -> TestResponse {
    let credentials = json!({ "email": email, "password": password });
    client_from(app, address).post("/api/auth/sign-in/email", credentials).await
}

/// The body of a sign-up.
pub fn sign_up_request(email: &str) -> Value {
    json!({ "email": email, "password": PASSWORD, "name": "Ann Example" })
}

/// Sends requests until one is rejected with 429; returns how many passed, and that response.
pub async fn send_until_limited(
    mut send: impl AsyncFnMut() -> TestResponse,
) -> (u32, TestResponse) {
    for passed in 0..1_000 {
        let response = send().await;
        if response.status == 429 {
            return (passed, response);
        }
    }
    panic!("nothing is limited");
}

/// The number after `name=` in a rate limit header.
pub fn header_number(header: &str, name: &str) -> u64 {
    let (_, rest) = header.split_once(&format!(";{name}=")).unwrap_or_else(|| panic!("{header}"));
    rest.split([';', ',']).next().unwrap().parse().unwrap()
}

/// Asserts that the headers and, in the organization family, the body of a 429 name the same wait.
/// Returns the seconds to wait.
#[track_caller]
pub fn assert_retry_after(response: &TestResponse, limit: &str) -> u64 {
    let wait: u64 = response.header("retry-after").parse().unwrap();
    assert!(wait >= 1);
    let state = response.header("ratelimit");
    let (_, own) = state.split_once(&format!(r#""{limit}";"#)).unwrap_or_else(|| panic!("{state}"));
    assert!(own.starts_with(&format!("r=0;t={wait}")), "{state} but {wait}");
    let policy = response.header("ratelimit-policy");
    assert!(policy.contains(&format!(r#""{limit}";q="#)), "{policy}");
    if response.family == tenantry::http::family::Family::Organization {
        assert_eq!(response.body["error"]["retry_after"], wait);
    }
    wait
}

/// A metrics recorder for one test. It records the thread for which it is the local recorder.
pub fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new().build_recorder()
}

/// The value of a counter; 0 if it does not exist.
pub fn metric_value(recorder: &PrometheusRecorder, metric: &str) -> u64 {
    let metrics = recorder.handle().render();
    let line = metrics.lines().find_map(|line| line.strip_prefix(metric));
    line.map_or(0, |count| count.trim().parse().unwrap())
}
