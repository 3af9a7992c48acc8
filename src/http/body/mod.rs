//! Reads request bodies. Checks their media type, size and depth, and rejects unknown JSON fields.
//!
//! All issues of the fields are collected before the request is rejected.

mod fields;
mod form;
mod nesting;
mod node;
mod object;
mod parsers;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

pub use self::fields::{FieldContext, Fields, FromFields};
pub use self::form::{Form, FormPairs};
use self::nesting::NestingCounter;
pub use self::node::JsonNode;
pub use self::object::JsonMembers;
pub use self::parsers::{
    parse_allowed_ips, parse_metadata, parse_metadata_changes, parse_presented_password,
    parse_role, parse_secret, take_new_password, text,
};
use crate::app::App;
use crate::error::{Error, ErrorKind, Issue, Result};
use crate::http::edge::context::RequestContext;
use crate::http::edge::shedding;
use crate::model::idempotency;

/// The size limit of a body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// The maximum depth of nested arrays and objects.
const MAX_DEPTH: usize = 32;
/// The time that a body may take in addition to the time at [`MIN_BYTES_PER_SECOND`].
const GRACE: Duration = Duration::from_secs(5);
/// The minimum average rate of a body, in bytes per second.
const MIN_BYTES_PER_SECOND: u64 = 240;

/// Extracts a JSON body as `T`. A missing or empty body is read as `{}`.
pub struct JsonBody<T> {
    /// The parsed body.
    pub value: T,
    /// The digest of the body, for idempotency.
    pub fingerprint: RequestFingerprint,
}

/// Identifies the content of a request, so that a repetition can be recognized.
pub struct RequestFingerprint {
    /// The digest of the body in canonical form: without white space, members sorted by name.
    /// Zeros without an `Idempotency-Key`, which is what compares it.
    pub digest: [u8; 32],
    /// Issues that depend on the time of the request. They do not apply to a replay.
    deferred: Vec<Issue>,
}

impl RequestFingerprint {
    /// The fingerprint for routes that read no body.
    pub const NOTHING: Self = Self { digest: [0; 32], deferred: Vec::new() };

    /// Checks the conditions that depend on the time of the request.
    ///
    /// # Errors
    /// Invalid, with every deferred issue.
    pub fn check_deferred(self) -> Result<()> {
        if self.deferred.is_empty() { Ok(()) } else { Err(Error::invalid(self.deferred)) }
    }
}

impl<T: FromFields> FromRequest<App> for JsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let context = FieldContext { config: &app.config, now: app.clock.now() };
        let may_be_replayed = request.headers().contains_key(idempotency::HEADER);
        let parse = |body| parse_fields(body, may_be_replayed, context);
        if request.body().is_end_stream() {
            return parse(JsonNode::Object(Vec::new()));
        }
        require_media_type(request.headers(), &mime::APPLICATION_JSON)?;
        let bytes = read_body(app, request, T::MAX_BODY_BYTES).await?;
        let json = without_byte_order_mark(&bytes);
        if json.is_empty() {
            return parse(JsonNode::Object(Vec::new()));
        }
        let body = serde_json::from_slice(json);
        parse(body.map_err(|error| invalid_json(json, &error))?)
    }
}

/// Reads the whole body as bytes. Stops as soon as it exceeds `limit` bytes or the maximum depth.
///
/// # Errors
/// Too large; malformed if it is nested too deep, ends early or arrives too slowly; the errors of
/// [`shedding::await_without_permits`].
pub async fn read_body(app: &App, request: Request, limit: usize) -> Result<Bytes> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let context = request.extensions().get::<RequestContext>().cloned();
    let timeout = app.config.http.connections.body_timeout;
    let mut body = pin!(collect(request.into_body(), limit, timeout));
    match (poll_available(body.as_mut()).await, context) {
        (Some(body), _) => body,
        (None, Some(context)) => shedding::await_without_permits(app, &context, body).await,
        (None, None) => body.await,
    }
}

/// Returns the body if it has already arrived, without waiting for the client. The first poll
/// requests the body from the connection, and the second one receives what arrived together with
/// the head.
async fn poll_available<T>(mut body: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut was_polled = false;
    poll_fn(|cx| match body.as_mut().poll(cx) {
        Poll::Ready(body) => Poll::Ready(Some(body)),
        Poll::Pending if was_polled => Poll::Ready(None),
        Poll::Pending => {
            was_polled = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

fn parse_fields<T: FromFields>(
    body: JsonNode,
    may_be_replayed: bool,
    context: FieldContext<'_>,
) -> Result<JsonBody<T>> {
    let digest = may_be_replayed.then(|| Sha256::digest(body.canonical().to_string()).into());
    let JsonNode::Object(members) = body else {
        return Err(Error::invalid(vec![Issue::body("Request body must be a JSON object")]));
    };
    let mut fields = Fields::new(members, context);
    let value = T::from_fields(&mut fields);
    let deferred = fields.finish()?;
    let value = value.ok_or_else(|| Error::internal("a field was rejected without an issue"))?;
    Ok(JsonBody {
        value,
        fingerprint: RequestFingerprint { digest: digest.unwrap_or_default(), deferred },
    })
}

/// Requires an uncompressed body of this media type with no charset or utf-8.
fn require_media_type(headers: &HeaderMap, required: &mime::Mime) -> Result<()> {
    let unsupported = |message: String| Error::new(ErrorKind::UnsupportedMediaType, message);
    let required = required.essence_str();
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.any(|encoding| encoding != "identity") {
        let message = "Content-Encoding is not supported; send the body uncompressed";
        return Err(unsupported(message.to_owned()));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let media_type = types.next().ok_or_else(|| {
        unsupported(format!("Content-Type header is required and must be {required}"))
    })?;
    if types.next().is_some() {
        return Err(unsupported("Content-Type header must not be repeated".to_owned()));
    }
    let media_type = media_type.to_str().ok().and_then(|text| text.parse::<mime::Mime>().ok());
    let media_type = media_type.filter(|it| it.essence_str() == required);
    let media_type =
        media_type.ok_or_else(|| unsupported(format!("Content-Type must be {required}")))?;
    match media_type.get_param(mime::CHARSET) {
        Some(charset) if charset != mime::UTF_8 => {
            Err(unsupported("Charset of Content-Type must be utf-8".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Removes the byte order mark that some systems write before JSON (RFC 8259 §8.1 allows a reader
/// to ignore it).
#[must_use]
pub fn without_byte_order_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix("\u{feff}".as_bytes()).unwrap_or(json)
}

async fn collect(mut body: Body, limit: usize, timeout: Duration) -> Result<Bytes> {
    let started = Instant::now();
    let mut bytes = Vec::new();
    let mut nesting = NestingCounter::default();
    loop {
        let due = started + timeout.min(GRACE + time_at_min_rate(bytes.len()));
        let frame = timeout_at(due, body.frame()).await;
        let frame = frame.map_err(|_| Error::malformed("Request body did not arrive in time"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Error::malformed("Request body ended early"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        if nesting.advance(&data) > MAX_DEPTH {
            let message = format!("Request body must be nested at most {MAX_DEPTH} levels deep");
            return Err(Error::malformed(message));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// Returns the time that this number of bytes takes at the minimum rate.
fn time_at_min_rate(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 * 1_000 / MIN_BYTES_PER_SECOND)
}

fn too_large(limit: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("Request body must be at most {limit} bytes"))
}

/// Describes where the JSON is invalid. The parser's own message is not used, because it could
/// quote the body.
#[must_use]
pub fn invalid_json(json: &[u8], error: &serde_json::Error) -> Error {
    if std::str::from_utf8(json).is_err() {
        return Error::malformed("Request body must be UTF-8");
    }
    let (line, column) = (error.line(), error.column());
    Error::malformed(format!("Request body is not valid JSON (line {line}, column {column})"))
}
