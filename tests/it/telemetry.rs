//! What the operator sees: one line a request, metrics, traces; never a secret.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use crate::support::server::{Place, curl, eventually};

#[test]
fn each_request_is_one_structured_line_without_its_query_or_credential() {
    let place = Place::new();
    let server = place.start(&[("LOG_FORMAT", "json")]);
    let key = server.sign_up();
    let header = format!("X-Api-Key: {key}");
    let id = "request-of-this-test";
    curl(&["-H", &header, "-H", &format!("X-Request-Id: {id}"), &server.url("/me")]);
    curl(&["-H", &header, &server.url("/me/api-keys?include_revoked=secret")]);
    eventually("both lines are there", || server.log().contains("validation_error"));
    let lines: Vec<Value> =
        server.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answered: Vec<&Value> = lines.iter().filter(|line| line["message"] == "answered").collect();
    assert_eq!(answered.len(), 3);
    let line = answered[1];
    assert_eq!(line["span"]["id"], id);
    assert_eq!(line["family"], "onboarding");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["route"], "/me");
    assert_eq!(line["status"], 200);
    assert!(line["micros"].is_u64());
    assert!(line["caller"].as_str().unwrap().starts_with("key_"));
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["kind"], "-");
    assert_eq!(answered[2]["kind"], "validation_error");
    assert!(!server.log().contains("secret") && !server.log().contains(&key));
}

#[test]
fn the_access_log_names_no_address_where_the_operator_does_not_want_it() {
    let place = Place::new();
    let server = place.start(&[("LOG_FORMAT", "json"), ("LOG_CLIENT_ADDRESS", "off")]);
    server.sign_up();
    eventually("the line is there", || server.log().contains("\"answered\""));
    let line: Value = serde_json::from_str(
        server.log().lines().find(|line| line.contains("\"answered\"")).unwrap(),
    )
    .unwrap();
    assert_eq!(line["status"], 201);
    assert_eq!(line.get("client"), None);
}

#[test]
fn the_metrics_listener_counts_requests_lookups_flushes_and_connections() {
    let place = Place::new();
    let server = place.start(&[]);
    let key = server.sign_up();
    server.status_with(&key);
    server.status_with("garbage");
    curl(&["-H", &format!("X-Api-Key: {key}"), &server.url("/usage/today")]);
    let metrics = server.metrics();
    for line in [
        r#"http_requests_total{family="onboarding",route="/me",method="GET",status="200"} 1"#,
        r#"http_requests_total{family="onboarding",route="/me",method="GET",status="401"} 1"#,
        r#"http_request_duration_seconds_count{family="onboarding",route="/me"} 2"#,
        r#"key_lookups_total{outcome="found"} 2"#,
        r#"lookup_batch_size_count{of="keys"} 2"#,
        r#"usage_flushes_total{outcome="written"} 1"#,
        r#"db_connections{pool="requests",state="idle"}"#,
        r#"db_connections{pool="lookups",state="busy"}"#,
        "http_connections",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains(&key));
    assert_eq!(curl(&[&server.url("/metrics")]).status, 404, "metrics are not for callers");
}

#[test]
fn traces_are_sent_where_a_collector_is_named() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let received = std::thread::spawn(move || receive(&collector));
    let place = Place::new();
    let server = place.start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    let key = server.sign_up();
    server.end("INT");
    let (head, body) = received.join().unwrap();
    assert!(head.starts_with("POST /v1/traces "), "{head}");
    assert!(contains(&body, "POST /signup"));
    assert!(!contains(&body, &key));
}

/// One request, answered with 200.
fn receive(collector: &TcpListener) -> (String, Vec<u8>) {
    let (mut connection, _) = collector.accept().unwrap();
    let mut bytes = Vec::new();
    let end = loop {
        more(&mut connection, &mut bytes);
        if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let length: usize = length.unwrap();
    while bytes.len() < end + length {
        more(&mut connection, &mut bytes);
    }
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    (head, bytes.split_off(end))
}

fn more(connection: &mut TcpStream, bytes: &mut Vec<u8>) {
    let mut piece = [0; 4096];
    let count = connection.read(&mut piece).unwrap();
    assert!(count > 0, "the exporter hung up");
    bytes.extend_from_slice(&piece[..count]);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|it| it == text.as_bytes())
}
