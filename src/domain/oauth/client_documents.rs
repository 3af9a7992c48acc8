//! Clients whose id is the URL of a metadata document (*CIMD*). The document is stored as a client
//! of the deployment, and fetched again when it has expired.
//!
//! A fetch updates only what the document contains. It changes neither whether the operator has
//! disabled the client nor whether an organization has blocked it.

use sqlx::PgConnection;

use crate::app::App;
use crate::app::document_fetches::{FetchFailure, FetchOutcome};
use crate::app::http_client::{Fetched, GetRequest};
use crate::error::{Error, Result};
use crate::model::ids::AppId;
use crate::model::oauth::document::{
    DocumentRejection, MAX_DOCUMENT_BYTES, expires_at, parse_document,
};
use crate::model::oauth::document_url::DocumentUrl;
use crate::repo::oauth_documents::{self, NewDocument};

/// The beginning of each stored `ETag`. It changes when the server begins to read another member of
/// documents, so that the next fetch returns the whole document.
const ETAG_PREFIX: &str = "2:";
/// The media type of a document.
const MEDIA_TYPE: &str = "application/json";

/// A document that must be fetched before its client can be used.
#[derive(Clone)]
pub struct StaleDocument {
    url: DocumentUrl,
    /// Whether a version is stored.
    pub is_stored: bool,
    /// The `ETag` of the stored version.
    etag: Option<String>,
}

impl StaleDocument {
    /// Returns whether another request causes it to be fetched now.
    #[must_use]
    pub fn is_being_fetched(&self, app: &App) -> bool {
        app.document_fetches.is_running(self.url.as_str())
    }
}

/// Returns the document that must be fetched before a request with this client id can be answered.
/// `None` if no document is needed: the id is no URL, the stored version may still be used, or the
/// client is disabled, which a fetch does not change.
///
/// # Errors
/// The outer errors are those of the database. The inner one says why the id cannot be used, or why
/// the document was rejected less than a minute ago.
pub async fn find_stale(
    app: &App,
    client_id: &str,
) -> Result<Result<Option<StaleDocument>, DocumentRejection>> {
    if !app.config.oauth.accepts_documents || !DocumentUrl::is_meant_by(client_id) {
        return Ok(Ok(None));
    }
    let url = match DocumentUrl::parse(client_id, &app.config.outbound.allowed_hosts) {
        Ok(url) => url,
        Err(message) => return Ok(Err(DocumentRejection::Url(message.to_string()))),
    };
    let find = async |db: &mut PgConnection| oauth_documents::find(db, client_id).await;
    let (stored, now) = (app.db.run(find).await?, app.clock.now());
    if stored.as_ref().is_some_and(|it| it.is_disabled || it.expires_at > now) {
        return Ok(Ok(None));
    }
    if let Some(rejection) = app.document_fetches.find_rejection(client_id, now) {
        return Ok(Err(rejection));
    }
    let is_stored = stored.is_some();
    let etag = stored.and_then(|it| it.etag);
    let etag = etag.and_then(|etag| etag.strip_prefix(ETAG_PREFIX).map(str::to_owned));
    Ok(Ok(Some(StaleDocument { url, is_stored, etag })))
}

/// Returns the `ETag` to store with a document; `None` if it is too long.
fn to_stored_etag(etag: &str) -> Option<String> {
    (etag.len() <= MAX_DOCUMENT_BYTES).then(|| format!("{ETAG_PREFIX}{etag}"))
}

/// Fetches a document and stores it. Requests that need the same document share one fetch.
///
/// # Errors
/// The outer error is unavailable: too many fetches run, or the document could not be stored. The
/// inner one says why there is no document that can be used.
pub async fn refresh(app: &App, document: StaleDocument) -> Result<Result<(), DocumentRejection>> {
    let client_id = document.url.as_str().to_owned();
    let fetch = || fetch_and_store(app.clone(), document);
    match app.document_fetches.share(&client_id, fetch).await? {
        Ok(()) => Ok(Ok(())),
        Err(FetchFailure::Rejected(rejection)) => Ok(Err(rejection)),
        Err(FetchFailure::Failed(cause)) => Err(Error::unavailable(cause)),
    }
}

async fn fetch_and_store(app: App, document: StaleDocument) -> FetchOutcome {
    let client_id = document.url.as_str();
    // A fetch may have ended since this request found the document stale.
    match find_stale(&app, client_id).await {
        Ok(Ok(None)) => return Ok(()),
        Ok(Ok(Some(_))) => {}
        Ok(Err(rejection)) => return Err(FetchFailure::Rejected(rejection)),
        Err(error) => return Err(FetchFailure::Failed(error.cause().to_string())),
    }
    let request = GetRequest {
        url: document.url.url(),
        accept: MEDIA_TYPE,
        bearer: None,
        etag: document.etag.as_deref(),
        max_bytes: MAX_DOCUMENT_BYTES,
    };
    let outcome = match app.http_client.get(&request).await {
        Ok(response) => store(&app, &document, &response).await,
        Err(error) => {
            tracing::info!(cause = %error, "a client's metadata document was not fetched");
            Err(FetchFailure::Rejected(DocumentRejection::NotFetched))
        }
    };
    if let Err(FetchFailure::Rejected(rejection)) = &outcome {
        app.document_fetches.remember_rejection(client_id, rejection.clone(), app.clock.now());
    }
    outcome
}

/// Stores what a response contains: a document, or that the stored one is still current.
async fn store(app: &App, document: &StaleDocument, response: &Fetched) -> FetchOutcome {
    let (client_id, now) = (document.url.as_str(), app.clock.now());
    let expires_at = expires_at(|name| response.header(name), now);
    let failed = |error: Error| FetchFailure::Failed(error.cause().to_string());
    if response.status == 304 && document.etag.is_some() {
        let extend =
            async |tx: &mut PgConnection| oauth_documents::extend(tx, client_id, expires_at).await;
        return app.db.transaction(extend).await.map_err(failed);
    }
    let content_type = response.header("content-type").and_then(|it| it.parse::<mime::Mime>().ok());
    let is_json = content_type.is_some_and(|it| it.essence_str() == MEDIA_TYPE);
    if response.status != 200 || !is_json {
        let status = response.status;
        tracing::info!(status, is_json, "a client's metadata document was not fetched");
        return Err(FetchFailure::Rejected(DocumentRejection::NotFetched));
    }
    let metadata = parse_document(client_id, &response.body, &app.config.oauth.scopes);
    let metadata = metadata.map_err(FetchFailure::Rejected)?;
    let new = NewDocument {
        id: AppId::new(now, &*app.entropy),
        client_id,
        metadata: &metadata,
        etag: response.header("etag").and_then(|etag| to_stored_etag(&etag)),
        expires_at,
        fetched_at: now,
    };
    let upsert = async |tx: &mut PgConnection| oauth_documents::upsert(tx, &new).await;
    app.db.transaction(upsert).await.map_err(failed)
}
