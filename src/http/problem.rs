//! How failures outside every family are told: RFC 9457.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;
use crate::http::context::RequestContext;
use crate::http::error_details::{ErrorDetails, status};

/// A problem document.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Problem {
    /// Always `about:blank`: the title says what the status means.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What went wrong this time.
    detail: String,
    /// The id of the request.
    request_id: String,
    /// What else there is to say.
    #[serde(flatten)]
    details: ErrorDetails,
}

/// A failure as a problem document.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let status = status(error.kind(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: error.message().to_owned(),
        request_id: context.id.clone(),
        details: ErrorDetails::from(error),
    };
    let mut response = (status, Json(problem)).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
