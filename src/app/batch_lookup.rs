//! Combines the queries of concurrent requests into batches.
//!
//! Every server sees a change as soon as it commits. Speed comes from sending the queries of
//! concurrent requests together.
//!
//! Invariant: a query joins only a batch that has not been sent yet, so no answer is older than its
//! query.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::histogram;
use sqlx::PgConnection;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use crate::app::database::{self, Database};
use crate::error::{Error, Result};

/// The number of queries from which no more are added to a batch.
const BATCH_SIZE: usize = 512;
/// The number of queries that may wait. Further queries are rejected.
const QUEUE_SIZE: usize = 16 * BATCH_SIZE;
/// The maximum time that the next batch waits for a running one before both run concurrently.
const MAX_BATCH_WAIT: Duration = Duration::from_millis(5);

/// A query that can be sent in a batch with others of its kind.
pub trait BatchQuery: Send + Sync + Sized + 'static {
    /// The answer to one query.
    type Answer: Send + 'static;
    /// What the batches of a lookup share.
    type Shared: Send + Sync + 'static;
    /// The kind of query, in the metrics and the log.
    const NAME: &'static str;
    /// Whether a batch whose connection was lost may be sent again: not if it writes.
    const MAY_BE_REPEATED: bool = true;

    /// Returns one answer for each query, in the same order; `None` if nothing was found.
    fn answer(
        db: &mut PgConnection,
        shared: &Self::Shared,
        queries: &[Self],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>>> + Send;
}

/// The queries of one caller, which are answered together.
struct Group<Q: BatchQuery> {
    queries: Vec<Q>,
    sender: oneshot::Sender<Result<Vec<Option<Q::Answer>>>>,
}

/// What the workers of a lookup share.
struct Context<Q: BatchQuery> {
    db: Database,
    shared: Q::Shared,
    groups: Mutex<mpsc::UnboundedReceiver<Group<Q>>>,
    /// The number of queries that wait.
    waiting: Arc<AtomicUsize>,
}

/// Sends queries of one kind to the database in batches.
pub struct BatchLookup<Q: BatchQuery> {
    groups: mpsc::UnboundedSender<Group<Q>>,
    /// The number of queries that wait.
    waiting: Arc<AtomicUsize>,
}

impl<Q: BatchQuery> BatchLookup<Q> {
    /// Starts the workers. They stop when the lookup is dropped.
    #[must_use]
    pub fn start(db: &Database, workers: u32, shared: Q::Shared) -> Self {
        let (groups, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::default();
        let context = Arc::new(Context {
            db: db.clone(),
            shared,
            groups: Mutex::new(receiver),
            waiting: Arc::clone(&waiting),
        });
        for _ in 0..workers {
            let context = Arc::clone(&context);
            tokio::spawn(async move {
                // A worker that panics is replaced.
                while tokio::spawn(work(Arc::clone(&context))).await.is_err() {}
            });
        }
        Self { groups, waiting }
    }

    /// Returns the answer to one query; `None` if nothing was found.
    ///
    /// # Errors
    /// Unavailable if the batch fails for any reason, or the queue is full.
    pub async fn query(&self, query: Q) -> Result<Option<Q::Answer>> {
        Ok(self.query_all(vec![query]).await?.pop().flatten())
    }

    /// Returns the answers to several queries, in their order. They are sent in one batch.
    ///
    /// # Errors
    /// As [`BatchLookup::query`].
    pub async fn query_all(&self, queries: Vec<Q>) -> Result<Vec<Option<Q::Answer>>> {
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let count = queries.len();
        if self.waiting.fetch_add(count, Ordering::Relaxed) + count > QUEUE_SIZE {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            return Err(Error::unavailable("too many lookups are waiting"));
        }
        let (sender, receiver) = oneshot::channel();
        let sent = self.groups.send(Group { queries, sender });
        sent.map_err(|error| Error::unavailable(error.to_string()))?;
        receiver.await.map_err(Error::unavailable)?
    }
}

/// Sends the waiting queries as one batch, distributes the answers, and repeats. A single query is
/// sent immediately; queries that arrive while a batch is running form the next one.
async fn work<Q: BatchQuery>(context: Arc<Context<Q>>) {
    let (mut queries, mut senders) = (Vec::new(), Vec::new());
    loop {
        let mut receiver = context.groups.lock().await;
        let Some(first) = receiver.recv().await else { return };
        // Requests that have already arrived can add their queries before the batch is sent.
        tokio::task::yield_now().await;
        let mut next = Some(first);
        while let Some(group) = next {
            senders.push((group.queries.len(), group.sender));
            queries.extend(group.queries);
            // A group is not divided, so a batch may exceed `BATCH_SIZE`.
            next = (queries.len() < BATCH_SIZE).then(|| receiver.try_recv().ok()).flatten();
        }
        context.waiting.fetch_sub(queries.len(), Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most some hundred queries")]
        histogram!("lookup_batch_size", "of" => Q::NAME).record(queries.len() as f64);
        let mut answers = query_batch(&context, &queries, receiver).await.map(Vec::into_iter);
        queries.clear();
        for (count, sender) in senders.drain(..) {
            // The request may have been cancelled.
            let _ = sender.send(match &mut answers {
                Ok(answers) => Ok(answers.by_ref().take(count).collect()),
                Err(_) => Err(Error::unavailable("the lookup failed")),
            });
        }
    }
}

/// Sends a batch. The guard is dropped, and the next worker may start, when the batch is finished
/// or `MAX_BATCH_WAIT` passed: one large batch costs less than two small ones, but no request must
/// wait for a connection that no longer responds.
///
/// A connection that broke while idle fails only now. A query that may be repeated is sent once
/// more on a new connection. After a timeout it is not: the requests have waited long enough.
async fn query_batch<Q: BatchQuery, T>(
    Context { db, shared, .. }: &Context<Q>,
    queries: &[Q],
    receiver_guard: T,
) -> Result<Vec<Option<Q::Answer>>> {
    let mut querying = pin!(async {
        match db.run(async |db| Q::answer(db, shared, queries).await).await {
            Err(error) if Q::MAY_BE_REPEATED && database::is_connection_lost(&error) => {
                db.run(async |db| Q::answer(db, shared, queries).await).await
            }
            answers => answers,
        }
    });
    let in_time = timeout(MAX_BATCH_WAIT, querying.as_mut()).await;
    drop(receiver_guard);
    let answers = if let Ok(answers) = in_time { answers } else { querying.await };
    answers.inspect_err(|error| {
        tracing::error!(of = Q::NAME, cause = %error.cause(), "lookup failed");
    })
}
