//! Many requests' questions gathered into one statement.
//!
//! There is no cache: a change is seen on every replica the moment it commits. Speed comes from
//! asking together what is asked at the same time.
//!
//! Invariant: a question only ever joins a batch that was not sent yet, so no answer is older
//! than its question.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::histogram;
use sqlx::PgConnection;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use crate::app::database::{self, Database};
use crate::error::{Error, Result};

/// How many questions go into one statement.
const BATCH_SIZE: usize = 512;
/// How many questions may wait; one more is refused.
const QUEUE_SIZE: usize = 16 * BATCH_SIZE;
/// How long a batch may be under way before the next one does not wait for it.
const MAX_BATCH_WAIT: Duration = Duration::from_millis(5);

/// What can be asked together.
pub trait BatchQuery: Send + Sync + Sized + 'static {
    /// What one is answered.
    type Answer: Send + 'static;
    /// What the questions are called in the metrics and the log.
    const NAME: &'static str;

    /// Answers many, each in its place; `None` where there is nothing to be found.
    fn answer(
        db: &mut PgConnection,
        asked: &[Self],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>>> + Send;
}

type AnswerSender<Q> = oneshot::Sender<Result<Option<<Q as BatchQuery>::Answer>>>;
type QueryReceiver<Q> = Arc<Mutex<mpsc::Receiver<(Q, AnswerSender<Q>)>>>;

/// Asks the database questions of one kind.
pub struct BatchLookup<Q: BatchQuery>(mpsc::Sender<(Q, AnswerSender<Q>)>);

impl<Q: BatchQuery> BatchLookup<Q> {
    /// Starts so many workers; they end when the lookup is dropped.
    #[must_use]
    pub fn start(db: &Database, workers: u32) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_SIZE);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..workers {
            let (db, receiver) = (db.clone(), Arc::clone(&receiver));
            tokio::spawn(async move {
                // Should a worker ever panic, the next one takes its place.
                while tokio::spawn(work(db.clone(), Arc::clone(&receiver))).await.is_err() {}
            });
        }
        Self(sender)
    }

    /// The answer; `None` where there is nothing to be found.
    ///
    /// # Errors
    /// Unavailable where the database is away or too many questions wait.
    pub async fn query(&self, question: Q) -> Result<Option<Q::Answer>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.try_send((question, answer));
        sent.map_err(|refusal| Error::unavailable(refusal.to_string()))?;
        answered.await.map_err(Error::unavailable)?
    }
}

/// Takes what waits, asks it in one go, answers, again. Alone, a question is sent at once; what
/// comes while a batch is under way becomes the next one.
async fn work<Q: BatchQuery>(db: Database, waiting: QueryReceiver<Q>) {
    let (mut questions, mut answers) = (Vec::new(), Vec::<AnswerSender<Q>>::new());
    let mut batch = Vec::with_capacity(BATCH_SIZE);
    loop {
        let mut turn = waiting.lock().await;
        if turn.recv_many(&mut batch, BATCH_SIZE).await == 0 {
            return;
        }
        // Requests that have arrived already get to ask, too, before the batch is sent.
        tokio::task::yield_now().await;
        while batch.len() < BATCH_SIZE
            && let Ok(asked) = turn.try_recv()
        {
            batch.push(asked);
        }
        for (question, answer) in batch.drain(..) {
            questions.push(question);
            answers.push(answer);
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most 512 questions")]
        histogram!("lookup_batch_size", "of" => Q::NAME).record(questions.len() as f64);
        let mut found = query_batch(&db, &questions, turn).await.map(Vec::into_iter);
        questions.clear();
        for answer in answers.drain(..) {
            // Whoever asked may have gone away.
            let _ = answer.send(match &mut found {
                Ok(found) => Ok(found.next().flatten()),
                Err(_) => Err(Error::unavailable("the lookup failed")),
            });
        }
    }
}

/// Asks the batch, and lets the next worker take its turn when that is done, or takes long: one
/// batch of many costs less than two of half as many, but nobody is to wait for a connection that
/// has fallen silent.
///
/// A connection that broke while it lay idle shows itself only now: the question changes nothing,
/// so it is asked once more on a fresh one. Where time ran out it is not: whoever asked has waited
/// long enough.
async fn query_batch<Q: BatchQuery, T>(
    db: &Database,
    asked: &[Q],
    turn: T,
) -> Result<Vec<Option<Q::Answer>>> {
    let mut asking = pin!(async {
        match db.run(async |db| Q::answer(db, asked).await).await {
            Err(error) if database::is_connection_lost(&error) => {
                db.run(async |db| Q::answer(db, asked).await).await
            }
            found => found,
        }
    });
    let in_time = timeout(MAX_BATCH_WAIT, asking.as_mut()).await;
    drop(turn);
    let found = if let Ok(found) = in_time { found } else { asking.await };
    found.inspect_err(|error| {
        tracing::error!(of = Q::NAME, cause = %error.cause(), "lookup failed");
    })
}
