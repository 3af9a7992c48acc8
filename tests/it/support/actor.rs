//! Somebody who sends requests, and what they get.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::{leaks, spec};

/// Somebody who sends requests with the same headers each time.
#[derive(Clone)]
pub struct Actor {
    router: Router,
    headers: Vec<(String, String)>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Actor {
    /// Somebody without a header; the plaintexts they are shown go to `seen`.
    pub fn new(router: Router, seen: Arc<Mutex<Vec<String>>>) -> Self {
        Self { router, headers: Vec::new(), seen }
    }

    /// The same, with one header more.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut actor = self.clone();
        actor.headers.push((name.to_owned(), value.to_owned()));
        actor
    }

    /// `GET path`
    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    /// `DELETE path`
    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "").await
    }

    /// `PATCH path` with a JSON body
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.with("content-type", "application/json").send("PATCH", path, body.to_string()).await
    }

    /// `POST path` with a JSON body
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.with("content-type", "application/json").send("POST", path, body.to_string()).await
    }

    /// Any request.
    pub async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(body.into()).expect("a request");
        let peer = SocketAddr::from(([192, 0, 2, 7], 50000));
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        };
        self.seen.lock().expect("no panic").extend(leaks::plaintexts(&answer.body));
        spec::assert_described(method, path, &answer);
        answer
    }
}

/// What somebody got.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as JSON; null where it is none.
    pub body: Value,
    /// Its body as it came.
    pub text: String,
}

impl Answer {
    /// Passes an answer with this status.
    #[track_caller]
    pub fn has_status(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// Passes a failure with this status and code, in the words of any family.
    #[track_caller]
    pub fn has_failed(self, status: u16, code: &str) -> Self {
        let answer = self.has_status(status);
        let codes = [answer.failure().get("code"), answer.failure().get("type")];
        assert!(codes.into_iter().flatten().any(|found| found == code), "{}", answer.text);
        answer
    }

    /// What the failure says beside its message, wherever its family puts it.
    pub fn failure(&self) -> &Value {
        match (self.body.get("details"), self.body.get("error")) {
            (Some(details), _) => details,
            (None, Some(error)) => error,
            (None, None) => &self.body,
        }
    }

    /// The names of the fields that were refused, in the order of the answer.
    pub fn refused_fields(&self) -> Vec<&str> {
        let issues = self.failure()["issues"].as_array().expect("issues");
        issues.iter().map(|issue| issue["path"][0].as_str().unwrap_or_default()).collect()
    }

    /// A header's value; empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body without what differs from request to request.
    pub fn body_without_request(&self) -> Value {
        let mut body = self.body.clone();
        if let Some(body) = body.as_object_mut() {
            body.remove("request_id");
            body.remove("timestamp");
        }
        body
    }
}
