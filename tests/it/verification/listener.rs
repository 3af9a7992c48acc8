//! `VERIFY_ADDR`: a listener for proxies that can present no secret.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use crate::support::server::{WorkDir, curl};

#[test]
fn the_listener_serves_the_routes_for_verifiers_and_nothing_else() {
    let dir = WorkDir::new();
    let socket = dir.path().join("verify.sock");
    let setting = format!("unix:{}", socket.display());
    let server = dir.start(&[("VERIFY_ADDR", &setting)]);
    let key = server.sign_up();
    let ask = |arguments: &[&str]| {
        let always = ["--unix-socket", socket.to_str().unwrap()];
        curl(&[&always, arguments].concat())
    };
    let header = format!("X-Api-Key: {key}");
    assert_eq!(ask(&["-H", &header, "http://tenantry/v1/verify/forward"]).status, 200);
    assert_eq!(ask(&["http://tenantry/v1/verify/forward"]).status, 401);
    let body = format!(r#"{{"key":"{key}"}}"#);
    let json = ["-H", "Content-Type: application/json", "-d", &body];
    let verdict = ask(&[&json[..], &["http://tenantry/v1/verify"]].concat());
    assert_eq!(verdict.status, 200, "{}", verdict.body);
    assert_eq!(verdict.body["code"], "valid", "{}", verdict.body);
    let token = format!("token={key}");
    let introspected = ask(&["-d", &token, "http://tenantry/oauth2/introspect"]);
    assert_eq!(introspected.body["active"], true, "{}", introspected.body);
    // The backend answers preflights.
    let origin = ["-X", "OPTIONS", "-H", "Origin: https://app.example.com"];
    assert_eq!(ask(&[&origin[..], &["http://tenantry/other"]].concat()).status, 404);
    for path in ["/me", "/signup", "/health/live", "/docs", "/v1/organization/me"] {
        let url = format!("http://tenantry{path}");
        assert_eq!(ask(&["-H", &header, &url]).status, 404, "{path}");
    }
    // The public listener takes no check without a secret.
    let url = server.url("/v1/verify/forward");
    assert_eq!(curl(&["-H", &header, &url]).status, 503);
    assert!(server.signal_and_wait("TERM").success());
    // A socket that a process listens on is not replaced.
    fs::remove_file(&socket).unwrap();
    let other = UnixListener::bind(&socket).unwrap();
    let mut command = dir.command(&[("VERIFY_ADDR", &setting)]);
    let output = command.arg("serve").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("VERIFY_ADDR"), "{output:?}");
    drop(other);
    // The next server replaces the socket that is left.
    assert!(socket.exists());
    let server = dir.start(&[("VERIFY_ADDR", &setting)]);
    assert_eq!(ask(&["-H", &header, "http://tenantry/v1/verify/forward"]).status, 200);
    drop(server);
}

#[test]
fn a_tcp_address_in_use_fails_the_start_and_names_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        WorkDir::new().command(&[("VERIFY_ADDR", &address)]).arg("serve").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(stderr.contains("VERIFY_ADDR") && stderr.contains(&address), "{stderr}");
}
