//! Reads a JSON body: one of the right type and size, not too deep, every field of it known.
//!
//! Everything that is wrong with the fields is found before anything is answered.

mod fields;
mod nesting;
mod node;
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
use self::nesting::NestingCounter;
pub use self::node::JsonNode;
pub use self::parsers::{
    parse_allowed_ips, parse_metadata, parse_metadata_changes, parse_presented_password,
    parse_role, parse_secret, take_new_password, text,
};
use crate::app::App;
use crate::error::{Error, ErrorKind, Issue, Result};
use crate::http::edge::context::RequestContext;
use crate::http::edge::shedding;

/// The largest body, in bytes (contract §1, *Bad input*).
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// How deep a body may be nested.
const MAX_DEPTH: usize = 32;
/// After this long a body has to arrive at [`MIN_BYTES_PER_SECOND`] at least.
const GRACE: Duration = Duration::from_secs(5);
/// The least that a body has to bring on average, in bytes a second.
const MIN_BYTES_PER_SECOND: u64 = 240;

/// A body read as `T`. No body at all is read as `{}`.
pub struct JsonBody<T> {
    /// What was read.
    pub value: T,
    /// What else is known of it.
    pub fingerprint: RequestFingerprint,
}

/// What is known of a body beside its fields.
pub struct RequestFingerprint {
    /// The digest of all that the body says, however it is spelt.
    pub digest: [u8; 32],
    deferred: Vec<Issue>,
}

impl RequestFingerprint {
    /// For routes that read no body.
    pub const NOTHING: Self = Self { digest: [0; 32], deferred: Vec::new() };

    /// Judges what depends on when the request came.
    ///
    /// # Errors
    /// Invalid, with every late issue.
    pub fn check_deferred(self) -> Result<()> {
        if self.deferred.is_empty() { Ok(()) } else { Err(Error::invalid(self.deferred)) }
    }
}

impl<T: FromFields> FromRequest<App> for JsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let rules = FieldContext { config: &app.config, now: app.clock.now() };
        if request.body().is_end_stream() {
            return parse_fields(JsonNode::Object(Vec::new()), rules);
        }
        require_json(request.headers())?;
        let bytes = read_body(app, request, MAX_BODY_BYTES).await?;
        let json = without_byte_order_mark(&bytes);
        if json.is_empty() {
            return parse_fields(JsonNode::Object(Vec::new()), rules);
        }
        let body = serde_json::from_slice(json);
        parse_fields(body.map_err(|error| invalid_json(json, &error))?, rules)
    }
}

/// The whole body as it was sent, given up on as soon as it is larger than `limit` or too deep.
///
/// # Errors
/// Too large; malformed where it is too deep, breaks off or takes too long; those of
/// [`shedding::await_body`].
pub async fn read_body(app: &App, request: Request, limit: usize) -> Result<Bytes> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let context = request.extensions().get::<RequestContext>().cloned();
    let timeout = app.config.http.connections.body_timeout;
    let mut arriving = pin!(collect(request.into_body(), limit, timeout));
    match (poll_available(arriving.as_mut()).await, context) {
        (Some(body), _) => body,
        (None, Some(context)) => shedding::await_body(app, &context, arriving).await,
        (None, None) => arriving.await,
    }
}

/// What is there without waiting for the client: the first poll asks the connection for the body,
/// and the second one has what came together with the head.
async fn poll_available<T>(mut arriving: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut has_asked = false;
    poll_fn(|cx| match arriving.as_mut().poll(cx) {
        Poll::Ready(body) => Poll::Ready(Some(body)),
        Poll::Pending if has_asked => Poll::Ready(None),
        Poll::Pending => {
            has_asked = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

fn parse_fields<T: FromFields>(body: JsonNode, rules: FieldContext<'_>) -> Result<JsonBody<T>> {
    let fingerprint = Sha256::digest(body.canonical().to_string()).into();
    let JsonNode::Object(members) = body else {
        return Err(Error::invalid(vec![Issue::body("The body must be a JSON object")]));
    };
    let mut fields = Fields::new(members, rules);
    let value = T::from_fields(&mut fields);
    let late = fields.finish()?;
    let value = value.ok_or_else(|| Error::internal("a field was refused without an issue"))?;
    Ok(JsonBody { value, fingerprint: RequestFingerprint { digest: fingerprint, deferred: late } })
}

/// Takes `application/json`, with the charset utf-8 or none, not compressed.
fn require_json(headers: &HeaderMap) -> Result<()> {
    let refused = |message| Error::new(ErrorKind::UnsupportedMediaType, message);
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.any(|encoding| encoding != "identity") {
        return Err(refused("Content-Encoding is not supported; send the body uncompressed"));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let sent = types
        .next()
        .ok_or_else(|| refused("Content-Type header is required and must be application/json"))?;
    if types.next().is_some() {
        return Err(refused("Content-Type header is there twice; send it once"));
    }
    let sent = sent.to_str().ok().and_then(|sent| sent.parse::<mime::Mime>().ok());
    let is_json = |sent: &mime::Mime| sent.essence_str() == mime::APPLICATION_JSON.essence_str();
    let sent = sent.filter(is_json);
    let sent = sent.ok_or_else(|| refused("Content-Type must be application/json"))?;
    match sent.get_param(mime::CHARSET) {
        Some(charset) if charset != mime::UTF_8 => {
            Err(refused("The charset of Content-Type must be utf-8"))
        }
        _ => Ok(()),
    }
}

/// JSON without the byte order mark that some systems write before it (RFC 8259 §8.1 lets a reader
/// ignore it).
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
        let frame = frame.map_err(|_| Error::malformed("The body did not arrive in time"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Error::malformed("The body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        if nesting.max_depth_in(&data) > MAX_DEPTH {
            let message = format!("The body is nested deeper than {MAX_DEPTH} levels");
            return Err(Error::malformed(message));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// How long so many bytes may take at the least pace.
fn time_at_min_rate(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 * 1_000 / MIN_BYTES_PER_SECOND)
}

fn too_large(limit: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("The body is larger than {limit} bytes"))
}

/// Where the JSON breaks, in our words: the parser's could repeat a piece of it.
#[must_use]
pub fn invalid_json(json: &[u8], error: &serde_json::Error) -> Error {
    if std::str::from_utf8(json).is_err() {
        return Error::malformed("The body must be UTF-8");
    }
    let (line, column) = (error.line(), error.column());
    Error::malformed(format!("The body is not valid JSON (line {line}, column {column})"))
}
