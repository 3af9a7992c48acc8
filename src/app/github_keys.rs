//! The public keys of GitHub's secret scanning, pinned by the configuration or fetched from GitHub.
//!
//! Fetched keys are kept, and are still found while the list is fetched again. An unknown key
//! identifier causes at most one fetch a minute, so that a stranger's requests cannot cause many,
//! and a list that is an hour old is fetched again, so that a key that GitHub withdraws is not
//! trusted for long. A fetch sends the last `ETag`.

use std::sync::{Arc, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex;
use url::Url;

use crate::app::http_client::{GetRequest, HttpClient};
use crate::config::github::{GithubKeySource, GithubSettings};
use crate::error::{Error, Result};
use crate::model::github_keys::{GithubKey, GithubKeys};

/// The shortest time between two fetches.
const FETCH_INTERVAL: TimeDelta = TimeDelta::minutes(1);
/// The age after which known keys are fetched again.
const MAX_AGE: TimeDelta = TimeDelta::hours(1);
/// The size limit of the list, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// The public keys of GitHub's secret scanning.
pub struct GithubKeyring {
    source: Option<GithubKeySource>,
    client: HttpClient,
    fetched: Arc<std::sync::Mutex<FetchedKeys>>,
    /// Locked during a fetch, so that there is one at a time.
    fetching: Arc<Mutex<()>>,
}

/// The result of the fetches so far.
#[derive(Default)]
struct FetchedKeys {
    keys: GithubKeys,
    etag: Option<String>,
    /// When the keys were last known to be those that GitHub publishes.
    confirmed_at: Option<DateTime<Utc>>,
    /// When the last fetch began.
    attempted_at: Option<DateTime<Utc>>,
    /// Why the last fetch failed.
    failure: Option<String>,
}

impl GithubKeyring {
    /// Creates a keyring. If the source is a URL, the client fetches the keys.
    #[must_use]
    pub fn new(settings: &GithubSettings, client: HttpClient) -> Self {
        let (fetched, fetching) = (Arc::default(), Arc::default());
        Self { source: settings.keys.clone(), client, fetched, fetching }
    }

    /// Returns the key with this identifier; `None` if GitHub has no such key, or had none less
    /// than a minute ago. A request with a known key waits for a fetch only if it starts the fetch.
    ///
    /// # Errors
    /// Unavailable if the keys had to be fetched and could not be.
    pub async fn find(&self, id: &str, now: DateTime<Utc>) -> Result<Option<Arc<GithubKey>>> {
        let url = match &self.source {
            None => return Ok(None),
            Some(GithubKeySource::Pinned(keys)) => return Ok(keys.find(id)),
            Some(GithubKeySource::Url(url)) => url.clone(),
        };
        self.refresh_if_due(url, id, now).await?;
        self.with_fetched(|fetched| match (fetched.keys.find(id), &fetched.failure) {
            (Some(key), _) => Ok(Some(key)),
            (None, None) => Ok(None),
            (None, Some(failure)) => {
                let wait = FETCH_INTERVAL.to_std().unwrap_or_default();
                Err(Error::unavailable(failure.clone()).with_retry_after(wait))
            }
        })
    }

    /// Fetches the keys if that is due for this identifier. Waits for a fetch that is running if
    /// the key is not known.
    async fn refresh_if_due(&self, url: Url, id: &str, now: DateTime<Utc>) -> Result<()> {
        let (is_known, is_due) = self.with_fetched(|fetched| {
            (fetched.keys.find(id).is_some(), fetched.is_fetch_due(id, now))
        });
        if is_known && !is_due {
            return Ok(());
        }
        let fetching = Arc::clone(&self.fetching);
        let guard = if is_known {
            let Ok(guard) = fetching.try_lock_owned() else { return Ok(()) };
            guard
        } else {
            fetching.lock_owned().await
        };
        // Another request may have fetched them meanwhile.
        if !self.with_fetched(|fetched| fetched.is_fetch_due(id, now)) {
            return Ok(());
        }
        let etag = self.with_fetched(|fetched| {
            fetched.attempted_at = Some(now);
            fetched.etag.clone()
        });
        let (client, fetched) = (self.client.clone(), Arc::clone(&self.fetched));
        // In a task, so that a client that closes its connection does not cancel the fetch.
        let fetch = tokio::spawn(async move {
            let result = fetch(&client, &url, etag.as_deref()).await;
            fetched.lock().unwrap_or_else(PoisonError::into_inner).store(result, now);
            drop(guard);
        });
        fetch.await.map_err(Error::internal)
    }

    fn with_fetched<T>(&self, work: impl FnOnce(&mut FetchedKeys) -> T) -> T {
        work(&mut self.fetched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The published keys and their `ETag`; `None` if they are those of the last fetch.
type FetchedList = Option<(GithubKeys, Option<String>)>;

impl FetchedKeys {
    fn is_fetch_due(&self, id: &str, now: DateTime<Utc>) -> bool {
        let is_older = |time: Option<DateTime<Utc>>, age| time.is_none_or(|time| now - time >= age);
        let is_needed = self.keys.find(id).is_none() || is_older(self.confirmed_at, MAX_AGE);
        is_needed && is_older(self.attempted_at, FETCH_INTERVAL)
    }

    /// Stores the result of a fetch that began now. After a failure, the keys that are known stay
    /// known.
    fn store(&mut self, result: Result<FetchedList, String>, now: DateTime<Utc>) {
        match result {
            Ok(list) => {
                self.failure = None;
                self.confirmed_at = Some(now);
                if let Some((keys, etag)) = list {
                    (self.keys, self.etag) = (keys, etag);
                }
            }
            Err(failure) => {
                tracing::warn!(failure, "GitHub's public keys could not be fetched; will retry");
                self.failure = Some(failure);
            }
        }
    }
}

/// Returns the published keys and their `ETag`; `None` if they are those of `etag`.
async fn fetch(client: &HttpClient, url: &Url, etag: Option<&str>) -> Result<FetchedList, String> {
    let (accept, max_bytes) = ("application/json", MAX_BYTES);
    let request = GetRequest { url, accept, etag, bearer: None, max_bytes };
    let response = client.get(&request).await.map_err(|error| error.to_string())?;
    match response.status {
        200 => {}
        304 if etag.is_some() => return Ok(None),
        status => return Err(format!("GitHub answered with the status {status}")),
    }
    let (keys, others) = GithubKeys::parse_published(&response.body)
        .map_err(|error| format!("the list of keys {error}"))?;
    if others > 0 {
        tracing::warn!(others, "GitHub publishes keys that are not of P-256; they are ignored");
    }
    Ok(Some((keys, response.header("etag"))))
}
