//! Provisioning on a server that is killed at any moment: whoever asks again under the same name
//! has one organization in the end, and at most one key was ever shown.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::app::master_key;
use crate::support::server::{Server, WorkDir, signal};

/// How often the server is killed.
const ROUNDS: u64 = 30;
/// From one round to the next it is killed this much later, which is from before the request is
/// read to after it is answered.
const STEP: Duration = Duration::from_micros(400);

/// What a worker asks, and what it is answered; null where the server is gone.
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

fn answer(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn a_repeated_request_after_a_kill_leaves_one_organization_and_returns_at_most_one_key() {
    let place = WorkDir::new();
    let secret = master_key("ORG_CREATE");
    let settings = [("MASTER_ADMIN_KEY_ORG_CREATE", secret.as_str())];
    let mut server = place.start(&settings);
    let (mut answered, mut cut_off) = (0, 0);
    for round in 0..ROUNDS {
        let id = format!("acme-{round}");
        let worker = create_command(&server, &id).spawn().unwrap();
        thread::sleep(STEP * u32::try_from(round).unwrap());
        signal("KILL", server.pid());
        let first = answer(&worker.wait_with_output().unwrap());
        server = place.start(&settings);
        let second = answer(&create_command(&server, &id).output().unwrap());
        let keys: Vec<_> =
            [&first, &second].iter().filter_map(|it| it["api_key"].as_str()).collect();
        assert!(keys.len() <= 1, "two keys were shown in round {round}");
        assert_eq!(second["org_id"], id.as_str(), "{second}");
        match keys.first() {
            Some(key) => assert_eq!(server.status_with(key), 200),
            // The change was made and its answer lost: the remedy is a rotation.
            None => assert_eq!(second["already_provisioned"], true),
        }
        if first["api_key"].is_string() {
            assert_eq!(second["already_provisioned"], true);
            answered += 1;
        } else {
            cut_off += 1;
        }
        let third = answer(&create_command(&server, &id).output().unwrap());
        assert_eq!(third["already_provisioned"], true);
        assert_eq!(third["prefix"], second["prefix"]);
    }
    // Or the kills were all on one side of the request.
    assert!(cut_off > 0, "the server was never killed in time: {answered} of {ROUNDS} answered");
}
