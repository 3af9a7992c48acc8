//! The binary under stress: an unresponsive mail server, and many sign-ins at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZero;
use std::sync::{Arc, Barrier};
use std::thread::{self, available_parallelism};

use crate::support::server::{Server, WorkDir, curl};

const JSON: &str = "content-type: application/json";
const CREDENTIALS: &str = r#"{"email":"you@example.com","password":"a-long-secure-passphrase"}"#;

/// The mail server accepts the connection and never responds.
#[test]
fn an_unresponsive_mail_server_delays_no_request() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("smtp://{}", silent.local_addr().unwrap());
    let work_dir = WorkDir::new();
    let from = ("MAIL_FROM", "no-reply@example.com");
    let here = ("PUBLIC_URL", "http://api.example.com");
    let server = work_dir.start(&[("SMTP_URL", &url), from, here]);
    let post = |path: &str, body: &str| curl(&["-d", body, "-H", JSON, &server.url(path)]).status;
    assert_eq!(post("/auth/signup", CREDENTIALS), 201);
    let (mut worker, _) = silent.accept().unwrap();
    // From here on the mail worker waits for the server's greeting, and requests do not wait.
    let reset = r#"{"email":"you@example.com"}"#;
    assert_eq!(post("/api/auth/request-password-reset", reset), 200);
    assert_eq!(post("/auth/login", CREDENTIALS), 200);
    assert_eq!(curl(&[&server.url("/health/ready")]).status, 200);
    worker.set_nonblocking(true).unwrap();
    let waits = worker.read(&mut [0]).unwrap_err();
    assert_eq!(waits.kind(), ErrorKind::WouldBlock, "the worker still waits");
}

/// The memory of one hash (the crate's `m=19456`), in KiB.
const HASH_KIB: usize = 19 * 1024;
/// The memory of everything else while 200 connections are open, in KiB: buffers, tasks, threads,
/// query results. 200 hashes at once would use 100 times as much.
const OTHER_KIB: usize = 32 * 1024;

/// The process's peak memory so far, in KiB; `None` where the system does not report it.
fn peak_resident_kib(server: &Server) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Signs in on its own connection, at the same time as all others; returns the whole response.
fn sign_in(address: &str, start: &Barrier) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    start.wait();
    let length = CREDENTIALS.len();
    let head = format!("{JSON}\r\ncontent-length: {length}\r\nhost: x\r\nconnection: close");
    write!(connection, "POST /auth/login HTTP/1.1\r\n{head}\r\n\r\n{CREDENTIALS}").unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn a_bounded_number_of_200_concurrent_sign_ins_uses_memory_and_the_rest_are_shed() {
    let work_dir = WorkDir::new();
    let server = work_dir.start(&[("LIMITS_PROFILE", "off")]);
    let sign_up = curl(&["-d", CREDENTIALS, "-H", JSON, &server.url("/auth/signup")]);
    assert_eq!(sign_up.status, 201, "{}", sign_up.text);
    let before = peak_resident_kib(&server);
    assert!(before.is_some() || !cfg!(target_os = "linux"), "no memory was measured");

    let start = Arc::new(Barrier::new(200));
    let all = (0..200).map(|_| {
        let (address, start) = (server.url("").replace("http://", ""), Arc::clone(&start));
        thread::spawn(move || sign_in(&address, &start))
    });
    let all: Vec<_> = all.collect();
    let mut ready = Vec::new();
    while !all.iter().all(thread::JoinHandle::is_finished) {
        ready.push(curl(&[&server.url("/health/ready")]).status);
    }
    let responses: Vec<String> = all.into_iter().map(|one| one.join().unwrap()).collect();

    let count_of =
        |status: &str| responses.iter().filter(|response| response.starts_with(status)).count();
    let (done, shed) = (count_of("HTTP/1.1 200 "), count_of("HTTP/1.1 503 "));
    assert_eq!(done + shed, 200, "{responses:?}");
    assert!(done > 0 && shed > 0, "{done} and {shed}");
    let with_retry_after =
        responses.iter().filter(|response| response.contains("\r\nretry-after: 1\r\n")).count();
    assert_eq!(with_retry_after, shed, "{responses:?}");
    assert!(!ready.is_empty() && ready.iter().all(|status| *status == 200), "{ready:?}");
    if let (Some(before), Some(after)) = (before, peak_resident_kib(&server)) {
        let permits = available_parallelism().map_or(1, NonZero::get);
        let grown = after.saturating_sub(before);
        assert!(grown <= permits * HASH_KIB + OTHER_KIB, "{before} KiB, then {after} KiB");
    }
}
