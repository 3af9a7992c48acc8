//! Fetches the metadata document of a request's client if that is due, and renders the page for a
//! document that cannot be used.

use axum::response::Response;

use crate::app::App;
use crate::domain::oauth::client_documents::{self, StaleDocument};
use crate::error::Result;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_address;
use crate::http::edge::shedding;
use crate::http::oauth::responses::bad_client;
use crate::model::oauth::document::{DocumentRejection, MAX_DOCUMENT_BYTES};
use crate::model::rate_limit::RateLimit;

/// Fetches the metadata document of a client if its id is the URL of one, and the stored version is
/// missing or too old.
///
/// # Errors
/// The outer errors are rate limited and unavailable. The inner one says why the document cannot be
/// used.
pub async fn refresh(
    app: &App,
    context: &RequestContext,
    client_id: &str,
) -> Result<Result<(), DocumentRejection>> {
    match client_documents::find_stale(app, client_id).await? {
        Ok(Some(document)) => fetch(app, context, document).await,
        Ok(None) => Ok(Ok(())),
        Err(rejection) => Ok(Err(rejection)),
    }
}

/// Fetches the metadata document of a client if the stored version is too old. A document that is
/// not stored is not fetched: its client has not requested access yet.
///
/// # Errors
/// Those of [`refresh`].
pub async fn refresh_stored(
    app: &App,
    context: &RequestContext,
    client_id: &str,
) -> Result<Result<(), DocumentRejection>> {
    match client_documents::find_stale(app, client_id).await? {
        Ok(Some(document)) if document.is_stored => fetch(app, context, document).await,
        Ok(_) => Ok(Ok(())),
        Err(rejection) => Ok(Err(rejection)),
    }
}

/// Fetches a document. A request that causes a fetch is counted by its address, since anyone can
/// send it, and has no permit while it waits.
async fn fetch(
    app: &App,
    context: &RequestContext,
    document: StaleDocument,
) -> Result<Result<(), DocumentRejection>> {
    if !document.is_being_fetched(app) {
        count_address(app, context, RateLimit::ClientDocuments)?;
    }
    shedding::await_without_permits(app, context, client_documents::refresh(app, document)).await
}

/// Returns the page for a client whose document cannot be used.
pub fn rejection_page(rejection: DocumentRejection) -> Response {
    bad_client(describe(rejection))
}

/// Returns what is required, for the developer of the app.
fn describe(rejection: DocumentRejection) -> String {
    match rejection {
        DocumentRejection::Url(message) => {
            format!("The app that sent you here is not known. `client_id` {message}.")
        }
        DocumentRejection::NotFetched => format!(
            "The metadata document of the app that sent you here could not be fetched. Its server \
             must respond to a GET of `client_id` within 5 seconds, with status 200, without a \
             redirect, and with a JSON object of at most {MAX_DOCUMENT_BYTES} bytes as \
             application/json."
        ),
        DocumentRejection::Invalid(problems) => format!(
            "The metadata document of the app that sent you here is not valid: {}.",
            problems.join("; "),
        ),
    }
}
