//! Telemetry for the operator: one log line per request, metrics, traces; never a secret.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::ports::free_address;
use crate::support::server::{WorkDir, curl};
use crate::support::tls::create_certificates;
use crate::support::tools::find_program;
use crate::support::waiting::wait_until;

#[test]
fn each_request_is_one_structured_log_line_without_its_query_or_credential() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[("LOG_FORMAT", "json")]);
    let key = server.sign_up();
    let header = format!("X-Api-Key: {key}");
    let id = "request-of-this-test";
    curl(&["-H", &header, "-H", &format!("X-Request-Id: {id}"), &server.url("/me")]);
    curl(&["-H", &header, &server.url("/me/api-keys?include_revoked=secret")]);
    wait_until("both lines are there", || server.log().contains("validation_error"));
    let lines: Vec<Value> =
        server.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<&Value> =
        lines.iter().filter(|line| line["message"] == "request completed").collect();
    assert_eq!(requests.len(), 3);
    let line = requests[1];
    assert_eq!(line["span"]["id"], id);
    assert_eq!(line["family"], "onboarding");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["route"], "/me");
    assert_eq!(line["status"], 200);
    assert!(line["micros"].is_u64());
    assert!(line["caller"].as_str().unwrap().starts_with("key_"));
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["kind"], "-");
    assert_eq!(requests[2]["kind"], "validation_error");
    assert!(!server.log().contains("secret") && !server.log().contains(&key));
}

#[test]
fn the_access_log_contains_no_client_address_if_the_setting_is_off() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[("LOG_FORMAT", "json"), ("LOG_CLIENT_ADDRESS", "off")]);
    server.sign_up();
    wait_until("the line is there", || server.log().contains("\"request completed\""));
    let line: Value = serde_json::from_str(
        server.log().lines().find(|line| line.contains("\"request completed\"")).unwrap(),
    )
    .unwrap();
    assert_eq!(line["status"], 201);
    assert_eq!(line.get("client"), None);
}

#[test]
fn the_metrics_listener_reports_requests_lookups_flushes_and_connections() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[]);
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
fn traces_are_sent_to_the_configured_collector() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let received = std::thread::spawn(move || receive(&collector));
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    let key = server.sign_up();
    server.signal_and_wait("INT");
    let (head, body) = received.join().unwrap();
    assert!(head.starts_with("POST /v1/traces "), "{head}");
    assert!(contains(&body, "POST /signup"));
    assert!(!contains(&body, &key));
}

#[test]
fn traces_continue_the_caller_s_trace_and_obey_the_standard_variables() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/all", collector.local_addr().unwrap());
    let received = std::thread::spawn(move || receive(&collector));
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_SERVICE_NAME", "acme-auth"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue"),
    ]);
    let traceparent = |flags: &str| {
        format!("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}")
    };
    curl(&["-X", "POST", "-H", &traceparent("01"), &server.url("/signup")]);
    // The caller does not sample the request of `/me`; the next traceparent is invalid.
    curl(&["-H", &traceparent("00"), &server.url("/me")]);
    curl(&["-H", "traceparent: 00-garbage-01", &server.url("/auth/verify")]);
    server.signal_and_wait("INT");
    let (head, body) = received.join().unwrap();
    assert!(head.starts_with("POST /all/v1/traces "), "{head}");
    assert!(head.contains("x-team: blue"), "{head}");
    for text in ["POST /signup", "GET /auth/verify", "acme-auth", "staging"] {
        assert!(contains(&body, text), "{text}");
    }
    assert!(!contains(&body, "GET /me"));
    let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    let parent = 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes();
    for (id, times) in [(&trace[..], 1), (&parent[..], 1)] {
        let found = body.windows(id.len()).filter(|bytes| *bytes == id).count();
        assert!(found >= times, "the caller's ids are not in the trace");
    }
}

/// A collector behind TLS: prints its port, and appends what it receives to a file.
const COLLECTOR: &str = "
import http.server, ssl
class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length']))
        open('received', 'ab').write(self.path.encode() + b'\\n' + body)
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(('127.0.0.1', 0), Collector)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('cert.pem', 'key.pem')
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
";

/// The collector's process, killed when dropped, and its URL.
struct Collector(Child, String);

impl Collector {
    /// `None` if the test is skipped because a program is missing.
    fn start(folder: &std::path::Path) -> Option<Self> {
        let python = find_program("python3")?;
        create_certificates(folder)?;
        let mut python = Command::new(python);
        python.args(["-c", COLLECTOR]).current_dir(folder).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self(child, format!("https://127.0.0.1:{}", port.trim())))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn traces_reach_a_collector_with_a_trusted_tls_certificate() {
    let work_dir = WorkDir::new();
    let Some(collector) = Collector::start(work_dir.path()) else { return };
    let server = work_dir.start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.1),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
    ]);
    server.sign_up();
    server.signal_and_wait("INT");
    let received = std::fs::read(work_dir.path().join("received")).unwrap();
    assert!(received.starts_with(b"/v1/traces\n"));
    assert!(contains(&received, "POST /signup"));
}

#[test]
fn an_export_that_fails_is_counted_each_time_and_logged_once_a_minute_with_its_cause() {
    let work_dir = WorkDir::new();
    let Some(collector) = Collector::start(work_dir.path()) else { return };
    let closed_port = format!("http://{}", free_address());
    for (endpoint, cause) in [(collector.1.as_str(), "certificate"), (&closed_port, "refused")] {
        let work_dir = WorkDir::new();
        let server = work_dir.start(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ]);
        let failed = || {
            let metrics = server.metrics();
            let mut lines = metrics.lines();
            let count = |it: &str| {
                it.strip_prefix("trace_exports_total{outcome=\"failed\"} ")?.parse::<u64>().ok()
            };
            lines.find_map(count).unwrap_or_default()
        };
        for exports in 1..=3 {
            curl(&[&server.url("/health/live")]);
            wait_until("an export fails", || failed() >= exports);
        }
        let log = server.log();
        let logged: Vec<_> = log.lines().filter(|it| it.contains("traces not exported")).collect();
        assert_eq!(logged.len(), 1, "{log}");
        assert!(logged[0].to_lowercase().contains(cause), "{}", logged[0]);
    }
    assert!(!work_dir.path().join("received").exists());
}

/// Receives one request and responds with 200; returns the head and the body.
fn receive(collector: &TcpListener) -> (String, Vec<u8>) {
    let (mut connection, _) = collector.accept().unwrap();
    let mut bytes = Vec::new();
    let end = loop {
        read_more(&mut connection, &mut bytes);
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
        read_more(&mut connection, &mut bytes);
    }
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    (head, bytes.split_off(end))
}

fn read_more(connection: &mut TcpStream, bytes: &mut Vec<u8>) {
    let mut piece = [0; 4096];
    let count = connection.read(&mut piece).unwrap();
    assert!(count > 0, "the exporter hung up");
    bytes.extend_from_slice(&piece[..count]);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|it| it == text.as_bytes())
}
