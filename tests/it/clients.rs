//! Published clients, as their users install them, against the real server. `tests/clients/install`
//! installs them.

use std::path::{Path, PathBuf};

use crate::support::server::{Server, WorkDir};
use crate::support::tools;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Runs a program of `tests/clients`, which needs `installed` there and fails where an assertion
/// of its does. Skips it, where tests may be skipped, if a tool is missing.
fn run_client(
    place: &WorkDir,
    server: &Server,
    (language, program, installed): (&str, &str, &str),
    settings: &[(&str, &str)],
) {
    let client = format!("tests/clients/{installed} (install it with tests/clients/install)");
    if !tools::is_installed(&client, folder().join(installed).exists()) {
        return;
    }
    let Some(language) = tools::find_program(language) else { return };
    let mut command = place.command_for(&language, settings);
    command.env("TENANTRY_URL", server.url("")).env("PYTHONPATH", folder().join("python"));
    let done = command.arg(folder().join(program)).output().unwrap();
    let (said, failed) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{program}:\n{said}\n{failed}");
}

/// The client of the contract that page s3 is of.
#[test]
fn every_call_of_cohesion_sdk_that_is_served_here_works_and_the_others_fail_in_its_own_words() {
    let place = WorkDir::new();
    let secret = "0123456789abcdef0123456789abcdef";
    let server = place.start(&[("MASTER_ADMIN_KEY_ORG_CREATE", secret)]);
    let program = ("python3", "cohesion_sdk.py", "python/cohesion");
    run_client(&place, &server, program, &[("MASTER_ADMIN_KEY_ORG_CREATE", secret)]);
}

/// The stock client of the library whose routes page s4's are called like.
#[test]
fn the_stock_client_of_better_auth_works_with_the_line_of_the_readme() {
    let place = WorkDir::new();
    let dashboard = "https://app.example.com";
    let server = place.start(&[("DASHBOARD_ORIGINS", dashboard)]);
    let mails = place.path().join(".tenantry/mail");
    let program = ("node", "better_auth.mjs", "node_modules/better-auth");
    let page = format!("{dashboard}/welcome");
    let settings = [("MAILS", mails.to_str().unwrap()), ("PAGE", &page)];
    run_client(&place, &server, program, &settings);
}
