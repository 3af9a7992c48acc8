//! The README's script, run against the binary, with a signature by openssl.

use std::process::Command;

use serde_json::Value;

use crate::support::server::WorkDir;
use crate::support::tools;

#[test]
fn the_readme_s_script_buys_an_organization_and_its_key_works() {
    if tools::find_program("openssl").is_none() {
        return;
    }
    let readme = include_str!("../../../README.md");
    let section = readme.split("### Stripe").nth(1).unwrap();
    let script = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let secret = script.split("STRIPE_WEBHOOK_SECRET=").nth(1).unwrap();
    let secret = secret.split_whitespace().next().unwrap();
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[("STRIPE_WEBHOOK_SECRET", secret)]);
    let script = script.replace("http://127.0.0.1:8080", &server.url(""));
    let done =
        Command::new("sh").args(["-c", &script]).current_dir(work_dir.path()).output().unwrap();
    let stdout = String::from_utf8(done.stdout).unwrap();
    let responses: Vec<Value> =
        stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(responses[0]["effect"], "provisioned", "{stdout}");
    let key = responses[1]["data"]["key"].as_str().unwrap();
    assert_eq!(server.status_with(key), 200);
    assert!(!server.log().contains(key) && !server.log().contains(secret));
}
