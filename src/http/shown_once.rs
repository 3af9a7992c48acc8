//! Secrets in responses. A secret in a body has a type of its own, so that the body can be stored
//! for replays without its secrets, wherever they are.

use std::cell::RefCell;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::model::secret::Secret;

thread_local! {
    /// What this thread is serializing. Serde passes no context to a field, and the serialization
    /// of a body never leaves its thread.
    static SERIALIZING: RefCell<Option<Serializing>> = const { RefCell::new(None) };
}

/// The purpose for which a body with secrets is serialized.
enum Serializing {
    /// The response that contains the secrets, with those that were written so far.
    Response(Vec<Secret>),
    /// The stored body of a replay, which does not contain them.
    Record,
}

/// A secret in a response body, or nothing.
///
/// Invariant: only [`JsonWithSecrets`] writes its text. For [`to_stored_value`] a member with
/// `skip_serializing_if = "ShownOnce::is_hidden"` is omitted, and another one is null. Any other
/// serialization is an error, so that a response without its secret is noticed.
#[derive(Default)]
pub struct ShownOnce(Option<Secret>);

impl ShownOnce {
    /// No secret, for a response that has the same shape as one with a secret.
    pub const NONE: Self = Self(None);

    /// Returns whether it is serialized as nothing: it contains no secret, or the body is being
    /// stored.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        let is_record = |mode: &Option<Serializing>| matches!(mode, Some(Serializing::Record));
        self.0.is_none() || SERIALIZING.with_borrow(is_record)
    }
}

impl From<Secret> for ShownOnce {
    fn from(secret: Secret) -> Self {
        Self(Some(secret))
    }
}

impl Serialize for ShownOnce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(secret) = self.0.as_ref().filter(|_| !self.is_hidden()) else {
            return serializer.serialize_none();
        };
        let text = Secret::expose(secret);
        let is_response = SERIALIZING.with_borrow_mut(|mode| match mode {
            Some(Serializing::Response(shown)) => {
                shown.push(Secret::new(text.to_owned()));
                true
            }
            Some(Serializing::Record) | None => false,
        });
        if !is_response {
            return Err(S::Error::custom("a secret was serialized outside JsonWithSecrets"));
        }
        serializer.serialize_str(text)
    }
}

/// Serializes a body for replays, without its secrets.
///
/// # Errors
/// The body cannot be serialized as JSON.
pub fn to_stored_value<T: Serialize>(body: &T) -> serde_json::Result<serde_json::Value> {
    let _serialization = Serialization::start(Serializing::Record);
    serde_json::to_value(body)
}

/// A response body in JSON with its secrets, for the response to the request that created them.
pub struct JsonWithSecrets<T>(pub T);

impl<T: Serialize> IntoResponse for JsonWithSecrets<T> {
    fn into_response(self) -> Response {
        let serialization = Serialization::start(Serializing::Response(Vec::new()));
        let body = serde_json::to_vec(&self.0);
        let shown = Serialization::take_shown();
        drop(serialization);
        let body = match body {
            Ok(body) => body,
            Err(error) => return Error::internal(error).into_response(),
        };
        let content_type = HeaderValue::from_static("application/json");
        let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
        if !shown.is_empty() {
            response.extensions_mut().insert(ShownSecrets(shown.into()));
        }
        response
    }
}

/// Sets a header of a response to a secret, if that can be the value of a header. Debug output does
/// not contain it.
pub fn insert_secret_header(response: &mut Response, name: HeaderName, secret: Secret) {
    let Ok(mut value) = HeaderValue::from_str(Secret::expose(&secret)) else { return };
    value.set_sensitive(true);
    response.headers_mut().insert(name, value);
    response.extensions_mut().insert(ShownSecrets([secret].into()));
}

/// Redirects to a URL that contains a secret.
pub fn see_other(url: Secret) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    insert_secret_header(&mut response, header::LOCATION, url);
    response
}

/// The secrets in a response, in its extensions, for checks that they appear nowhere else.
#[derive(Clone)]
pub struct ShownSecrets(pub Arc<[Secret]>);

/// The serialization of one body. When it is dropped, even by a panic, secrets can no longer be
/// serialized.
struct Serialization;

impl Serialization {
    fn start(mode: Serializing) -> Self {
        SERIALIZING.set(Some(mode));
        Self
    }

    /// Returns the secrets that were written so far.
    fn take_shown() -> Vec<Secret> {
        match SERIALIZING.take() {
            Some(Serializing::Response(shown)) => shown,
            Some(Serializing::Record) | None => Vec::new(),
        }
    }
}

impl Drop for Serialization {
    fn drop(&mut self) {
        SERIALIZING.set(None);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Nested {
        #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
        client_secret: ShownOnce,
        metadata: serde_json::Value,
    }

    #[derive(Serialize)]
    struct Body {
        app: Nested,
        apps: Vec<Nested>,
        recovery_codes: Vec<ShownOnce>,
        #[serde(flatten)]
        flattened: Nested,
    }

    fn secret(text: &str) -> ShownOnce {
        Secret::new(text.to_owned()).into()
    }

    fn body() -> Body {
        let nested = |text| Nested { client_secret: secret(text), metadata: json!({"token": "t"}) };
        Body {
            app: nested("one"),
            apps: vec![nested("two"), nested("three")],
            recovery_codes: vec![secret("four"), secret("five")],
            flattened: nested("six"),
        }
    }

    async fn text_of(response: Response) -> String {
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
        String::from_utf8(body.to_vec()).expect("UTF-8")
    }

    #[tokio::test]
    async fn only_the_response_contains_secrets_wherever_in_the_body_they_are() {
        let stored = to_stored_value(&body()).expect("JSON");
        let expected = json!({
            "app": { "metadata": { "token": "t" } },
            "apps": [{ "metadata": { "token": "t" } }, { "metadata": { "token": "t" } }],
            "recovery_codes": [null, null],
            "metadata": { "token": "t" },
        });
        assert_eq!(stored, expected);
        let response = JsonWithSecrets(body()).into_response();
        let shown = response.extensions().get::<ShownSecrets>().expect("secrets").0.clone();
        let shown: Vec<_> = shown.iter().map(Secret::expose).collect();
        assert_eq!(shown, ["one", "two", "three", "four", "five", "six"]);
        let text = text_of(response).await;
        assert!(shown.iter().all(|secret| text.contains(&format!("\"{secret}\""))), "{text}");
        assert_eq!(to_stored_value(&body()).expect("JSON"), expected, "omitted again");
        serde_json::to_value(body()).expect_err("neither a response nor a record");
    }

    #[tokio::test]
    async fn after_a_panic_in_a_serialization_secrets_cannot_be_serialized() {
        struct Panics;
        impl Serialize for Panics {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                std::panic::resume_unwind(Box::new("a panic of a field"))
            }
        }
        let respond = || JsonWithSecrets((secret("one"), Panics)).into_response();
        std::panic::catch_unwind(respond).expect_err("a panic");
        serde_json::to_string(&secret("one")).expect_err("no response is written");
    }
}
