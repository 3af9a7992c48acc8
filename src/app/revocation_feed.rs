//! Reads the entries about ended credentials for verifiers, which may wait for the next one.
//!
//! A waiting reader occupies no connection: it looks again once a second. All readers of a server
//! look at the same moment, so that one statement serves them all. A notification by the database
//! would need a session of its own, and poolers do not pass it on.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::app::batch_lookup::{BatchLookup, BatchQuery};
use crate::app::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::model::revocation::RevocationCursor;
use crate::repo::credential_changes;
use crate::repo::revocations::{self, RevocationPage};

/// The number of batches that may run at once.
pub const CONNECTIONS: u32 = 1;
/// The maximum number of readers that wait. Others get an answer at once.
const MAX_WAITING: usize = 64;
/// How often a waiting reader looks for new entries.
const INTERVAL: Duration = Duration::from_secs(1);
/// The age at which a cursor expires, in seconds. Entries are kept for longer.
const MAX_CURSOR_AGE: i64 = 24 * 60 * 60;

/// Reads entries for verifiers.
pub struct RevocationFeed {
    lookup: BatchLookup<RevocationQuery>,
    waiting: Semaphore,
    started: Instant,
    stop: CancellationToken,
}

impl RevocationFeed {
    /// Starts the worker, which stops when this is dropped. Once `stop` is cancelled, no reader
    /// waits.
    #[must_use]
    pub fn start(db: &Database, stop: CancellationToken) -> Self {
        let (lookup, waiting) =
            (BatchLookup::start(db, CONNECTIONS, ()), Semaphore::new(MAX_WAITING));
        Self { lookup, waiting, started: Instant::now(), stop }
    }

    /// Returns the entries after the cursor. If there are none, waits up to `wait` for one, and
    /// returns an empty page if none arrives, too many readers wait, or the server stops. Without a
    /// cursor, returns an empty page with the current cursor.
    ///
    /// # Errors
    /// Gone if the cursor is older than 24 hours or of another database; unavailable if the
    /// database does not respond.
    pub async fn read(
        &self,
        after: Option<RevocationCursor>,
        wait: Duration,
    ) -> Result<RevocationPage> {
        let Some(mut after) = after else { return self.look(None).await };
        let deadline = Instant::now() + wait;
        let mut permit = None;
        loop {
            let page = self.look(Some(after)).await?;
            let is_over = Instant::now() >= deadline || self.stop.is_cancelled();
            permit = permit.or_else(|| self.waiting.try_acquire().ok());
            if !page.entries.is_empty() || is_over || permit.is_none() {
                return Ok(page);
            }
            after = page.cursor;
            let next = self.next_look().min(deadline);
            let _ = timeout_at(next, self.stop.cancelled()).await;
        }
    }

    /// Returns the number of readers that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        MAX_WAITING - self.waiting.available_permits()
    }

    /// Returns the next moment at which all waiting readers look.
    fn next_look(&self) -> Instant {
        let seconds = self.started.elapsed().as_secs();
        self.started + INTERVAL + Duration::from_secs(seconds)
    }

    async fn look(&self, after: Option<RevocationCursor>) -> Result<RevocationPage> {
        let (instance, created_at) =
            after.as_ref().map_or((None, None), |it| (Some(it.instance), Some(it.created_at)));
        let page = self.lookup.query(RevocationQuery(after)).await?;
        let page = page.ok_or_else(|| Error::internal("a reader of revocations has no page"))?;
        let is_current = instance.is_none_or(|it| it == page.cursor.instance)
            && created_at.is_none_or(|at| page.cursor.created_at - at <= MAX_CURSOR_AGE);
        if !is_current {
            let message = "`after` has expired; discard all cached verdicts and start again \
                           without it";
            return Err(Error::new(ErrorKind::Gone, message));
        }
        Ok(page)
    }
}

/// Asks for the entries after a cursor.
struct RevocationQuery(Option<RevocationCursor>);

impl BatchQuery for RevocationQuery {
    type Answer = RevocationPage;
    type Shared = ();
    const NAME: &'static str = "revocations";

    async fn answer(
        db: &mut PgConnection,
        (): &(),
        queries: &[Self],
    ) -> Result<Vec<Option<RevocationPage>>> {
        let readers: Vec<_> = queries.iter().map(|query| query.0.as_ref()).collect();
        if let Some(pages) = revocations::read(db, &readers).await? {
            return Ok(pages.into_iter().map(Some).collect());
        }
        credential_changes::begin_epoch(db).await?;
        let pages = revocations::read(db, &readers).await?.unwrap_or_default();
        Ok(pages.into_iter().map(Some).collect())
    }
}
