//! DNS servers: a dnsmasq with given TXT records, and one that answers as a test says.

use std::net::{SocketAddr, TcpStream, UdpSocket as StdUdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use tokio::net::UdpSocket;

use super::ports::free_address;
use super::tools::find_program;
use super::waiting::wait_until;

/// A dnsmasq. Names under `example` for which it has no record do not exist; it rejects queries for
/// all other names.
pub struct DnsServer {
    address: SocketAddr,
    process: Child,
}

impl DnsServer {
    /// Starts a server with these TXT records: each a name and its strings, separated by commas.
    /// `None` if dnsmasq is missing and the test is skipped.
    pub fn start(records: &[(&str, &str)]) -> Option<Self> {
        let address = free_address();
        Some(Self { address, process: run(address, records)? })
    }

    /// Replaces the records.
    pub fn set_records(&mut self, records: &[(&str, &str)]) {
        self.stop();
        self.process = run(self.address, records).expect("dnsmasq");
    }

    /// Stops the server: from now on, nothing answers.
    pub fn stop(&mut self) {
        self.process.kill().expect("dnsmasq runs");
        self.process.wait().expect("dnsmasq ends");
    }

    /// A value of `DNS_SERVERS`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn run(address: SocketAddr, records: &[(&str, &str)]) -> Option<Child> {
    let mut dnsmasq = Command::new(find_program("dnsmasq")?);
    let fixed = "--keep-in-foreground --conf-file=/dev/null --pid-file --user=root --no-resolv \
                 --no-hosts --bind-interfaces --local=/example/";
    dnsmasq.args(fixed.split_whitespace());
    dnsmasq.arg(format!("--port={}", address.port()));
    dnsmasq.arg(format!("--listen-address={}", address.ip()));
    dnsmasq.args(records.iter().map(|(name, value)| format!("--txt-record={name},{value}")));
    let child = dnsmasq.stderr(Stdio::null()).spawn().expect("dnsmasq starts");
    wait_until("dnsmasq listens", || TcpStream::connect(address).is_ok());
    Some(child)
}

/// A server that receives queries and answers each as a test says, or never.
pub struct ScriptedDnsServer {
    socket: UdpSocket,
}

impl ScriptedDnsServer {
    /// Starts a server.
    pub fn start() -> Self {
        let socket = StdUdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not block");
        Self { socket: UdpSocket::from_std(socket).expect("a socket") }
    }

    /// A value of `DNS_SERVERS`.
    pub fn address(&self) -> String {
        self.socket.local_addr().expect("an address").to_string()
    }

    /// Waits for the next query.
    pub async fn receive(&self) -> DnsQuery {
        let mut buffer = [0; 4096];
        let (length, client) = self.socket.recv_from(&mut buffer).await.expect("a query");
        DnsQuery { client, message: buffer[..length].to_vec() }
    }

    /// Answers a query with this response code (RFC 1035 §4.1.1), and with a TXT record if there
    /// is a value.
    pub async fn answer(&self, query: &DnsQuery, code: u8, value: Option<&str>) {
        let message = query.response(code, value);
        self.socket.send_to(&message, query.client).await.expect("a response");
    }

    /// Answers every query with this response code, until the future is dropped.
    pub async fn answer_all(&self, code: u8) {
        loop {
            let query = self.receive().await;
            self.answer(&query, code, None).await;
        }
    }
}

/// The records of the [default server](default_server): the name and the value of each.
static RECORDS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// The address of a server for the tests that set no other one. It has the records that
/// [`add_record`] adds, and no other name exists.
pub fn default_server() -> String {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    let start = || {
        let socket = StdUdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("an address").to_string();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let query = DnsQuery { client, message: buffer[..length].to_vec() };
                let name = query.name();
                let records = RECORDS.lock().expect("no panic");
                let value = records.iter().find(|record| record.0 == name).map(|it| &*it.1);
                let code = if value.is_some() { 0 } else { 3 };
                socket.send_to(&query.response(code, value), client).expect("a response");
            }
        });
        address
    };
    ADDRESS.get_or_init(start).clone()
}

/// Adds a record to the default server. No other test may use its name.
pub fn add_record(name: &str, value: &str) {
    RECORDS.lock().expect("no panic").push((name.to_owned(), value.to_owned()));
}

/// A query that a [`ScriptedDnsServer`] received.
pub struct DnsQuery {
    client: SocketAddr,
    message: Vec<u8>,
}

impl DnsQuery {
    /// A response with this code, and with a TXT record if there is a value.
    fn response(&self, code: u8, value: Option<&str>) -> Vec<u8> {
        let mut message = self.message[..2].to_vec();
        // A response that is authoritative, with one question.
        message.extend([0x84, code, 0, 1, 0, u8::from(value.is_some()), 0, 0, 0, 0]);
        message.extend(self.question());
        if let Some(value) = value {
            let length = u8::try_from(value.len()).expect("a short value");
            // The name of the question, TXT, IN, no time to live.
            message.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0, 0, length + 1, length]);
            message.extend(value.as_bytes());
        }
        message
    }

    /// The name that it asks for.
    fn name(&self) -> String {
        let (mut rest, mut labels) = (self.question(), Vec::new());
        while let Some((length, more)) = rest.split_first().filter(|(length, _)| **length > 0) {
            let (label, after) = more.split_at(usize::from(*length));
            labels.push(String::from_utf8_lossy(label).into_owned());
            rest = after;
        }
        labels.join(".")
    }

    /// The question: the labels of the name, a zero, the type and the class.
    fn question(&self) -> &[u8] {
        let rest = &self.message[12..];
        let end = rest.iter().position(|byte| *byte == 0).expect("the end of the name");
        &rest[..end + 5]
    }
}
