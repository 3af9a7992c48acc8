//! A document that is the same for all clients. Clients and caches may store it as `MAX_AGE` allows
//! and revalidate it with its `ETag` (RFC 9110 §8.8.3). It is compressed on request.

use std::io::Write;
use std::sync::OnceLock;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

const MAX_AGE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// A document. Its compressed form is created at the first request for it.
pub struct PublicDocument {
    content_type: HeaderValue,
    text: Bytes,
    /// Weak, because it also applies to the compressed text.
    etag: String,
    gzip: OnceLock<Option<Bytes>>,
}

impl PublicDocument {
    /// Creates a document with this text.
    pub fn new(content_type: &'static str, text: impl Into<Bytes>) -> Self {
        let text = text.into();
        let digest = hex::encode(Sha256::digest(&text));
        let content_type = HeaderValue::from_static(content_type);
        Self { content_type, text, etag: format!("W/\"{digest}\""), gzip: OnceLock::new() }
    }

    /// Returns the response to a request with these headers: 304 if the client has the document.
    pub fn respond(&self, headers: &HeaderMap) -> Response {
        let mut response = if self.matches_if_none_match(headers) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            self.body(headers)
        };
        let headers = response.headers_mut();
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(header::ETAG, etag);
        }
        headers.insert(header::CACHE_CONTROL, MAX_AGE);
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
        response
    }

    fn body(&self, headers: &HeaderMap) -> Response {
        let gzip = accepts_gzip(headers).then(|| self.gzip.get_or_init(|| compress(&self.text)));
        let mut response = match gzip {
            Some(Some(gzip)) => {
                let mut response = Body::from(gzip.clone()).into_response();
                let encoding = HeaderValue::from_static("gzip");
                response.headers_mut().insert(header::CONTENT_ENCODING, encoding);
                response
            }
            _ => Body::from(self.text.clone()).into_response(),
        };
        response.headers_mut().insert(header::CONTENT_TYPE, self.content_type.clone());
        response
    }

    /// Returns whether `If-None-Match` contains the `ETag` of the document, by weak comparison.
    fn matches_if_none_match(&self, headers: &HeaderMap) -> bool {
        let strong = self.etag.trim_start_matches("W/");
        list_members(headers, &header::IF_NONE_MATCH)
            .any(|etag| etag == "*" || etag.trim_start_matches("W/") == strong)
    }
}

/// Returns the members of a header that is a comma-separated list.
fn list_members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Returns whether `Accept-Encoding` contains gzip with a weight above 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    list_members(headers, &header::ACCEPT_ENCODING).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        is_gzip && weight.is_none_or(|weight| weight.parse().is_ok_and(|it: f32| it > 0.0))
    })
}

/// Compresses the text with gzip. Returns `None` if that does not make it smaller.
fn compress(text: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let compressed = encoder.write_all(text).and_then(|()| encoder.finish()).ok()?;
    (compressed.len() < text.len()).then(|| compressed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn gzip_is_sent_only_to_clients_that_accept_it() {
        for accepted in ["gzip", "GZIP", "deflate, gzip;q=0.5", "br;q=1.0,gzip ; q=1"] {
            assert!(accepts_gzip(&headers(header::ACCEPT_ENCODING, accepted)), "{accepted}");
        }
        for rejected in ["", "identity", "gzip;q=0", "gzip;q=0.0", "br", "gzipped", "gzip;q=x"] {
            assert!(!accepts_gzip(&headers(header::ACCEPT_ENCODING, rejected)), "{rejected}");
        }
    }

    #[test]
    fn a_text_that_gzip_does_not_make_smaller_is_not_compressed() {
        assert!(compress(br#"{"keys":[]}"#).is_none());
        assert!(compress(&[b'a'; 1000]).is_some());
    }
}
