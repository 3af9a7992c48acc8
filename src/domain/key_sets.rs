//! Public keys that others publish at a URL: OAuth clients (`jwks_uri`), and identity providers.

use std::sync::Arc;

use serde_json::Value;

use crate::app::App;
use crate::app::document_fetches::{FetchFailure, FetchOutcome};
use crate::app::http_client::{DOCUMENT_MAX_BYTES, GetRequest};
use crate::app::key_sets::KeySets;
use crate::error::{Error, Result};
use crate::model::ids::ConnectionId;
use crate::model::oauth::ClientKind;
use crate::model::oauth::document::DocumentRejection;
use crate::model::public_key_set::{KeySetUrl, PublicKeySet};

/// The media types of a key set, for the `Accept` header.
const MEDIA_TYPES: &str = "application/jwk-set+json, application/json";

/// Who publishes a key set.
#[derive(Clone, Debug)]
pub enum KeySetOwner {
    /// The OAuth client of this kind with this id.
    Client(ClientKind, String),
    /// The identity provider of this connection.
    Provider(ConnectionId),
}

impl KeySetOwner {
    fn sets<'a>(&self, app: &'a App) -> &'a KeySets {
        match self {
            Self::Client(kind, _) => app.key_sets.of(*kind),
            Self::Provider(_) => &app.key_sets.providers,
        }
    }
}

/// A key set, for the verification of a signature.
pub struct NeededKeySet {
    /// Where it is.
    pub url: KeySetUrl,
    /// Who publishes it.
    pub owner: KeySetOwner,
    /// The id of the key that the signature is claimed to be made with.
    pub key_id: Option<String>,
}

impl NeededKeySet {
    /// Returns the set; `None` if it must be fetched, or cannot be.
    #[must_use]
    pub fn find(&self, app: &App) -> Option<Arc<PublicKeySet>> {
        self.owner.sets(app).find(&self.url, self.key_id.as_deref(), app.clock.now())
    }

    /// Returns whether another request causes it to be fetched now.
    #[must_use]
    pub fn is_being_fetched(&self, app: &App) -> bool {
        self.owner.sets(app).fetches.is_running(self.url.url().as_str())
    }

    /// Returns whether it must be fetched; false also if a fetch of it failed less than a minute
    /// ago.
    #[must_use]
    pub fn must_be_fetched(&self, app: &App) -> bool {
        let (sets, now) = (self.owner.sets(app), app.clock.now());
        let is_usable = self.find(app).is_some();
        !is_usable && sets.fetches.find_rejection(self.url.url().as_str(), now).is_none()
    }
}

/// Fetches a key set and caches it. Requests that need the same set share one fetch. A failed fetch
/// is logged, and is no error.
///
/// # Errors
/// Unavailable if too many fetches run.
pub async fn refresh(app: &App, set: NeededKeySet) -> Result<()> {
    let (id, owner) = (set.url.url().to_string(), set.owner.clone());
    let fetch = || fetch_and_keep(app.clone(), set);
    match owner.sets(app).fetches.share(&id, fetch).await? {
        Err(FetchFailure::Failed(cause)) => Err(Error::unavailable(cause)),
        Ok(()) | Err(FetchFailure::Rejected(_)) => Ok(()),
    }
}

async fn fetch_and_keep(app: App, set: NeededKeySet) -> FetchOutcome {
    // A fetch may have ended since this request found no key set that it can use.
    if !set.must_be_fetched(&app) {
        return Ok(());
    }
    let NeededKeySet { url, owner, .. } = set;
    let request = GetRequest {
        url: url.url(),
        accept: MEDIA_TYPES,
        etag: None,
        bearer: None,
        max_bytes: DOCUMENT_MAX_BYTES,
    };
    let (sets, now) = (owner.sets(&app), app.clock.now());
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
            tracing::info!(?owner, cause, "public keys were not fetched");
            let rejection = DocumentRejection::NotFetched;
            sets.fetches.remember_rejection(url.url().as_str(), rejection.clone(), now);
            Err(FetchFailure::Rejected(rejection))
        }
    }
}

fn parse(body: &[u8]) -> Result<PublicKeySet, String> {
    let value: Value = serde_json::from_slice(body).map_err(|_| "it is no JSON".to_owned())?;
    PublicKeySet::parse(&value).map_err(|why| format!("it {why}"))
}
