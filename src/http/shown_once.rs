//! Secrets in response bodies. A secret is a type there, so that a body can be stored for replays
//! without any of them, wherever in it they are.

use std::cell::RefCell;
use std::sync::Arc;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::model::secret::Secret;

thread_local! {
    /// The secrets in the response that this thread is writing; `None` while it writes none. Serde
    /// passes no context to a field, and writing a body never leaves its thread.
    static SHOWN: RefCell<Option<Vec<Secret>>> = const { RefCell::new(None) };
}

/// A secret in a response body, or nothing.
///
/// Invariant: only [`JsonWithSecrets`] writes its text. Any other serialization, such as that of a
/// body to store, leaves the member out if it has `skip_serializing_if = "ShownOnce::is_hidden"`,
/// and otherwise writes null.
#[derive(Default)]
pub struct ShownOnce(Option<Secret>);

impl ShownOnce {
    /// No secret, for a response that has the same shape as one with a secret.
    pub const NOTHING: Self = Self(None);

    /// Whether its text is not written now.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.0.is_none() || SHOWN.with_borrow(Option::is_none)
    }
}

impl From<Secret> for ShownOnce {
    fn from(secret: Secret) -> Self {
        Self(Some(secret))
    }
}

impl Serialize for ShownOnce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.as_ref().map(Secret::expose).filter(|_| !self.is_hidden());
        let Some(text) = text else { return serializer.serialize_none() };
        SHOWN.with_borrow_mut(|shown| {
            shown.get_or_insert_default().push(Secret::new(text.to_owned()));
        });
        serializer.serialize_str(text)
    }
}

/// A response body in JSON with its secrets, for the response to the request that created them.
pub struct JsonWithSecrets<T>(pub T);

impl<T: Serialize> IntoResponse for JsonWithSecrets<T> {
    fn into_response(self) -> Response {
        let writing = Writing::start();
        let body = serde_json::to_vec(&self.0);
        let shown = writing.finish();
        let Ok(body) = body.map_err(Error::internal) else {
            return Error::internal("a response body is not JSON").into_response();
        };
        let content_type = HeaderValue::from_static("application/json");
        let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
        if !shown.is_empty() {
            response.extensions_mut().insert(ShownSecrets(shown.into()));
        }
        response
    }
}

/// The secrets in a response, in its extensions, for whoever checks that they are nowhere else.
#[derive(Clone)]
pub struct ShownSecrets(pub Arc<[Secret]>);

/// The writing of one response. Dropped by a panic, too, it ends the time in which secrets are
/// written.
struct Writing;

impl Writing {
    fn start() -> Self {
        SHOWN.set(Some(Vec::new()));
        Self
    }

    fn finish(self) -> Vec<Secret> {
        SHOWN.take().unwrap_or_default()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        SHOWN.set(None);
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
        let stored = serde_json::to_value(body()).expect("JSON");
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
        assert_eq!(serde_json::to_value(body()).expect("JSON"), expected, "and hidden again");
    }

    #[tokio::test]
    async fn a_response_that_cannot_be_written_shows_no_secret_later() {
        struct Panics;
        impl Serialize for Panics {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                std::panic::resume_unwind(Box::new("a panic of a field"))
            }
        }
        let respond = || JsonWithSecrets((secret("one"), Panics)).into_response();
        std::panic::catch_unwind(respond).expect_err("a panic");
        assert_eq!(serde_json::to_string(&secret("one")).expect("JSON"), "null");
    }
}
