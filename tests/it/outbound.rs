//! What the server fetches: no URL leads to a host inside the network, and no response is larger or
//! slower than allowed.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tenantry::app::http_client::{DOCUMENT_MAX_BYTES, FetchError, Fetched, GetRequest, HttpClient};
use tenantry::config::outbound::OutboundSettings;
use tenantry::model::outbound::AllowedHosts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::support::github::{PATH, PUBLISHED_KEYS};
use crate::support::server::{WorkDir, curl};
use crate::support::tls::create_certificates;
use crate::support::tools::find_program;

/// Long enough on a busy machine for responses that do arrive.
const LONG: Duration = Duration::from_secs(30);
/// For responses that never arrive.
const SHORT: Duration = Duration::from_millis(200);

fn client(allow: &str, deadline: Duration) -> HttpClient {
    let allowed_hosts = if allow.is_empty() {
        AllowedHosts::default()
    } else {
        AllowedHosts::parse(allow).unwrap()
    };
    HttpClient::with_deadline(&OutboundSettings { allowed_hosts }, deadline)
}

fn request(url: &Url) -> GetRequest<'_> {
    let (accept, max_bytes) = ("application/json", DOCUMENT_MAX_BYTES);
    GetRequest { url, accept, etag: None, bearer: None, max_bytes }
}

async fn get(client: &HttpClient, url: &str) -> Result<Fetched, FetchError> {
    client.get(&request(&Url::parse(url).unwrap())).await
}

/// Fetches from a server on loopback that is allowed.
async fn get_from(server: SocketAddr, deadline: Duration) -> Result<Fetched, FetchError> {
    get(&client(&server.to_string(), deadline), &format!("http://{server}/")).await
}

fn is_not_allowed(result: &Result<Fetched, FetchError>) -> bool {
    matches!(result, Err(FetchError::NotAllowed(_)))
}

/// Starts a server that handles each request, given its connection and its head, like this.
async fn start<F, R>(respond: F) -> SocketAddr
where
    F: Fn(TcpStream, String) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            tokio::spawn(respond(stream, String::from_utf8(head).unwrap()));
        }
    });
    address
}

/// Starts a server that sends this text and closes the connection.
async fn start_with(response: impl Into<String>) -> SocketAddr {
    let response = response.into();
    start(move |mut stream, _| {
        let response = response.clone();
        async move {
            // The client may close the connection before it has read everything.
            let _closed = stream.write_all(response.as_bytes()).await;
        }
    })
    .await
}

/// A listener on all addresses of this machine that accepts nothing.
pub fn listen_everywhere() -> (StdListener, u16) {
    let listener = StdListener::bind("[::]:0").or_else(|_| StdListener::bind("0.0.0.0:0")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Whether a client connected to a listener.
pub fn has_connection(listener: &StdListener) -> bool {
    match listener.accept() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

/// Spellings of addresses inside a network.
pub const INNER_ADDRESSES: [&str; 38] = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7F.1",
    "0177.0.0.1",
    "017700000001",
    "%31%32%37.0.0.1",
    "１２７.0.0.1",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "0.0.0.0",
    "0",
    "10.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "0xa9fea9fe",
    "172.16.0.1",
    "192.168.0.1",
    "255.255.255.255",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "user@127.0.0.1",
    "example.com:443@127.0.0.1",
];

/// Names that stand for this machine wherever they are resolved.
const INNER_NAMES: [&str; 5] =
    ["localhost", "localhost.", "LOCALHOST", "user@localhost", "a.localhost"];

#[tokio::test]
async fn no_spelling_of_an_inner_host_leads_to_a_connection() {
    let (listener, port) = listen_everywhere();
    // Port 1 of two hosts is allowed, which must not allow more.
    let client = client("127.0.0.1:1,localhost:1", LONG);
    for scheme in ["http", "https"] {
        for host in INNER_ADDRESSES {
            let result = get(&client, &format!("{scheme}://{host}:{port}/")).await;
            assert!(is_not_allowed(&result), "{scheme} {host}: {result:?}");
        }
        for host in INNER_NAMES {
            let result = get(&client, &format!("{scheme}://{host}:{port}/")).await;
            assert!(result.is_err(), "{scheme} {host}: {result:?}");
        }
    }
    assert!(!has_connection(&listener));
    // The listener would have had connections.
    for host in ["127.0.0.1", "0.0.0.0"] {
        let _stream = StdStream::connect((host, port)).unwrap();
        assert!(has_connection(&listener), "{host}");
    }
}

#[tokio::test]
async fn each_entry_of_outbound_allow_allows_exactly_one_host_and_port() {
    let (server, other) = (start_with(OK).await, StdListener::bind("127.0.0.1:0").unwrap());
    other.set_nonblocking(true).unwrap();
    let (port, other_port) = (server.port(), other.local_addr().unwrap().port());
    let client = client(&format!("127.0.0.1:{port},localhost:{other_port}"), LONG);
    assert_eq!(get(&client, &format!("http://127.0.0.1:{port}/")).await.unwrap().body, b"ok");
    for url in [
        format!("http://localhost:{port}/"),
        format!("http://127.0.0.2:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://127.0.0.1:{other_port}/"),
        format!("https://127.0.0.1:{other_port}/"),
        format!("http://localhost.:{other_port}/"),
        format!("http://user@localhost:{other_port}/"),
        format!("http://localhost:{other_port}/#fragment"),
    ] {
        let result = get(&client, &url).await;
        assert!(is_not_allowed(&result), "{url}: {result:?}");
    }
    assert!(!has_connection(&other));
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_redirect_is_returned_and_not_followed() {
    let (target, port) = listen_everywhere();
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://127.0.0.1:{port}/");
        let head = format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\n");
        let server = start_with(format!("{head}content-length: 0\r\n\r\n")).await;
        // The target is allowed, too.
        let client = client(&format!("{server},127.0.0.1:{port}"), LONG);
        let response = get(&client, &format!("http://{server}/")).await.unwrap();
        assert_eq!((response.status, response.header("location")), (status, Some(location)));
    }
    assert!(!has_connection(&target));
}

#[tokio::test]
async fn a_request_sends_only_what_is_needed_and_a_response_has_its_status_headers_and_body() {
    let server = start(|mut stream, head| async move {
        let body = head.to_lowercase();
        let head = "HTTP/1.1 404 Not Found\r\netag: \"v2\"\r\ncache-control: no-cache\r\n\
                    cache-control: max-age=60\r\ncontent-encoding: gzip\r\nx-text: \u{fc}\r\n";
        let response = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(response.as_bytes()).await.unwrap();
    })
    .await;
    let url = Url::parse(&format!("http://{server}/path?query")).unwrap();
    let request = GetRequest { etag: Some("\"v1\""), ..request(&url) };
    let response = client(&server.to_string(), LONG).get(&request).await.unwrap();
    assert_eq!(response.status, 404);
    assert_eq!(response.header("etag").as_deref(), Some("\"v2\""));
    assert_eq!(response.header("Cache-Control").as_deref(), Some("no-cache, max-age=60"));
    assert_eq!((response.header("x-text"), response.header("x-missing")), (None, None));
    // The body is what was sent, although it claims to be compressed.
    let sent = String::from_utf8(response.body).unwrap();
    let mut lines: Vec<&str> = sent.lines().filter(|line| !line.is_empty()).collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "get /path?query http/1.1",
            "accept: application/json",
            &format!("host: {server}"),
            "if-none-match: \"v1\"",
            concat!("user-agent: tenantry/", env!("CARGO_PKG_VERSION")),
        ]
    );
}

#[tokio::test]
async fn a_body_of_the_size_limit_is_read_and_one_of_a_byte_more_is_rejected() {
    for (length, is_read) in [(DOCUMENT_MAX_BYTES, true), (DOCUMENT_MAX_BYTES + 1, false)] {
        let body = "x".repeat(length);
        for head in [format!("content-length: {length}\r\n"), "connection: close\r\n".to_owned()] {
            let server = start_with(format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}")).await;
            match get_from(server, LONG).await {
                Ok(response) => assert!(is_read && response.body.len() == length, "{head}"),
                Err(error) => {
                    assert!(!is_read, "{head} {error}");
                    assert_eq!(error, FetchError::TooLarge(DOCUMENT_MAX_BYTES));
                }
            }
        }
    }
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_the_size_limit_whatever_length_it_claims() {
    for length in ["content-length: 1000000000000", "transfer-encoding: chunked", "x: y"] {
        let server = start(move |mut stream, _| async move {
            let head = format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {}
        })
        .await;
        let error = get_from(server, LONG).await.unwrap_err();
        assert_eq!(error, FetchError::TooLarge(DOCUMENT_MAX_BYTES), "{length}");
    }
    // The length is not trusted, but a body that is shorter is not complete.
    let server = start_with("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok").await;
    let error = get_from(server, LONG).await.unwrap_err();
    assert!(matches!(error, FetchError::NoResponse(_)), "{error}");
}

/// What a server sends at once before it is silent or sends one byte after the other.
const SLOW_RESPONSES: [&str; 4] =
    ["", "HTTP/1.1 200 OK\r\nx: ", "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n", OK_CHUNKED];
const OK_CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2710\r\n";

#[tokio::test]
async fn the_deadline_is_for_the_whole_response_however_steadily_it_arrives() {
    for beginning in SLOW_RESPONSES {
        for is_silent in [true, false] {
            let server = start(move |mut stream, _| async move {
                stream.write_all(beginning.as_bytes()).await.unwrap();
                let mut ticks = tokio::time::interval(Duration::from_millis(10));
                while is_silent || stream.write_all(b"1").await.is_ok() {
                    ticks.tick().await;
                }
            })
            .await;
            // A status line of ones alone is broken, and not slow.
            if beginning.is_empty() && !is_silent {
                continue;
            }
            let error = get_from(server, SHORT).await.unwrap_err();
            let passed = FetchError::NoResponse("the deadline of 200ms passed".to_owned());
            assert_eq!(error, passed, "{beginning:?} {is_silent}");
        }
    }
    // The kernel accepts the connection, and no program ever responds.
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let error = get_from(listener.local_addr().unwrap(), SHORT).await.unwrap_err();
    assert!(matches!(error, FetchError::NoResponse(_)), "{error}");
}

#[tokio::test]
async fn an_error_contains_neither_the_url_nor_an_address_nor_what_the_server_sent() {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let large = format!("HTTP/1.1 200 OK\r\n\r\n{}", "secret".repeat(20_000));
    let servers = [
        (closed, "connection refused"),
        (start_with("secret\r\n\r\n").await, "there is no complete response"),
        (start_with("HTTP/1.1 200 OK\r\nsecret\r\n\r\n").await, "there is no complete response"),
        (start_with("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsecret").await, "complete"),
        (start_with("").await, "complete"),
        (start_with(large).await, "larger than 65536 bytes"),
    ];
    let plain = StdListener::bind("127.0.0.1:0").unwrap();
    let without_tls = plain.local_addr().unwrap();
    let sender = std::thread::spawn(move || plain.accept().unwrap().0.write_all(b"secret"));
    let servers = servers.map(|(server, expected)| ("http", server, expected));
    for (scheme, server, expected) in servers.into_iter().chain([
        ("https", closed, "connection refused"),
        ("https", without_tls, "TLS: received corrupt message"),
    ]) {
        let client = client(&server.to_string(), LONG);
        let error = get(&client, &format!("{scheme}://{server}/secret")).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("secret") && !text.contains("127.0.0.1"), "{text}");
        assert!(text.contains(expected), "{expected}: {text}");
    }
    sender.join().unwrap().unwrap();
}

/// A server behind TLS: prints its port, and serves the files of its folder.
const TLS_SERVER: &str = "
import http.server, ssl
server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('cert.pem', 'key.pem')
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
";

/// The process of [`TLS_SERVER`], killed when dropped, and its port.
pub struct TlsServer(Child, pub u16);

impl TlsServer {
    /// `None` if the test is skipped because a program is missing.
    pub fn start(folder: &std::path::Path) -> Option<Self> {
        let python = find_program("python3")?;
        create_certificates(folder)?;
        let mut python = Command::new(python);
        python.args(["-c", TLS_SERVER]).current_dir(folder);
        let mut child = python.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self(child, port.trim().parse().unwrap()))
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn certificates_are_verified_and_proxy_variables_are_ignored() {
    let work_dir = WorkDir::new();
    let Some(server) = TlsServer::start(work_dir.path()) else { return };
    std::fs::write(work_dir.path().join("keys"), PUBLISHED_KEYS).unwrap();
    let (proxy, proxy_port) = listen_everywhere();
    let (port, proxy_url) = (server.1, format!("http://127.0.0.1:{proxy_port}"));
    let allow = format!("127.0.0.1:{port},localhost:{port}");
    let authority = ("SSL_CERT_FILE", "ca.pem");
    let proxies = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"];
    let proxies = proxies.map(|name| (name, proxy_url.as_str()));
    // With an unknown key's identifier, the keys are fetched; the signature is not valid.
    for (host, trusted, status, cause) in [
        ("127.0.0.1", Some(authority), 401, None),
        ("localhost", Some(authority), 503, Some("the certificate is for another host name")),
        ("127.0.0.1", None, 503, Some("TLS: ")),
    ] {
        let url = format!("https://{host}:{port}/keys");
        let mut settings = proxies.to_vec();
        settings.extend([("GITHUB_SECRET_SCANNING_KEYS", &*url), ("OUTBOUND_ALLOW", &allow)]);
        settings.extend(trusted);
        let running = work_dir.start(&settings);
        let key = "Github-Public-Key-Identifier: unknown";
        let headers = ["-H", key, "-H", "Github-Public-Key-Signature: AAAA"];
        let (body, webhook) = (["-d", "[]", "-H", "Content-Type: application/json"], PATH);
        let response = curl(&[&headers[..], &body, &[&running.url(webhook)]].concat());
        // The log is complete when the server has stopped.
        running.signal_and_wait("INT");
        let log = std::fs::read_to_string(work_dir.path().join("log")).unwrap();
        assert_eq!(response.status, status, "{url} {} {log}", response.text);
        let failure = log.lines().rfind(|line| line.contains("keys could not be fetched"));
        if let Some(cause) = cause {
            let failure = failure.unwrap_or_else(|| panic!("{log}"));
            assert!(failure.contains(cause) && !failure.contains("127.0.0.1"), "{failure}");
        }
    }
    assert!(!has_connection(&proxy));
}
