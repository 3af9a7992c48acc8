//! Who a credential belongs to: many requests' questions gathered into one statement.
//!
//! There is no cache: a revocation is true on every replica the moment it commits. Speed comes
//! from asking together what is asked at the same time.
//!
//! Invariant: a question only ever joins a batch that was not sent yet, so no answer is older
//! than its question.

use std::collections::HashMap;
use std::sync::Arc;

use metrics::{counter, histogram};
use sqlx::PgConnection;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::app::database::{self, Database};
use crate::error::{Error, Result};
use crate::model::caller::Holder;
use crate::model::ids::SessionId;
use crate::model::secret::Digest;
use crate::repo::{callers, people};

/// How many batches are under way at once, each on its own connection.
pub const CONNECTIONS: u32 = 2;
/// How the database is to plan on these connections: once, since planning a lookup anew takes ten
/// times what the lookup does; and by indexes, whatever the size of the tables at that time.
pub const PLANS: [(&str, &str); 4] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];
/// How many questions go into one statement.
const BATCH: usize = 512;
/// How many questions may wait; one more is refused.
const QUEUE: usize = 16 * BATCH;

/// What is asked.
pub enum Question {
    /// Whose key has one of these digests (one for each pepper)?
    Key(Vec<Digest>),
    /// Whose key was exchanged for this session?
    KeySession(SessionId),
    /// Whose personal token has one of these digests?
    PersonalToken(Vec<Digest>),
    /// Which person's session is this?
    Session(SessionId),
    /// Which person's session has a token with one of these digests?
    SessionToken(Vec<Digest>),
}

struct Asked {
    question: Question,
    answer: oneshot::Sender<Result<Option<Holder>>>,
}

/// Asks the database who is calling.
pub struct KeyLookup(mpsc::Sender<Asked>);

impl KeyLookup {
    /// Starts the workers; they end when the lookup is dropped.
    #[must_use]
    pub fn start(db: &Database) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..CONNECTIONS {
            let (db, receiver) = (db.clone(), Arc::clone(&receiver));
            tokio::spawn(async move {
                // Should a worker ever panic, the next one takes its place.
                while tokio::spawn(work(db.clone(), Arc::clone(&receiver))).await.is_err() {}
            });
        }
        Self(sender)
    }

    /// Whose the credential is, good or not; `None` where it is nobody's.
    ///
    /// # Errors
    /// Unavailable where the database is away or too many questions wait.
    pub async fn ask(&self, question: Question) -> Result<Option<Holder>> {
        let (answer, answered) = oneshot::channel();
        self.0
            .try_send(Asked { question, answer })
            .map_err(|refusal| Error::unavailable(refusal.to_string()))?;
        let found = answered.await.map_err(Error::unavailable)?;
        let outcome = match &found {
            Ok(Some(Holder::Good(_))) => "found",
            Ok(Some(Holder::Refused(_))) => "refused",
            Ok(None) => "unknown",
            Err(_) => "failed",
        };
        counter!("key_lookups_total", "outcome" => outcome).increment(1);
        found
    }
}

/// Takes what waits, asks it in one go, answers, again. Only the worker whose turn it is waits
/// for questions: alone, a question is sent at once; under load, those that come while all
/// workers are busy become the next batch.
async fn work(db: Database, receiver: Arc<Mutex<mpsc::Receiver<Asked>>>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if receiver.lock().await.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most 512 questions")]
        histogram!("key_lookup_batch_size").record(batch.len() as f64);
        let found = look_up(&db, &batch).await;
        for asked in batch.drain(..) {
            let answer = match &found {
                Ok(found) => Ok(found.holder(&asked.question).cloned()),
                Err(_) => Err(Error::unavailable("the key lookup failed")),
            };
            // Whoever asked may have gone away.
            let _ = asked.answer.send(answer);
        }
    }
}

/// Asks the batch. A connection that broke while it lay idle shows itself only now: the question
/// changes nothing, so it is asked once more on a fresh one. Where time ran out it is not: whoever
/// asked has waited long enough.
async fn look_up(db: &Database, batch: &[Asked]) -> Result<Found> {
    match find(db, batch).await {
        Err(error) if database::broke_the_connection(&error) => find(db, batch).await,
        found => found,
    }
    .inspect_err(|error| {
        tracing::error!(cause = %error.cause(), "key lookup failed");
    })
}

async fn find(db: &Database, batch: &[Asked]) -> Result<Found> {
    let mut asked = Questions::default();
    for one in batch {
        match &one.question {
            Question::Key(candidates) => asked.keys.extend_from_slice(candidates),
            Question::KeySession(session) => asked.key_sessions.push(*session),
            Question::PersonalToken(candidates) => asked.tokens.extend_from_slice(candidates),
            Question::Session(session) => asked.sessions.push(*session),
            Question::SessionToken(candidates) => asked.cookies.extend_from_slice(candidates),
        }
    }
    db.run(async |db| asked.answer(db).await).await
}

/// The questions of a batch, each kind for one statement.
#[derive(Default)]
struct Questions {
    keys: Vec<Digest>,
    key_sessions: Vec<SessionId>,
    tokens: Vec<Digest>,
    sessions: Vec<SessionId>,
    cookies: Vec<Digest>,
}

impl Questions {
    async fn answer(&self, db: &mut PgConnection) -> Result<Found> {
        let mut found = Found::default();
        if !self.keys.is_empty() {
            found.by_digest = callers::by_digests(db, &self.keys).await?;
        }
        if !self.key_sessions.is_empty() {
            found.by_session = callers::by_sessions(db, &self.key_sessions).await?;
        }
        if !self.tokens.is_empty() {
            let people = people::by_tokens(db, &self.tokens).await?.into_iter();
            found.by_digest.extend(people.map(|(digest, person)| (digest, Holder::Good(person))));
        }
        if !self.sessions.is_empty() || !self.cookies.is_empty() {
            for (id, digest, person) in
                people::by_sessions(db, &self.sessions, &self.cookies).await?
            {
                found.by_session.insert(id, Holder::Good(person.clone()));
                found.by_digest.insert(digest, Holder::Good(person));
            }
        }
        Ok(found)
    }
}

/// The answers: a digest, or an id, is of one kind of credential only.
#[derive(Default)]
struct Found {
    by_digest: HashMap<Digest, Holder>,
    by_session: HashMap<SessionId, Holder>,
}

impl Found {
    fn holder(&self, question: &Question) -> Option<&Holder> {
        match question {
            Question::Key(candidates)
            | Question::PersonalToken(candidates)
            | Question::SessionToken(candidates) => {
                candidates.iter().find_map(|it| self.by_digest.get(it))
            }
            Question::KeySession(session) | Question::Session(session) => {
                self.by_session.get(session)
            }
        }
    }
}
