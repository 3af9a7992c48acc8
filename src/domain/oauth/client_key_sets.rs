//! The public keys of clients that publish them at a URL (`jwks_uri`).

use std::sync::Arc;

use serde_json::Value;

use crate::app::App;
use crate::app::document_fetches::{FetchFailure, FetchOutcome};
use crate::app::http_client::{DOCUMENT_MAX_BYTES, GetRequest};
use crate::error::{Error, Result};
use crate::model::oauth::ClientKind;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::client_assertion::UnverifiedAssertion;
use crate::model::oauth::client_keys::{ClientKeySet, ClientKeys, KeySetUrl};
use crate::model::oauth::document::DocumentRejection;

/// The media types of a key set, for the `Accept` header.
const MEDIA_TYPES: &str = "application/jwk-set+json, application/json";

/// A key set that must be fetched before an assertion can be verified.
pub struct StaleKeySet {
    url: KeySetUrl,
    /// The client, for the log.
    client_id: String,
    kind: ClientKind,
    /// The id of the key that the assertion claims to be signed with.
    key_id: Option<String>,
}

/// Returns the keys with which an assertion of a client can be verified; `None` if there are none,
/// or they must be fetched.
#[must_use]
pub fn find(
    app: &App,
    client: &OauthClient,
    assertion: &UnverifiedAssertion,
) -> Option<Arc<ClientKeySet>> {
    match client.keys.as_ref()? {
        ClientKeys::Registered(keys) => Some(Arc::new(keys.clone())),
        ClientKeys::Published(url) => {
            let sets = app.client_key_sets.of(client.kind);
            sets.find(url, assertion.key_id.as_deref(), app.clock.now())
        }
    }
}

/// Returns the key set of a client if it must be fetched; `None` if it is known, or a fetch of it
/// failed less than a minute ago.
#[must_use]
pub fn find_stale(
    app: &App,
    client: &OauthClient,
    assertion: &UnverifiedAssertion,
) -> Option<StaleKeySet> {
    let url = client.keys.as_ref()?.published()?.clone();
    let (client_id, kind) = (client.client_id.clone(), client.kind);
    let set = StaleKeySet { url, client_id, kind, key_id: assertion.key_id.clone() };
    set.must_be_fetched(app).then_some(set)
}

impl StaleKeySet {
    /// Returns whether another request causes it to be fetched now.
    #[must_use]
    pub fn is_being_fetched(&self, app: &App) -> bool {
        app.client_key_sets.of(self.kind).fetches.is_running(self.url.url().as_str())
    }

    fn must_be_fetched(&self, app: &App) -> bool {
        let (sets, now) = (app.client_key_sets.of(self.kind), app.clock.now());
        let is_usable = sets.find(&self.url, self.key_id.as_deref(), now).is_some();
        !is_usable && sets.fetches.find_rejection(self.url.url().as_str(), now).is_none()
    }
}

/// Fetches a key set and caches it. Requests that need the same set share one fetch. A failed fetch
/// is logged, and is no error.
///
/// # Errors
/// Unavailable if too many fetches run.
pub async fn refresh(app: &App, set: StaleKeySet) -> Result<()> {
    let (id, sets) = (set.url.url().to_string(), app.client_key_sets.of(set.kind));
    let fetch = || fetch_and_keep(app.clone(), set);
    match sets.fetches.share(&id, fetch).await? {
        Err(FetchFailure::Failed(cause)) => Err(Error::unavailable(cause)),
        Ok(()) | Err(FetchFailure::Rejected(_)) => Ok(()),
    }
}

async fn fetch_and_keep(app: App, set: StaleKeySet) -> FetchOutcome {
    // A fetch may have ended since this request found no key set that it can use.
    if !set.must_be_fetched(&app) {
        return Ok(());
    }
    let StaleKeySet { url, client_id, kind, .. } = set;
    let request = GetRequest {
        url: url.url(),
        accept: MEDIA_TYPES,
        etag: None,
        max_bytes: DOCUMENT_MAX_BYTES,
    };
    let (sets, now) = (app.client_key_sets.of(kind), app.clock.now());
    let keys = match app.http_client.get(&request).await {
        Ok(response) if response.status == 200 => parse(&response.body),
        Ok(response) => Err(format!("its server responded with status {}", response.status)),
        Err(error) => Err(error.to_string()),
    };
    match keys {
        Ok(keys) => {
            sets.keep(&url, keys, now);
            Ok(())
        }
        Err(cause) => {
            tracing::info!(client_id, cause, "a client's keys were not fetched");
            let rejection = DocumentRejection::NotFetched;
            sets.fetches.remember_rejection(url.url().as_str(), rejection.clone(), now);
            Err(FetchFailure::Rejected(rejection))
        }
    }
}

fn parse(body: &[u8]) -> Result<ClientKeySet, String> {
    let value: Value = serde_json::from_slice(body).map_err(|_| "it is no JSON".to_owned())?;
    ClientKeySet::parse(&value).map_err(|why| format!("it {why}"))
}
