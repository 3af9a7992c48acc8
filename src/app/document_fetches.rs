//! Fetches of clients' metadata documents and key sets. Strangers choose the URLs, so few fetches
//! run at once, requests that need the same document share one, and a document that was rejected is
//! not fetched again for a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::model::oauth::document::DocumentRejection;

/// The maximum number of fetches that run at once.
const MAX_RUNNING: usize = 32;
/// For how long a rejection is remembered.
const REJECTION_LIFETIME: TimeDelta = TimeDelta::seconds(60);
/// The maximum number of rejections that are remembered. Further ones are not.
const MAX_REJECTIONS: usize = 4_096;

/// The result of a fetch, for each request that waits for it.
pub type FetchOutcome = Result<(), FetchFailure>;

/// Why a fetch did not make the document available.
#[derive(Clone, Debug)]
pub enum FetchFailure {
    /// There is no document that can be used.
    Rejected(DocumentRejection),
    /// This server failed, for this reason.
    Failed(String),
}

/// The running fetches, and the recently rejected documents; cheap to clone.
#[derive(Clone)]
pub struct DocumentFetches(Arc<State>);

struct State {
    running: Mutex<HashMap<String, Shared<BoxFuture<'static, FetchOutcome>>>>,
    rejected: Mutex<HashMap<String, (DateTime<Utc>, DocumentRejection)>>,
    permits: Arc<Semaphore>,
}

impl Default for DocumentFetches {
    fn default() -> Self {
        let permits = Arc::new(Semaphore::new(MAX_RUNNING));
        Self(Arc::new(State { running: Mutex::default(), rejected: Mutex::default(), permits }))
    }
}

/// A running fetch. It is removed from `running` when it ends, also by a panic.
struct RunningFetch {
    state: Arc<State>,
    url: String,
    _permit: OwnedSemaphorePermit,
}

impl Drop for RunningFetch {
    fn drop(&mut self) {
        lock(&self.state.running).remove(&self.url);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DocumentFetches {
    /// Waits for the fetch of this document that runs already, or runs this one. It runs to its end
    /// even if every request that waits for it is cancelled.
    ///
    /// # Errors
    /// Unavailable if too many fetches run.
    pub async fn share<F>(&self, url: &str, fetch: impl FnOnce() -> F) -> Result<FetchOutcome>
    where
        F: Future<Output = FetchOutcome> + Send + 'static,
    {
        let shared = self.find_or_start(url, fetch)?;
        Ok(shared.await)
    }

    fn find_or_start<F>(
        &self,
        url: &str,
        fetch: impl FnOnce() -> F,
    ) -> Result<Shared<BoxFuture<'static, FetchOutcome>>>
    where
        F: Future<Output = FetchOutcome> + Send + 'static,
    {
        let mut running = lock(&self.0.running);
        if let Some(shared) = running.get(url) {
            return Ok(shared.clone());
        }
        let permit = Arc::clone(&self.0.permits).try_acquire_owned();
        let permit = permit.map_err(|_| Error::unavailable("too many documents are fetched"))?;
        let (state, url) = (Arc::clone(&self.0), url.to_owned());
        let entry = RunningFetch { state, url: url.clone(), _permit: permit };
        let fetch = fetch();
        let task = tokio::spawn(async move {
            let _entry = entry;
            fetch.await
        });
        let outcome = async {
            task.await.unwrap_or_else(|error| Err(FetchFailure::Failed(error.to_string())))
        };
        let shared = outcome.boxed().shared();
        running.insert(url, shared.clone());
        Ok(shared)
    }

    /// Returns whether this document is being fetched.
    #[must_use]
    pub fn is_running(&self, url: &str) -> bool {
        lock(&self.0.running).contains_key(url)
    }

    /// Returns why a document was rejected less than a minute ago.
    #[must_use]
    pub fn find_rejection(&self, url: &str, now: DateTime<Utc>) -> Option<DocumentRejection> {
        let rejected = lock(&self.0.rejected);
        let (until, rejection) = rejected.get(url)?;
        (*until > now).then(|| rejection.clone())
    }

    /// Remembers for a minute that a document was rejected.
    pub fn remember_rejection(&self, url: &str, rejection: DocumentRejection, now: DateTime<Utc>) {
        let mut rejected = lock(&self.0.rejected);
        if rejected.len() >= MAX_REJECTIONS {
            rejected.retain(|_, (until, _)| *until > now);
        }
        if rejected.len() < MAX_REJECTIONS {
            rejected.insert(url.to_owned(), (now + REJECTION_LIFETIME, rejection));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn requests_for_one_document_share_a_fetch_that_outlives_the_first_of_them() {
        let (fetches, count) = (DocumentFetches::default(), Arc::new(AtomicUsize::new(0)));
        let done = Arc::new(Notify::new());
        let share = || {
            let (count, done) = (Arc::clone(&count), Arc::clone(&done));
            fetches.share("a", move || async move {
                count.fetch_add(1, Ordering::Relaxed);
                done.notified().await;
                Ok(())
            })
        };
        let mut first = Box::pin(share());
        assert!((&mut first).now_or_never().is_none());
        let mut second = Box::pin(share());
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        done.notify_one();
        second.await.expect("a permit").expect("a document");
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(lock(&fetches.0.running).is_empty());
        done.notify_one();
        share().await.expect("a permit").expect("a document");
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_fetch_over_the_limit_is_rejected_and_one_that_panics_is_removed() {
        let fetches = DocumentFetches::default();
        let mut waiting = Vec::new();
        for number in 0..MAX_RUNNING {
            let id = number.to_string();
            let (fetches, forever) = (fetches.clone(), std::future::pending::<FetchOutcome>);
            waiting.push(Box::pin(async move { fetches.share(&id, forever).await }));
            assert!(waiting.last_mut().expect("one").now_or_never().is_none());
        }
        let immediate = || std::future::ready(Ok(()));
        assert!(fetches.share("another", immediate).await.is_err());
        drop(fetches);
        let fetches = DocumentFetches::default();
        let panicking = || async { panic!("a test") };
        let outcome = fetches.share("a", panicking).await.expect("a permit");
        assert!(matches!(outcome, Err(FetchFailure::Failed(_))), "{outcome:?}");
        fetches.share("a", immediate).await.expect("a permit").expect("a document");
    }

    #[test]
    fn a_rejection_is_remembered_for_a_minute_and_strangers_cannot_fill_the_memory() {
        let fetches = DocumentFetches::default();
        let now: DateTime<Utc> = "2036-05-08T09:00:00Z".parse().expect("a time");
        fetches.remember_rejection("a", DocumentRejection::NotFetched, now);
        assert!(fetches.find_rejection("a", now + TimeDelta::seconds(59)).is_some());
        assert!(fetches.find_rejection("a", now + TimeDelta::seconds(60)).is_none());
        for number in 0..=MAX_REJECTIONS {
            fetches.remember_rejection(&number.to_string(), DocumentRejection::NotFetched, now);
        }
        assert_eq!(lock(&fetches.0.rejected).len(), MAX_REJECTIONS);
        let later = now + TimeDelta::minutes(2);
        fetches.remember_rejection("b", DocumentRejection::NotFetched, later);
        assert_eq!(lock(&fetches.0.rejected).len(), 1);
    }
}
