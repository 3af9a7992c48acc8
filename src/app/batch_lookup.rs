//! Combines the queries of concurrent requests into one statement.
//!
//! There is no cache: every server sees a change as soon as it commits. Speed comes from sending
//! the queries of concurrent requests together.
//!
//! Invariant: a query joins only a batch that has not been sent yet, so no answer is older than its
//! query.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::histogram;
use sqlx::PgConnection;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use crate::app::database::{self, Database};
use crate::error::{Error, Result};

/// The maximum number of queries in one statement.
const BATCH_SIZE: usize = 512;
/// The number of queries that may wait. Further queries are rejected.
const QUEUE_SIZE: usize = 16 * BATCH_SIZE;
/// The maximum time that the next batch waits for a running one before both run concurrently.
const MAX_BATCH_WAIT: Duration = Duration::from_millis(5);

/// A query that can be sent in a batch with others of its kind.
pub trait BatchQuery: Send + Sync + Sized + 'static {
    /// The answer to one query.
    type Answer: Send + 'static;
    /// The kind of query, in the metrics and the log.
    const NAME: &'static str;
    /// Whether a batch whose connection was lost may be sent again: not if it writes.
    const MAY_BE_REPEATED: bool = true;

    /// Returns one answer for each query, in the same order; `None` if nothing was found.
    fn answer(
        db: &mut PgConnection,
        queries: &[Self],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>>> + Send;
}

type AnswerSender<Q> = oneshot::Sender<Result<Option<<Q as BatchQuery>::Answer>>>;
type QueryReceiver<Q> = Arc<Mutex<mpsc::Receiver<(Q, AnswerSender<Q>)>>>;

/// Sends queries of one kind to the database in batches.
pub struct BatchLookup<Q: BatchQuery>(mpsc::Sender<(Q, AnswerSender<Q>)>);

impl<Q: BatchQuery> BatchLookup<Q> {
    /// Starts the workers. They stop when the lookup is dropped.
    #[must_use]
    pub fn start(db: &Database, workers: u32) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_SIZE);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..workers {
            let (db, receiver) = (db.clone(), Arc::clone(&receiver));
            tokio::spawn(async move {
                // A worker that panics is replaced.
                while tokio::spawn(work(db.clone(), Arc::clone(&receiver))).await.is_err() {}
            });
        }
        Self(sender)
    }

    /// Returns the answer to one query; `None` if nothing was found.
    ///
    /// # Errors
    /// Unavailable if the batch fails for any reason, or the queue is full.
    pub async fn query(&self, query: Q) -> Result<Option<Q::Answer>> {
        let (sender, receiver) = oneshot::channel();
        let sent = self.0.try_send((query, sender));
        sent.map_err(|error| Error::unavailable(error.to_string()))?;
        receiver.await.map_err(Error::unavailable)?
    }
}

/// Sends the waiting queries as one batch, distributes the answers, and repeats. A single query is
/// sent immediately; queries that arrive while a batch is running form the next one.
async fn work<Q: BatchQuery>(db: Database, receiver: QueryReceiver<Q>) {
    let (mut queries, mut senders) = (Vec::new(), Vec::<AnswerSender<Q>>::new());
    let mut batch = Vec::with_capacity(BATCH_SIZE);
    loop {
        let mut receiver_guard = receiver.lock().await;
        if receiver_guard.recv_many(&mut batch, BATCH_SIZE).await == 0 {
            return;
        }
        // Requests that have already arrived can add their queries before the batch is sent.
        tokio::task::yield_now().await;
        while batch.len() < BATCH_SIZE
            && let Ok(query_and_sender) = receiver_guard.try_recv()
        {
            batch.push(query_and_sender);
        }
        for (query, sender) in batch.drain(..) {
            queries.push(query);
            senders.push(sender);
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most 512 queries")]
        histogram!("lookup_batch_size", "of" => Q::NAME).record(queries.len() as f64);
        let mut answers = query_batch(&db, &queries, receiver_guard).await.map(Vec::into_iter);
        queries.clear();
        for sender in senders.drain(..) {
            // The request may have been cancelled.
            let _ = sender.send(match &mut answers {
                Ok(answers) => Ok(answers.next().flatten()),
                Err(_) => Err(Error::unavailable("the lookup failed")),
            });
        }
    }
}

/// Sends a batch. The guard is dropped, and the next worker may start, when the batch is finished
/// or takes long: one large batch costs less than two small ones, but no request must wait for a
/// connection that no longer responds.
///
/// A connection that broke while idle fails only now. A query that may be repeated is sent once
/// more on a new connection. After a timeout it is not: the requests have waited long enough.
async fn query_batch<Q: BatchQuery, T>(
    db: &Database,
    queries: &[Q],
    receiver_guard: T,
) -> Result<Vec<Option<Q::Answer>>> {
    let mut querying = pin!(async {
        match db.run(async |db| Q::answer(db, queries).await).await {
            Err(error) if Q::MAY_BE_REPEATED && database::is_connection_lost(&error) => {
                db.run(async |db| Q::answer(db, queries).await).await
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
