//! A client that costs little, since it runs on the cores that it measures: HTTP/1.1 over one
//! connection that is kept, one request after the other.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpStream;

use tenantry::commands::Failure;

/// Numbers that no two requests of this process share.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);
/// How many client addresses the simulated proxy reports: so many that no limit for one address is
/// reached, and few enough that each comes again.
const ADDRESS_COUNT: u64 = 4096;

/// A request, to be sent any number of times.
#[derive(Clone)]
pub(crate) struct Request {
    /// The request line and fixed fields.
    head: String,
    /// Whether it comes through a proxy, which reports a client's address.
    is_forwarded: bool,
    /// The body; `{n}` in it becomes another number each time.
    body: Option<String>,
    /// The status of the answer that it has to get.
    status: u16,
}

impl Request {
    /// `GET`, with nothing that need not be there.
    pub(crate) fn bare(path: &str) -> Self {
        let head = format!("GET {path} HTTP/1.1\r\nhost: benchmark\r\n");
        Self { head, is_forwarded: false, body: None, status: 200 }
    }

    /// `GET` with a key, through a proxy.
    pub(crate) fn get(path: &str, key: &str) -> Self {
        let bare = Self::bare(path);
        let head = format!("{}x-api-key: {key}\r\n", bare.head);
        Self { head, is_forwarded: true, ..bare }
    }

    /// `POST` through a proxy.
    pub(crate) fn post(path: &str, key: Option<&str>, body: &str, status: u16) -> Self {
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: benchmark\r\ncontent-type: application/json\r\n"
        );
        if let Some(key) = key {
            let _ = write!(head, "x-api-key: {key}\r\n");
        }
        Self { head, is_forwarded: true, body: Some(body.to_owned()), status }
    }

    /// The bytes of the next one.
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

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    sent: String,
    received: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, sent: String::new(), received: Vec::new() })
    }

    /// Sends the request and reads the answer to its end; its body.
    ///
    /// # Errors
    /// Those of the connection; an answer with another status than the request has to get.
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
        Err(Failure::Message(format!("{line} was answered {status}: {text}")))
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

    /// The status of the next answer, and where its body is.
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

/// The status of an answer and where its body is, once its head is there.
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
        return Err(io::Error::other("an answer without a status or a length"));
    };
    let length: usize = length;
    Ok(Some((status, end + 4..end + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nx: y\r\n\r\nok";
        let (status, body) = parse_head(answer).unwrap().unwrap();
        assert_eq!((status, &answer[body]), (201, &b"ok"[..]));
        assert!(parse_head(&answer[..30]).unwrap().is_none());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn each_time_another_number_is_sent() {
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
