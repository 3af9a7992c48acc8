//! The configuration of nginx in the README, with a real nginx.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::json;

use crate::support::nginx::Nginx;
use crate::support::ports::free_address;
use crate::support::server::{CurlResponse, Server, WorkDir, curl};

/// The content of the `http` block around the README's block.
const HTTP: &str = "
    client_max_body_size 0;
    upstream backend { server BACKEND; }
    map $http_upgrade $connection_header { default upgrade; '' close; }
    server {
        listen unix:DIR/api.sock;
        BLOCK
    }";

/// Starts nginx with the README's block, which asks `verify`; `None` if the test is skipped.
fn start_nginx(verify: &str, backend: &str) -> Option<Nginx> {
    let readme = include_str!("../../../README.md");
    let block = readme.split("```nginx\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(block.contains("http://127.0.0.1:8082/"), "{block}");
    let block = block.replace("127.0.0.1:8082", verify);
    Nginx::start(&HTTP.replace("BLOCK", &block).replace("BACKEND", backend), "api")
}

/// Sends a request through nginx with curl.
fn request(nginx: &Nginx, arguments: &[&str]) -> CurlResponse {
    let socket = nginx.socket("api");
    let always = ["--unix-socket", socket.to_str().unwrap(), "http://api.example.com/docs/7?q=1"];
    curl(&[&always, arguments].concat())
}

/// A backend that answers every request with its head, and the length of its body.
fn start_backend() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let mut received = Vec::new();
    let mut buffer = [0; 8_192];
    let end_of_head = loop {
        let read = stream.read(&mut buffer).unwrap_or(0);
        received.extend_from_slice(&buffer[..read]);
        if let Some(end) = received.windows(4).position(|it| it == b"\r\n\r\n") {
            break end;
        }
        if read == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&received[..end_of_head]).to_lowercase();
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let length: usize = header("content-length").map_or(0, |it| it.parse().unwrap());
    let mut body = received.len() - end_of_head - 4;
    while body < length {
        body += stream.read(&mut buffer).unwrap_or(0).max(1);
    }
    let seen = json!({
        "request": head.lines().next(), "organization": header("x-tenantry-organization"),
        "key": header("x-api-key"), "authorization": header("authorization"), "length": body,
    });
    let text = seen.to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{text}",
        text.len()
    );
}

fn start_server(dir: &WorkDir, verify: &str) -> Server {
    let plans = r#"{"trial":{"requests_per_month":4}}"#;
    dir.start(&[("VERIFY_ADDR", verify), ("PLANS", plans)])
}

#[test]
fn the_readme_s_nginx_passes_on_what_tenantry_decides_and_keeps_the_key_from_the_backend() {
    let dir = WorkDir::new();
    let verify = free_address().to_string();
    let server = start_server(&dir, &verify);
    let Some(nginx) = start_nginx(&verify, &start_backend()) else { return };
    let key = format!("X-Api-Key: {}", server.sign_up());
    let passed = request(&nginx, &["-H", &key, "-H", "X-Tenantry-Organization: org_victim"]);
    assert_eq!(passed.status, 200, "{}", passed.text);
    assert_eq!(passed.body["request"], "get /docs/7?q=1 http/1.1");
    let organization = passed.body["organization"].as_str().unwrap();
    assert!(organization.starts_with("org_") && organization != "org_victim");
    assert_eq!((&passed.body["key"], &passed.body["authorization"]), (&json!(null), &json!(null)));
    // A large body is not part of the check.
    let upload = dir.path().join("upload");
    fs::write(&upload, vec![b'x'; 20_000_000]).unwrap();
    let upload = format!("@{}", upload.display());
    let uploaded = request(&nginx, &["-H", &key, "-X", "PUT", "--data-binary", &upload]);
    assert_eq!((uploaded.status, &uploaded.body["length"]), (200, &json!(20_000_000)));
    assert_eq!(request(&nginx, &[]).status, 401);
    assert_eq!(request(&nginx, &["-H", "X-Api-Key: garbage"]).status, 401);
    let preflight = ["-X", "OPTIONS", "-H", "Origin: https://app.example.com"];
    assert_eq!(request(&nginx, &preflight).status, 401);
    assert_eq!(
        request(&nginx, &["-H", &key, "-H", "X_Tenantry_Organization: org_victim"]).status,
        200
    );
    assert_eq!(request(&nginx, &["-H", &key]).status, 200);
    let limited = request(&nginx, &["-i", "-H", &key]);
    assert_eq!(limited.status, 429, "{}", limited.text);
    assert!(limited.text.to_lowercase().contains("\r\nretry-after: "), "{}", limited.text);
    drop(server);
    assert_eq!(request(&nginx, &["-H", &key]).status, 503);
}
