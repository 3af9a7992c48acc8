//! A server of clients' metadata documents, on loopback.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that answers each request with the same text, and records the heads of requests.
pub struct DocumentServer {
    port: u16,
    response: Arc<Mutex<Option<String>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl DocumentServer {
    /// Starts a server that accepts connections and sends no response.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let server = Self { port, response: Arc::default(), heads: Arc::default() };
        let (response, heads) = (Arc::clone(&server.response), Arc::clone(&server.heads));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("a request"));
                }
                heads.lock().expect("no panic").push(String::from_utf8_lossy(&head).into_owned());
                let response = response.lock().expect("no panic").clone();
                tokio::spawn(async move {
                    match response {
                        // The client may close the connection before it has read everything.
                        Some(text) => drop(stream.write_all(text.as_bytes()).await),
                        None => drop(stream.read_u8().await),
                    }
                });
            }
        });
        server
    }

    /// The value of `OUTBOUND_ALLOW` that lets Tenantry fetch from here.
    pub fn allowed(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// A client id: the URL of a document on this server.
    pub fn client_id(&self, name: &str) -> String {
        format!("http://localhost:{}/{name}", self.port)
    }

    /// Answers with this text from now on.
    pub fn respond(&self, response: impl Into<String>) {
        *self.response.lock().expect("no panic") = Some(response.into());
    }

    /// Does not answer from now on.
    pub fn fall_silent(&self) {
        *self.response.lock().expect("no panic") = None;
    }

    /// Answers with a document and these header lines from now on.
    pub fn serve(&self, document: &Value, headers: &[&str]) {
        let head = [&[JSON.trim_end()], headers].concat().join("\r\n");
        self.respond(http_response(200, &format!("{head}\r\n"), &document.to_string()));
    }

    /// The heads of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

/// The header line with the media type of documents.
pub const JSON: &str = "content-type: application/json\r\n";

/// A response with these header lines.
pub fn http_response(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

/// The document of a client with redirect URIs on the web and on loopback.
pub fn document(client_id: &str) -> Value {
    json!({
        "client_id": client_id,
        "client_name": "Planner",
        "redirect_uris": ["https://app.example.com/callback", "http://localhost/callback"],
        "token_endpoint_auth_method": "none",
    })
}
