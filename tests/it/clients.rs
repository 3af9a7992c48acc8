//! Published client libraries against the real server, which `tests/clients/install` installs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use crate::support::server::{Server, WorkDir};
use crate::support::tools;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Installs the clients once, where they are missing. Needs npm and pip; whether it worked is for
/// the tests to find out.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = Command::new(folder().join("install")).status();
    });
}

/// Runs a program of `tests/clients`, which exits with an error if one of its assertions fails. It
/// needs `installed` in that folder.
fn run_client(
    dir: &WorkDir,
    server: &Server,
    (language, program, installed): (&str, &str, &str),
    settings: &[(&str, &str)],
) {
    install();
    let client = format!("tests/clients/{installed} (tests/clients/install needs npm and pip)");
    if !tools::is_installed(&client, folder().join(installed).exists()) {
        return;
    }
    let Some(language) = tools::find_program(language) else { return };
    let mut command = dir.command_for(&language, settings);
    command.env("TENANTRY_URL", server.url("")).env("PYTHONPATH", folder().join("python"));
    let done = command.arg(folder().join(program)).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{program}:\n{stdout}\n{stderr}");
}

/// The client library of the contract of page s3.
#[test]
fn supported_calls_of_cohesion_sdk_work_and_the_others_raise_its_own_errors() {
    let dir = WorkDir::new();
    let secret = "0123456789abcdef0123456789abcdef";
    let server = dir.start(&[("MASTER_ADMIN_KEY_ORG_CREATE", secret)]);
    let program = ("python3", "cohesion_sdk.py", "python/cohesion");
    run_client(&dir, &server, program, &[("MASTER_ADMIN_KEY_ORG_CREATE", secret)]);
}

/// The client of the library whose routes have the names of those of page s4.
#[test]
fn the_unmodified_better_auth_client_works_as_the_readme_configures_it() {
    let dir = WorkDir::new();
    let dashboard = "https://app.example.com";
    let server = dir.start(&[("DASHBOARD_ORIGINS", dashboard)]);
    let mails = dir.path().join(".tenantry/mail");
    let program = ("node", "better_auth.mjs", "node_modules/better-auth");
    let page = format!("{dashboard}/welcome");
    let settings = [("MAILS", mails.to_str().unwrap()), ("PAGE", &page)];
    run_client(&dir, &server, program, &settings);
}
