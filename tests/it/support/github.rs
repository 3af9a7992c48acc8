//! Signed reports of GitHub's secret scanning, and a server that publishes the keys.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::TestApp;
use super::client::{TestClient, TestResponse};

/// The path of the webhook.
pub const PATH: &str = "/webhooks/github/secret-scanning";
/// The identifier of the tests' key.
pub const KEY_ID: &str = "bcb53661c06b4728e59d897fb6165d5c9cda0fd9cdf9d09ead458168deb7518c";
/// The tests' key, as GitHub publishes keys.
pub const PUBLISHED_KEYS: &str = concat!(
    r#"{"public_keys":[{"key_identifier":"#,
    r#""bcb53661c06b4728e59d897fb6165d5c9cda0fd9cdf9d09ead458168deb7518c","key":"#,
    r#""-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAMhSNVwKBwQOL8oX"#,
    r#"5AeMfJmrky8F\nDIPzZfc4nviIBnmjGwzSuzHLMvEBdbfWr5oLVyiff37yquFqj35FUcC93Q==\n"#,
    r#"-----END PUBLIC KEY-----\n","is_current":true}]}"#,
);
/// The private key of the tests' key, in PKCS#8.
const PRIVATE_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgqG7jTl0mUI+wM/Uelw2v\
                           vLCDm93riB1AtT+ZIWOCu0yhRANCAAQAyFI1XAoHBA4vyhfkB4x8mauTLwUMg/Nl9zie\
                           +IgGeaMbDNK7Mcsy8QF1t9avmgtXKJ9/fvKq4WqPfkVRwL3d";
/// The header of a P-256 public key in DER, before the point.
const PUBLIC_KEY_HEADER: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=";

/// A key that signs reports.
pub struct SigningKey {
    /// Its identifier.
    pub id: String,
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// The key whose public part the tests' servers have pinned.
    pub fn pinned() -> Self {
        let bytes = STANDARD.decode(PRIVATE_KEY).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &bytes).unwrap();
        Self { id: KEY_ID.to_owned(), pair }
    }

    /// A new key.
    pub fn generate(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self { id: id.to_owned(), pair }
    }

    /// The signature of a body, as the header has it.
    pub fn sign(&self, body: &[u8]) -> String {
        STANDARD.encode(self.pair.sign(&SystemRandom::new(), body).unwrap())
    }

    /// The key as GitHub publishes it.
    pub fn published(&self) -> Value {
        let header = STANDARD.decode(PUBLIC_KEY_HEADER).unwrap();
        let key = STANDARD.encode([&header, self.pair.public_key().as_ref()].concat());
        let key = format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n");
        json!({ "key_identifier": self.id, "key": key, "is_current": false })
    }

    /// A client with the signature of this body.
    pub fn client(&self, app: &TestApp, body: &str) -> TestClient {
        signed(app, &self.id, &self.sign(body.as_bytes()))
    }

    /// Sends matches, signed with this key.
    pub async fn send(&self, app: &TestApp, matches: &Value) -> TestResponse {
        let body = matches.to_string();
        self.client(app, &body).send("POST", PATH, body).await
    }
}

/// A client with both headers of a signature.
pub fn signed(app: &TestApp, key_id: &str, signature: &str) -> TestClient {
    let client = app.anonymous().with("github-public-key-identifier", key_id);
    client.with("github-public-key-signature", signature)
}

/// A match at a URL.
pub fn found(token: &str, url: &str) -> Value {
    json!({ "token": token, "type": "acme_api_key", "url": url, "source": "commit" })
}

/// A server that publishes keys as GitHub does, with an `ETag`.
#[derive(Clone, Default)]
pub struct KeyServer(Arc<Mutex<Published>>);

#[derive(Default)]
struct Published {
    keys: Vec<Value>,
    etag: String,
    status: Option<u16>,
    /// What a response waits for.
    held: Option<Arc<Semaphore>>,
    /// The `If-None-Match` header of each request.
    requests: Vec<Option<String>>,
    address: Option<SocketAddr>,
}

impl KeyServer {
    /// Starts the server.
    pub async fn start(keys: &[&SigningKey], etag: &str) -> Self {
        let server = Self::default();
        server.publish(keys, etag);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        server.0.lock().unwrap().address = listener.local_addr().ok();
        let router = Router::new().route("/keys", get(respond)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    /// The URL of the keys.
    pub fn url(&self) -> String {
        format!("http://{}/keys", self.0.lock().unwrap().address.unwrap())
    }

    /// Publishes other keys.
    pub fn publish(&self, keys: &[&SigningKey], etag: &str) {
        self.publish_list(keys.iter().map(|key| key.published()).collect(), etag);
    }

    /// Publishes entries of any form.
    pub fn publish_list(&self, keys: Vec<Value>, etag: &str) {
        let mut published = self.0.lock().unwrap();
        published.keys = keys;
        etag.clone_into(&mut published.etag);
    }

    /// Sets the status of responses; `None` restores the keys.
    pub fn fail_with(&self, status: Option<u16>) {
        self.0.lock().unwrap().status = status;
    }

    /// Holds responses back until a permit is added.
    pub fn hold(&self) -> Arc<Semaphore> {
        let held = Arc::new(Semaphore::new(0));
        self.0.lock().unwrap().held = Some(Arc::clone(&held));
        held
    }

    /// The `If-None-Match` header of each request so far.
    pub fn requests(&self) -> Vec<Option<String>> {
        self.0.lock().unwrap().requests.clone()
    }
}

async fn respond(State(server): State<KeyServer>, headers: HeaderMap) -> Response {
    let condition = headers.get("if-none-match").map(|it| it.to_str().unwrap().to_owned());
    let held = {
        let mut published = server.0.lock().unwrap();
        published.requests.push(condition.clone());
        published.held.clone()
    };
    if let Some(held) = held {
        let _permit = held.acquire().await;
    }
    let published = server.0.lock().unwrap();
    if let Some(status) = published.status {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    if condition.as_ref() == Some(&published.etag) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let body = json!({ "public_keys": published.keys }).to_string();
    ([("etag", published.etag.clone())], body).into_response()
}
