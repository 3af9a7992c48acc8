//! Provisioning on a server that is killed at any moment: a repeated request with the same
//! idempotency key leaves one organization, and at most one key is ever returned.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::app::master_key;
use crate::support::server::{Server, WorkDir, signal};

/// How often the server is killed.
const ROUNDS: u64 = 30;
/// Each round kills the server this much later: from before the request is read to after its
/// response.
const STEP: Duration = Duration::from_micros(400);

/// The request of a worker, as a curl command.
fn create_command(server: &Server, id: &str) -> Command {
    let body = format!(
        r#"{{"org_id":"{id}","name":"Acme","domain":"general","tier":"starter",
             "allowed_origins":"https://acme.example.com"}}"#
    );
    let mut command = Command::new("curl");
    command.args(["-s", "-X", "POST", &server.url("/v1/admin/org/create"), "-d", &body]);
    command.args(["-H", &format!("X-API-Key: {}", master_key("ORG_CREATE"))]);
    command.args(["-H", &format!("Idempotency-Key: evt_{id}")]);
    command.args(["-H", "Content-Type: application/json"]).stdout(Stdio::piped());
    command
}

/// The response's body; null if there was no response.
fn parse_response(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn a_repeated_request_after_a_kill_leaves_one_organization_and_returns_at_most_one_key() {
    let work_dir = WorkDir::new();
    let secret = master_key("ORG_CREATE");
    let settings = [("MASTER_ADMIN_KEY_ORG_CREATE", secret.as_str())];
    let mut server = work_dir.start(&settings);
    let (mut completed, mut interrupted) = (0, 0);
    for round in 0..ROUNDS {
        let id = format!("acme-{round}");
        let worker = create_command(&server, &id).spawn().unwrap();
        thread::sleep(STEP * u32::try_from(round).unwrap());
        signal("KILL", server.pid());
        let first = parse_response(&worker.wait_with_output().unwrap());
        server = work_dir.start(&settings);
        let second = parse_response(&create_command(&server, &id).output().unwrap());
        let keys: Vec<_> =
            [&first, &second].iter().filter_map(|it| it["api_key"].as_str()).collect();
        assert!(keys.len() <= 1, "two keys were returned in round {round}");
        assert_eq!(second["org_id"], id.as_str(), "{second}");
        match keys.first() {
            Some(key) => assert_eq!(server.status_with(key), 200),
            // The change was committed and its response lost: a rotation gives a new key.
            None => assert_eq!(second["already_provisioned"], true),
        }
        if first["api_key"].is_string() {
            assert_eq!(second["already_provisioned"], true);
            completed += 1;
        } else {
            interrupted += 1;
        }
        let third = parse_response(&create_command(&server, &id).output().unwrap());
        assert_eq!(third["already_provisioned"], true);
        assert_eq!(third["prefix"], second["prefix"]);
    }
    // Otherwise all kills came after the response.
    assert!(
        interrupted > 0,
        "the server was never killed in time: {completed} of {ROUNDS} completed"
    );
}
