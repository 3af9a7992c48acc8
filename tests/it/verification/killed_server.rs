//! Credits on servers of which one is killed: the real binary, twice on one database.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use serde_json::{Value, json};

use crate::support::server::{CurlResponse, Server, WorkDir, curl, signal};
use crate::support::waiting::wait_until;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn post(server: &Server, path: &str, header: &str, body: &Value) -> CurlResponse {
    let (url, body) = (server.url(path), body.to_string());
    curl(&["-H", "Content-Type: application/json", "-H", header, "-d", &body, &url])
}

fn check(server: &Server, body: &Value) -> CurlResponse {
    post(server, "/v1/verify", &format!("X-Tenantry-Verifier: {SECRET}"), body)
}

#[test]
fn a_server_that_is_killed_overspends_no_credits_and_loses_only_those_of_unanswered_checks() {
    let work_dir = WorkDir::new();
    let verifiers = format!("test:{SECRET}");
    let settings = [("VERIFIER_KEYS", verifiers.as_str()), ("LIMITS_PROFILE", "off")];
    let servers = [work_dir.start(&settings), work_dir.start(&settings)];
    let [survivor, killed] = &servers;
    let owner = format!("X-Api-Key: {}", survivor.sign_up());
    let spec =
        json!({ "name": "customer", "scopes": ["usage:read"], "credits": { "remaining": 100 } });
    let created = post(survivor, "/v1/organization/api-keys", &owner, &spec);
    assert_eq!(created.status, 201, "{created:?}");
    let key = &created.body["key"];
    let (valid, unanswered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let request = json!({ "key": key });
    let client = |server: &Server| {
        for _ in 0..20 {
            let response = check(server, &request);
            match (response.status, &response.body["code"]) {
                (200, Value::String(code)) if code == "valid" => valid.fetch_add(1, SeqCst),
                (200, Value::String(code)) if code == "credits_exhausted" => 0,
                // Whether the credits of such a check were taken cannot be known.
                (0 | 503, _) => unanswered.fetch_add(1, SeqCst),
                _ => panic!("{response:?}"),
            };
        }
    };
    thread::scope(|scope| {
        for server in servers.iter().cycle().take(8) {
            scope.spawn(|| client(server));
        }
        wait_until("some checks are valid", || valid.load(SeqCst) >= 20);
        signal("KILL", killed.pid());
    });
    let (valid, unanswered) = (valid.into_inner(), unanswered.into_inner());
    assert!(unanswered > 0, "the server was killed after all checks");
    assert!(valid <= 100, "{valid}");
    let dry_run = check(survivor, &json!({ "key": key, "dry_run": true }));
    let remaining = dry_run.body["credits"]["remaining"].as_u64().unwrap();
    let remaining = usize::try_from(remaining).unwrap();
    assert!(valid + remaining <= 100, "{valid} and {remaining}");
    assert!(valid + remaining + unanswered >= 100, "{valid}, {remaining} and {unanswered}");
}
