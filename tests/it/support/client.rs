//! Somebody who sends requests, and what they get.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tenantry::http::family::Family;
use tower::ServiceExt;

use super::{leaks, spec};

/// Somebody who sends requests with the same headers each time.
#[derive(Clone)]
pub struct TestClient {
    router: Router,
    headers: Vec<(String, String)>,
    seen_secrets: Arc<Mutex<Vec<String>>>,
}

impl TestClient {
    /// Somebody without a header; the plaintexts they are shown go to `seen`.
    pub fn new(router: Router, seen: Arc<Mutex<Vec<String>>>) -> Self {
        Self { router, headers: Vec::new(), seen_secrets: seen }
    }

    /// The same, with one header more.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// `GET path`
    pub async fn get(&self, path: &str) -> TestResponse {
        self.send("GET", path, "").await
    }

    /// `DELETE path`
    pub async fn delete(&self, path: &str) -> TestResponse {
        self.send("DELETE", path, "").await
    }

    /// `PATCH path` with a JSON body
    pub async fn patch(&self, path: &str, body: Value) -> TestResponse {
        self.with("content-type", "application/json").send("PATCH", path, body.to_string()).await
    }

    /// `PUT path` with a JSON body
    pub async fn put(&self, path: &str, body: Value) -> TestResponse {
        self.with("content-type", "application/json").send("PUT", path, body.to_string()).await
    }

    /// `POST path` with a JSON body
    pub async fn post(&self, path: &str, body: Value) -> TestResponse {
        self.seen_secrets.lock().expect("no panic").extend(leaks::passwords_in(&body));
        self.with("content-type", "application/json").send("POST", path, body.to_string()).await
    }

    /// Any request.
    pub async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> TestResponse {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(body.into()).expect("a request");
        request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("api.example.com"));
        let peer = SocketAddr::from(([192, 0, 2, 7], 50000));
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let secrets = leaks::secrets_in(&response);
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let answer = TestResponse {
            family: Family::from_path(path.split('?').next().unwrap_or_default()),
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        };
        let secrets = secrets.into_iter().chain(answer.cookie());
        self.seen_secrets.lock().expect("no panic").extend(secrets.filter(|it| !it.is_empty()));
        spec::assert_in_spec(method, path, &answer);
        answer
    }
}

/// The words of a family for the kind that onboarding calls `code` (contract §1, the table).
fn family_codes(family: Family, code: &str) -> &'static [&'static str] {
    match (family, code) {
        (
            Family::Account,
            "malformed"
            | "validation_error"
            | "method_not_allowed"
            | "entity_too_large"
            | "unsupported_media_type",
        )
        | (Family::User, "malformed" | "validation_error") => &["VALIDATION_ERROR"],
        (Family::Organization, "malformed") => &["validation_error"],
        (
            Family::Operator,
            "malformed" | "validation_error" | "entity_too_large" | "unsupported_media_type",
        ) => &["VALIDATION_FAILED"],
        (Family::Operator, "unauthorized") => &["UNAUTHORIZED"],
        (Family::Operator, "forbidden" | "organization_suspended") => &["FORBIDDEN"],
        (Family::Operator, "idempotency_processing") => &["IDEMPOTENCY_PROCESSING"],
        (Family::Operator, "rate_limited") => &["RATE_LIMITED"],
        (Family::Account, "unauthorized") => &["AUTHENTICATION_ERROR"],
        (Family::User, "unauthorized") => &[
            "AUTHENTICATION_REQUIRED",
            "INVALID_API_KEY",
            "INVALID_OR_EXPIRED_TOKEN",
            "INVALID_EMAIL_OR_PASSWORD",
            "USER_NOT_ACTIVE",
        ],
        (Family::Account, "forbidden") => &["AUTHORIZATION_ERROR"],
        (Family::User, "forbidden") => &["FORBIDDEN", "API_KEY_MISSING_SCOPES"],
        (Family::Account | Family::Operator | Family::User, "not_found") => &["NOT_FOUND"],
        (Family::Operator | Family::User, "method_not_allowed") => &["METHOD_NOT_ALLOWED"],
        (Family::Account, "conflict" | "idempotency_key_reused" | "idempotency_processing")
        | (Family::Operator | Family::User, "conflict") => &["CONFLICT"],
        (Family::User, "entity_too_large") => &["PAYLOAD_TOO_LARGE"],
        (Family::User, "unsupported_media_type") => &["UNSUPPORTED_MEDIA_TYPE"],
        (Family::Operator | Family::User, "idempotency_key_reused") => &["IDEMPOTENCY_KEY_REUSED"],
        (Family::Account, "service_unavailable" | "internal_error")
        | (Family::Operator | Family::User, "internal_error") => &["INTERNAL_ERROR"],
        (Family::Operator | Family::User, "service_unavailable") => &["SERVICE_UNAVAILABLE"],
        _ => &[],
    }
}

/// What somebody got.
#[derive(Clone, Debug)]
pub struct TestResponse {
    /// The family that it speaks for.
    pub family: Family,
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as JSON; null where it is none.
    pub body: Value,
    /// Its body as it came.
    pub text: String,
}

impl TestResponse {
    /// Passes an answer with this status.
    #[track_caller]
    pub fn assert_status(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// Passes a failure with this status and code: the family's own, or the one that onboarding
    /// has for the same kind.
    #[track_caller]
    pub fn assert_error(self, status: u16, code: &str) -> Self {
        let response = self.assert_status(status);
        let failure = response.error();
        let named = ["code", "type", "error"].into_iter().find_map(|name| failure.get(name));
        let rows = named.and_then(Value::as_str);
        let rows = rows.unwrap_or_default();
        let same = rows == code || family_codes(response.family, code).contains(&rows);
        assert!(same, "{code}: {}", response.text);
        response
    }

    /// Where the failure's code is, wherever its family puts it.
    pub fn error(&self) -> &Value {
        match self.family {
            Family::Onboarding => &self.body["details"],
            Family::Account | Family::Organization => &self.body["error"],
            Family::Operator if self.body["error"].is_object() => &self.body["error"],
            Family::Operator | Family::User | Family::Other => &self.body,
        }
    }

    /// The limit that a failure names: of what, how many, and how many there are.
    pub fn plan_limit(&self) -> (&str, u64, u64) {
        let details = match self.family {
            Family::Account => &self.body["error"]["details"],
            Family::User => &self.body["meta"],
            _ => self.error(),
        };
        let number = |name: &str| details[name].as_u64().unwrap_or_else(|| panic!("{}", self.text));
        (details["resource"].as_str().unwrap_or_default(), number("limit"), number("used"))
    }

    /// The names of the fields that were refused, in the order of the answer.
    pub fn invalid_fields(&self) -> Vec<&str> {
        let (issues, name) = match self.family {
            Family::Account => (&self.body["error"]["details"]["issues"], "/path/0"),
            Family::User => (&self.body["meta"]["errors"], "/field"),
            _ => (&self.error()["issues"], "/path/0"),
        };
        let issues = issues.as_array().unwrap_or_else(|| panic!("no issues: {}", self.text));
        let names = issues.iter().map(|issue| issue.pointer(name).and_then(Value::as_str));
        names.map(Option::unwrap_or_default).collect()
    }

    /// The value of the session's cookie that it sets; empty where it takes it away.
    pub fn cookie(&self) -> Option<String> {
        let set = self.headers.get("set-cookie")?.to_str().ok()?;
        let (_, rest) = set.split_once('=')?;
        rest.split(';').next().map(str::to_owned)
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
