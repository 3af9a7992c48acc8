//! How failures travel to the boundary: in the response's extensions, without a body. The
//! family's dialect dresses them there, whoever produced them.

use std::any::Any;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::error::{Error, ErrorKind};
use crate::http::auth::CountedRequest;

/// A failure on its way to the boundary.
#[derive(Clone)]
pub struct ErrorExtension(pub Arc<Error>);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(ErrorExtension(Arc::new(self)));
        response
    }
}

/// What a path answers where there is nothing.
pub async fn not_found() -> Error {
    from_status(StatusCode::NOT_FOUND)
}

/// What a path answers to a method it does not have; the router adds `Allow`.
pub async fn method_not_allowed(_: CountedRequest) -> Error {
    from_status(StatusCode::METHOD_NOT_ALLOWED)
}

/// What a panic answers. Its message is for the log, where the panic hook has put it.
#[must_use]
pub fn from_panic(_: Box<dyn Any + Send>) -> Response {
    Error::internal("a handler panicked").into_response()
}

/// What a status without a failure stands for.
#[must_use]
pub fn from_status(status: StatusCode) -> Error {
    match status {
        StatusCode::NOT_FOUND => Error::not_found("There is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            Error::new(ErrorKind::MethodNotAllowed, "This path does not take this method")
        }
        status if status.is_client_error() => Error::malformed("The request can not be read"),
        status => Error::internal(format!("a bare {status}")),
    }
}
