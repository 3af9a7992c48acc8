//! Errors of the onboarding family (contract §2): `HTTP` and the status, with details.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;
use crate::http::edge::context::RequestContext;
use crate::http::render::details::{ErrorDetails, error_responses};
use crate::http::render::kinds::status_invalid_as_422;
use crate::http::wire::Timestamp;

/// An error of this family.
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::Error)]
pub struct ErrorBody {
    /// `HTTP` and the status.
    #[schema(examples("HTTP 409"))]
    error: String,
    /// What went wrong.
    #[schema(examples("An organization with this org_id already exists"))]
    message: String,
    /// The kind of failure and what else there is to say.
    details: ErrorDetails,
    /// When.
    timestamp: Timestamp,
    /// The id of the request, as in `X-Request-Id`.
    #[schema(examples("req_4fTq0kXyT1hJc8ZB"))]
    request_id: String,
}

/// Renders an error.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let status = status_invalid_as_422(error.kind());
    let body = ErrorBody {
        error: format!("HTTP {}", status.as_u16()),
        message: error.message().to_owned(),
        details: ErrorDetails::from(error),
        timestamp: Timestamp(context.received_at),
        request_id: context.id.clone(),
    };
    (status, Json(body)).into_response()
}

error_responses! { ErrorBody,
    /// For routes that read a body or parameters.
    BadRequest = 400, "Not readable: broken JSON, nested too deep, or two credentials at once.";
    /// For routes with a guard.
    Unauthorized = 401, "No credential, or one that is not good.";
    /// For routes that not every caller may use.
    Forbidden = 403, "A good credential that may not do this, or not from there.";
    /// For routes with an id in the path.
    NotFound = 404, "No such thing in the caller's organization.";
    /// For routes that change something.
    Conflict = 409, "It is there already, or the same request still runs.";
    /// For routes that read a body.
    TooLarge = 413, "The body is larger than 64 KiB.";
    /// For routes that read a body.
    UnsupportedMediaType = 415, "The body is not application/json.";
    /// For routes that read a body or parameters, or change something.
    Unprocessable = 422, "Fields break rules (`details.issues` names every one), or the \
                    Idempotency-Key was used for another request.";
    /// For every route.
    Unavailable = 503, "Not just now; try again after `Retry-After` seconds.";
}
