//! Collects entries in memory and writes them in batches, so that no request waits for a write, and
//! a flood of requests does not cause a flood of rows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::app::database::Database;
use crate::error::{Error, Result};

/// Entries that are written together. A batch is bounded: an entry beyond its bounds is dropped.
pub trait Batch: Default + Send + 'static {
    /// Returns whether there is nothing to write.
    fn is_empty(&self) -> bool;

    /// Adds entries that are newer than those of this batch, within the bounds.
    fn merge(&mut self, newer: Self);

    /// Writes the entries. Removes those that were written, and those that are given up; the rest
    /// is retried by the next flush.
    fn write(&mut self, db: &Database) -> impl Future<Output = Result<()>> + Send;
}

/// Collects a batch until it is flushed.
pub struct WriteBuffer<B>(Arc<Inner<B>>);

struct Inner<B> {
    db: Database,
    pending: Mutex<B>,
    /// Allows one flush at a time, so that a caller that waited for it finds its own entries
    /// written.
    flushing: tokio::sync::Mutex<()>,
}

impl<B: Batch> WriteBuffer<B> {
    /// Creates a buffer that writes to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        let (pending, flushing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { db, pending, flushing }))
    }

    /// Locks and returns the pending batch, to add an entry to it.
    pub fn pending(&self) -> MutexGuard<'_, B> {
        self.0.pending()
    }

    /// Writes the pending batch. Entries that could not be written are retried by the next flush,
    /// within the same bounds as new ones.
    ///
    /// It continues even if the caller is cancelled: the batch contains other callers' entries, and
    /// an interrupted one could be written twice.
    pub async fn flush(&self) -> Result<()> {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.flush().await }).await.map_err(Error::internal)?
    }
}

impl<B: Batch> Inner<B> {
    fn pending(&self) -> MutexGuard<'_, B> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn flush(&self) -> Result<()> {
        let _guard = self.flushing.lock().await;
        let mut batch = std::mem::take(&mut *self.pending());
        if batch.is_empty() {
            return Ok(());
        }
        let written = batch.write(&self.db).await;
        if !batch.is_empty() {
            let mut pending = self.pending();
            let newer = std::mem::replace(&mut *pending, batch);
            pending.merge(newer);
        }
        written
    }
}
