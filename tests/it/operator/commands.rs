//! `tenantry org …`: the operator's commands on the machine, beside a running server.

use std::process::Output;

use crate::support::server::{WorkDir, curl};

/// Runs a command; returns whether it succeeded, and what it printed.
fn run(work_dir: &WorkDir, arguments: &[&str]) -> (bool, String) {
    let output: Output = work_dir.command(&[]).args(arguments).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).unwrap())
}

fn key_in(printed: &str) -> &str {
    printed.lines().find(|line| line.starts_with("tnt_live_")).expect("a key")
}

#[test]
fn an_organization_is_created_suspended_reactivated_and_rotated_under_a_running_server() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
    let create = [
        "org",
        "create",
        "acme",
        "--name",
        "Acme Corp",
        "--tier",
        "starter",
        "--allowed-origins",
        "https://acme.example.com",
    ];
    let (created, printed) = run(&work_dir, &create);
    assert!(created, "{printed}");
    let key = key_in(&printed).to_owned();
    assert_eq!(server.status_with(&key), 200);
    let header = format!("X-Api-Key: {key}");
    let me = curl(&["-H", &header, &server.url("/v1/organization/me")]).body;
    assert_eq!(
        (me["org_name"].as_str(), me["plan"].as_str()),
        (Some("Acme Corp"), Some("starter"))
    );

    let (again, printed) = run(&work_dir, &create);
    assert!(!again && printed.contains("already exists"), "{printed}");
    assert!(run(&work_dir, &["org", "suspend", "acme"]).0);
    assert_eq!(server.status_with(&key), 403);
    assert!(run(&work_dir, &["org", "reactivate", "acme"]).0);
    assert_eq!(server.status_with(&key), 200);
    let (rotated, printed) = run(&work_dir, &["org", "rotate", "acme"]);
    assert!(rotated, "{printed}");
    assert_eq!(server.status_with(&key), 401);
    let new = key_in(&printed).to_owned();
    assert_eq!(server.status_with(&new), 200);

    let header = format!("X-Api-Key: {new}");
    let audit = curl(&["-H", &header, &server.url("/v1/admin/audit-log")]).body;
    let events = audit["events"].as_array().unwrap().iter();
    let paths: Vec<_> = events.map(|event| event["path"].as_str().unwrap()).collect();
    let expected = ["org rotate", "org rotate", "org reactivate", "org suspend", "org create"];
    assert_eq!(paths[..5], expected);
    assert!(!server.log().contains(&key) && !server.log().contains(&new));
}

#[test]
fn every_invalid_argument_of_a_command_is_named_and_nothing_is_created() {
    let work_dir = WorkDir::new();
    let (created, printed) =
        run(&work_dir, &["org", "create", "a b", "--name", "", "--allowed-origins", "*"]);
    assert!(!created);
    for field in ["org_id", "--name", "--allowed-origins"] {
        assert!(printed.contains(field), "{printed}");
    }
    let (created, printed) = run(&work_dir, &["org", "create", "acme", "--tier", "gold"]);
    assert!(!created && printed.contains("enterprise"), "{printed}");
    for what in ["suspend", "reactivate", "rotate"] {
        let (done, printed) = run(&work_dir, &["org", what, "nobody"]);
        assert!(!done && printed.contains("no such organization"), "{printed}");
    }
}
