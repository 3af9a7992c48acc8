//! Renders errors: one [`Error`], in the shape and with the codes of the request's family. One file
//! per family defines the shape; [`kinds`] defines the codes.
//!
//! An error reaches the middleware in the extensions of a response without a body
//! ([`ErrorExtension`]), whatever produced it, and is rendered there.

pub mod account;
pub mod challenge;
pub mod details;
pub mod kinds;
pub mod oauth;
pub mod onboarding;
pub mod operator;
pub mod organization;
pub mod problem;
pub mod user;
pub mod verification;

use std::any::Any;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::{Error, ErrorKind};
use crate::http::edge::context::RequestContext;
use crate::http::family::Family;

/// How a client is to authenticate (RFC 9110 §11.6.1).
const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Bearer realm="tenantry""#);

/// Renders an error in the shape of the request's family.
#[must_use]
pub fn render(error: &Error, context: &RequestContext) -> Response {
    let mut response = match context.facts.family {
        Family::Onboarding => onboarding::render(error, context),
        Family::Account => account::render(error),
        Family::Organization => organization::render(error, context),
        Family::Operator => operator::render(error, context),
        Family::User => user::render(error),
        Family::Verification => verification::render(error, context),
        Family::OAuth => oauth::render(error, context.facts.credentials),
        Family::Other => problem::render(error, context),
    };
    for (name, value) in error_headers(error, context.facts.family) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Returns the headers of an error in every family: `WWW-Authenticate` (RFC 9110 §11.6.1) and
/// `Retry-After`.
fn error_headers(error: &Error, family: Family) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let challenge = if family == Family::OAuth { oauth::CHALLENGE } else { CHALLENGE };
    let challenge = matches!(error.kind(), ErrorKind::Unauthenticated(_))
        .then_some((header::WWW_AUTHENTICATE, challenge));
    let seconds = error.retry_after_seconds();
    challenge.into_iter().chain(seconds.map(|it| (header::RETRY_AFTER, HeaderValue::from(it))))
}

/// An error in the extensions of a response, for the middleware to render.
#[derive(Clone)]
pub struct ErrorExtension(pub Arc<Error>);

/// Marks a response that has a body beside its [`ErrorExtension`], such as an HTML page: the error
/// is only logged.
#[derive(Clone, Copy)]
pub struct IsRendered;

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(ErrorExtension(Arc::new(self)));
        response
    }
}

/// Returns the response to a request whose handler panicked. The panic hook has logged why.
#[must_use]
pub fn from_panic(_: Box<dyn Any + Send>) -> Response {
    Error::internal("a handler panicked").into_response()
}

/// Returns the error for a response without one: the framework rejects requests with a status only.
#[must_use]
pub fn from_status(status: StatusCode) -> Error {
    match status {
        StatusCode::NOT_FOUND => Error::not_found("No route matches this path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            Error::new(ErrorKind::MethodNotAllowed, "Method not allowed")
        }
        status if status.is_client_error() => Error::malformed("The request cannot be read"),
        status => Error::internal(format!("response with bare status {status}")),
    }
}
