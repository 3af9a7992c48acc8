//! Errors outside the families: problem documents (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;
use crate::http::edge::context::RequestContext;
use crate::http::render::details::ErrorDetails;
use crate::http::render::kinds::status_invalid_as_422;

/// A problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Problem {
    /// Always `about:blank`: `title` is the meaning of the status.
    r#type: &'static str,
    /// The reason phrase of the HTTP status.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// The id of the request.
    request_id: String,
    /// The code, issues and details.
    #[serde(flatten)]
    details: ErrorDetails,
}

/// Renders an error.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let status = status_invalid_as_422(error.kind());
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: error.message().to_owned(),
        request_id: context.id.clone(),
        details: ErrorDetails::from(error),
    };
    let mut response = (status, Json(problem)).into_response();
    let content_type = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
