//! A client that sends requests to the router, and its responses.

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

/// A client that sends the same headers with each request.
#[derive(Clone)]
pub struct TestClient {
    router: Router,
    headers: Vec<(String, String)>,
    seen_secrets: Arc<Mutex<Vec<String>>>,
}

impl TestClient {
    /// A client without headers. Plaintext secrets in its responses are added to `seen`.
    pub fn new(router: Router, seen: Arc<Mutex<Vec<String>>>) -> Self {
        Self { router, headers: Vec::new(), seen_secrets: seen }
    }

    /// The same client with one more header.
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

    /// `POST path` with a form body
    pub async fn post_form(&self, path: &str, body: &str) -> TestResponse {
        let client = self.with("content-type", "application/x-www-form-urlencoded");
        client.send("POST", path, body.to_owned()).await
    }

    /// Sends a request, and asserts that the response matches the API's description.
    pub async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> TestResponse {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(body.into()).expect("a request");
        request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("api.example.com"));
        let peer = SocketAddr::from(([192, 0, 2, 7], 50000));
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.router.clone().oneshot(request).await.expect("a response");
        let secrets = leaks::secrets_in(&response);
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let response = TestResponse {
            family: Family::from_path(path.split('?').next().unwrap_or_default()),
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        };
        let secrets = secrets.into_iter().chain(response.cookie());
        self.seen_secrets.lock().expect("no panic").extend(secrets.filter(|it| !it.is_empty()));
        spec::assert_in_spec(method, path, &response);
        response
    }
}

/// A family's codes for the kind of error that onboarding calls `code`.
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
        (Family::Organization | Family::Verification, "malformed") => &["validation_error"],
        (
            Family::OAuth,
            "malformed"
            | "validation_error"
            | "entity_too_large"
            | "unsupported_media_type"
            | "conflict"
            | "method_not_allowed",
        ) => &["invalid_request"],
        (Family::OAuth, "forbidden" | "organization_suspended") => &["access_denied"],
        (Family::OAuth, "unauthorized") => &["invalid_client", "invalid_token"],
        (Family::OAuth, "rate_limited" | "service_unavailable") => &["temporarily_unavailable"],
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

/// A response.
#[derive(Clone, Debug)]
pub struct TestResponse {
    /// The family of the requested path.
    pub family: Family,
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as JSON; null if it is not JSON.
    pub body: Value,
    /// Its body as text.
    pub text: String,
}

impl TestResponse {
    /// Asserts the status, and returns the response.
    #[track_caller]
    pub fn assert_status(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// Asserts an error with this status and code, and returns the response. The code is that of
    /// the family, or that of onboarding for the same kind of error.
    #[track_caller]
    pub fn assert_error(self, status: u16, code: &str) -> Self {
        let response = self.assert_status(status);
        let error = response.error();
        let found = ["code", "type", "error"].into_iter().find_map(|name| error.get(name));
        let found = found.and_then(Value::as_str).unwrap_or_default();
        let is_expected = found == code || family_codes(response.family, code).contains(&found);
        assert!(is_expected, "{code}: {}", response.text);
        response
    }

    /// The part of the body with the error's code, which depends on the family.
    pub fn error(&self) -> &Value {
        match self.family {
            Family::Onboarding => &self.body["details"],
            Family::Account | Family::Organization | Family::Verification => &self.body["error"],
            Family::Operator if self.body["error"].is_object() => &self.body["error"],
            Family::Operator | Family::User | Family::OAuth | Family::Other => &self.body,
        }
    }

    /// The plan limit that an error names: the resource, the limit, and how much of it is used.
    pub fn plan_limit(&self) -> (&str, u64, u64) {
        let details = match self.family {
            Family::Account => &self.body["error"]["details"],
            Family::User => &self.body["meta"],
            _ => self.error(),
        };
        let number = |name: &str| details[name].as_u64().unwrap_or_else(|| panic!("{}", self.text));
        (details["resource"].as_str().unwrap_or_default(), number("limit"), number("used"))
    }

    /// The names of the invalid fields, in the order of the response.
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

    /// The value of the session cookie that it sets; empty if it clears the cookie.
    pub fn cookie(&self) -> Option<String> {
        let set = self.headers.get("set-cookie")?.to_str().ok()?;
        let (_, rest) = set.split_once('=')?;
        rest.split(';').next().map(str::to_owned)
    }

    /// A header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body without the fields that differ in every response.
    pub fn body_without_request(&self) -> Value {
        let mut body = self.body.clone();
        if let Some(body) = body.as_object_mut() {
            body.remove("request_id");
            body.remove("timestamp");
        }
        body
    }
}
