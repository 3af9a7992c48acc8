//! A client that costs little, because it runs on the cores that it measures: HTTP/1.1 over one
//! persistent connection, one request after the other.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpStream;

use tenantry::commands::Failure;

/// The number of the next request. Numbers are unique within this process.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);
/// The number of client addresses that the simulated proxy reports: enough that no limit for one
/// address is reached, and few enough that every address repeats.
const ADDRESS_COUNT: u64 = 4096;

/// A request that can be sent repeatedly.
#[derive(Clone)]
pub(crate) struct Request {
    /// The request line and the constant header fields.
    head: String,
    /// Whether the request comes through a proxy, which reports a client address.
    is_forwarded: bool,
    /// The body. Each request replaces `{n}` in it by a new number.
    body: Option<String>,
    /// The expected status of the response.
    status: u16,
}

impl Request {
    /// Returns a `GET` with the required header fields only.
    pub(crate) fn bare(path: &str) -> Self {
        let head = format!("GET {path} HTTP/1.1\r\nhost: benchmark\r\n");
        Self { head, is_forwarded: false, body: None, status: 200 }
    }

    /// Returns a `GET` with a key, through a proxy.
    pub(crate) fn get(path: &str, key: &str) -> Self {
        let bare = Self::bare(path);
        let head = format!("{}x-api-key: {key}\r\n", bare.head);
        Self { head, is_forwarded: true, ..bare }
    }

    /// Returns a `GET` with an access token, through a proxy.
    pub(crate) fn get_with_token(path: &str, token: &str) -> Self {
        let bare = Self::bare(path);
        let head = format!("{}authorization: Bearer {token}\r\n", bare.head);
        Self { head, is_forwarded: true, ..bare }
    }

    /// Returns a check by a verifier.
    pub(crate) fn check(path: &str, secret: &str, body: &str) -> Self {
        let request = Self::post(path, None, body, 200);
        let head = format!("{}x-tenantry-verifier: {secret}\r\n", request.head);
        Self { head, is_forwarded: false, ..request }
    }

    /// Returns a `POST` through a proxy.
    pub(crate) fn post(path: &str, key: Option<&str>, body: &str, status: u16) -> Self {
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: benchmark\r\ncontent-type: application/json\r\n"
        );
        if let Some(key) = key {
            let _ = write!(head, "x-api-key: {key}\r\n");
        }
        Self { head, is_forwarded: true, body: Some(body.to_owned()), status }
    }

    /// Replaces `text` by the bytes of the next request.
    fn write(&self, text: &mut String) {
        text.clear();
        text.push_str(&self.head);
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        if self.is_forwarded {
            let address = number % ADDRESS_COUNT;
            let _ = write!(text, "x-forwarded-for: 10.0.{}.{}\r\n", address / 256, address % 256);
        }
        match &self.body {
            Some(body) => {
                let body = body.replace("{n}", &number.to_string());
                let _ = write!(text, "content-length: {}\r\n\r\n{body}", body.len());
            }
            None => text.push_str("\r\n"),
        }
    }
}

/// A connection to a server.
pub(crate) struct Client {
    stream: TcpStream,
    sent: String,
    received: Vec<u8>,
}

impl Client {
    /// Connects to a server.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, sent: String::new(), received: Vec::new() })
    }

    /// Sends the request, receives the complete response, and returns its body.
    ///
    /// # Errors
    /// The connection fails, or the response has another status than expected.
    pub(crate) async fn execute(&mut self, request: &Request) -> Result<&[u8], Failure> {
        request.write(&mut self.sent);
        self.send().await?;
        let (status, body) = self.receive().await?;
        let body = &self.received[body];
        if status == request.status {
            return Ok(body);
        }
        let line = request.head.lines().next().unwrap_or_default();
        let text = String::from_utf8_lossy(body);
        Err(Failure::Message(format!("{line}: unexpected status {status}: {text}")))
    }

    async fn send(&self) -> io::Result<()> {
        let mut rest = self.sent.as_bytes();
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns the status of the next response, and the range of its body.
    async fn receive(&mut self) -> io::Result<(u16, Range<usize>)> {
        self.received.clear();
        let mut part = [0; 4096];
        loop {
            if let Some((status, body)) = parse_head(&self.received)?
                && self.received.len() >= body.end
            {
                return Ok((status, body));
            }
            self.stream.readable().await?;
            match self.stream.try_read(&mut part) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Returns the status of a response and the range of its body; `None` if its head is incomplete.
fn parse_head(received: &[u8]) -> io::Result<Option<(u16, Range<usize>)>> {
    let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&received[..end]).unwrap_or_default();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
    });
    let (Some(status), Some(length)) = (status, length) else {
        return Err(io::Error::other("the response has no status or no Content-Length"));
    };
    let length: usize = length;
    Ok(Some((status, end + 4..end + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_head_with_a_length_gives_the_status_and_the_range_of_the_body() {
        let response = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nx: y\r\n\r\nok";
        let (status, body) = parse_head(response).unwrap().unwrap();
        assert_eq!((status, &response[body]), (201, &b"ok"[..]));
        assert!(parse_head(&response[..30]).unwrap().is_none());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn each_request_has_a_new_number_and_a_matching_content_length() {
        let request = Request::post("/x", None, r#"{"name":"k{n}"}"#, 201);
        let (mut one, mut other) = (String::new(), String::new());
        request.write(&mut one);
        request.write(&mut other);
        assert_ne!(one, other);
        let (head, body) = one.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{one}");
        assert!(!body.contains("{n}"), "{one}");
    }
}
