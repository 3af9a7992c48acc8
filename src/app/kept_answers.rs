//! Answers about credentials that are kept in memory and validated with each batch of lookups.
//!
//! No answer is trusted because it is new: a batch first asks the database what has changed since
//! the last one, and discards the answers that depend on it. The others are as current as answers
//! that are read now. No server needs to be notified of a change.
//!
//! Invariant: every kept answer was read after the snapshot, or was not affected by any change
//! between its reading and the snapshot. A change that the snapshot does not contain is reported to
//! the next batch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use hashlink::LruCache;
use metrics::counter;
use sqlx::PgConnection;
use tokio::sync::{Mutex, OwnedMutexGuard};
use uuid::Uuid;

use crate::app::batch_lookup::BatchQuery;
use crate::error::Result;
use crate::model::secret::Digest;
use crate::repo::credential_changes::{self, Changes, Snapshot};

/// The age of the last snapshot at which all answers are discarded. Changes are deleted later.
const MAX_SNAPSHOT_AGE: Duration = Duration::from_mins(5);
/// The maximum size of a kept answer, in bytes. Customers decide how much data a key has.
const MAX_BYTES: usize = 8 * 1024;

/// An answer about a credential that may be kept.
pub trait Keepable: Clone {
    /// Returns the ids of all rows that the answer was made of; `None` if it must not be kept: it
    /// changes with time or with each request, or a new row could change it.
    fn subjects(&self) -> Option<impl Iterator<Item = Uuid>>;
    /// Returns about how many bytes of customers' data the answer has.
    fn bytes(&self) -> usize;
    /// Returns when it stops being true by itself; `None` if it never does.
    fn expires_at(&self) -> Option<DateTime<Utc>>;
}

/// The kept answers of one kind of lookup. Only one batch at a time uses them. A concurrent batch,
/// which runs if the database is slow, reads everything.
pub struct KeptAnswers<A>(Option<Arc<Mutex<Answers<A>>>>);

impl<A: Keepable> KeptAnswers<A> {
    /// Keeps at most `capacity` answers; with 0, none.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self((capacity > 0).then(|| Arc::new(Mutex::new(Answers::new(capacity)))))
    }

    /// Returns the answers for use by one batch, after discarding those that a change may have
    /// affected; `None` if another batch uses them, or none can be kept.
    ///
    /// # Errors
    /// Unavailable if the database does not respond. The answers stay as they are: the next batch
    /// asks what has changed since the same snapshot.
    pub async fn validate(&self, db: &mut PgConnection) -> Result<Option<ValidAnswers<A>>> {
        let Some(answers) = &self.0 else { return Ok(None) };
        let Ok(mut answers) = Arc::clone(answers).try_lock_owned() else { return Ok(None) };
        let asked_at = Instant::now();
        let mut found = credential_changes::find_since(db, answers.last()).await?;
        // A standby cannot begin an epoch, and reads everything.
        if found.is_none() && credential_changes::begin_epoch(db).await.is_ok() {
            found = credential_changes::find_since(db, answers.last()).await?;
        }
        let Some((snapshot, changes)) = found else { return Ok(None) };
        answers.apply(snapshot, changes, asked_at);
        Ok(Some(ValidAnswers(answers)))
    }
}

/// Answers that were valid when their batch asked.
pub struct ValidAnswers<A>(OwnedMutexGuard<Answers<A>>);

impl<A: Keepable> ValidAnswers<A> {
    /// Returns the answer about the credential with one of these digests.
    pub fn get(&mut self, candidates: &[Digest]) -> Option<A> {
        candidates.iter().find_map(|digest| self.0.get(digest))
    }

    /// Keeps an answer that was read after the validation.
    pub fn keep(&mut self, digest: Digest, answer: &A) {
        self.0.keep(digest, answer);
    }
}

struct Answer<A> {
    answer: A,
    subjects: Box<[Uuid]>,
}

struct Answers<A> {
    by_digest: LruCache<Digest, Answer<A>>,
    /// The answers that depend on each row.
    by_subject: HashMap<Uuid, HashSet<Digest>>,
    /// The last snapshot, and when it was requested.
    snapshot: Option<(Snapshot, Instant)>,
}

impl<A: Keepable> Answers<A> {
    fn new(capacity: usize) -> Self {
        let by_digest = LruCache::new(capacity);
        Self { by_digest, by_subject: HashMap::new(), snapshot: None }
    }

    fn last(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref().map(|(snapshot, _)| snapshot)
    }

    /// Discards what may have changed. Two clocks measure the age of the last snapshot: the
    /// database's may be set back, and the process's may stop while the machine is suspended.
    fn apply(&mut self, snapshot: Snapshot, changes: Changes, asked_at: Instant) {
        let is_recent = self.snapshot.as_ref().is_some_and(|(last, at)| {
            let max_age = TimeDelta::from_std(MAX_SNAPSHOT_AGE).unwrap_or_default();
            at.elapsed() < MAX_SNAPSHOT_AGE && snapshot.taken_at - last.taken_at < max_age
        });
        match changes {
            Changes::Of(subjects) if is_recent => {
                for subject in subjects {
                    self.discard(subject);
                }
            }
            Changes::Of(_) | Changes::All => {
                self.by_digest.clear();
                self.by_subject.clear();
            }
        }
        self.snapshot = Some((snapshot, asked_at));
    }

    fn discard(&mut self, subject: Uuid) {
        for digest in self.by_subject.remove(&subject).unwrap_or_default() {
            if let Some(answer) = self.by_digest.remove(&digest) {
                self.unlink(digest, &answer.subjects);
            }
        }
    }

    fn unlink(&mut self, digest: Digest, subjects: &[Uuid]) {
        for subject in subjects {
            if let Some(digests) = self.by_subject.get_mut(subject) {
                digests.remove(&digest);
                if digests.is_empty() {
                    self.by_subject.remove(subject);
                }
            }
        }
    }

    /// Returns the answer if it has not expired by the database's clock.
    fn get(&mut self, digest: &Digest) -> Option<A> {
        let now = self.last()?.taken_at;
        let answer = &self.by_digest.get(digest)?.answer;
        let is_valid = answer.expires_at().is_none_or(|expires_at| now < expires_at);
        is_valid.then(|| answer.clone())
    }

    fn keep(&mut self, digest: Digest, answer: &A) {
        let Some(subjects) = answer.subjects().filter(|_| answer.bytes() <= MAX_BYTES) else {
            return;
        };
        let subjects: Box<[Uuid]> = subjects.collect();
        if let Some(replaced) = self.by_digest.remove(&digest) {
            self.unlink(digest, &replaced.subjects);
        }
        while self.by_digest.len() >= self.by_digest.capacity() {
            let Some((oldest, removed)) = self.by_digest.remove_lru() else { break };
            self.unlink(oldest, &removed.subjects);
        }
        for subject in &subjects {
            self.by_subject.entry(*subject).or_default().insert(digest);
        }
        self.by_digest.insert(digest, Answer { answer: answer.clone(), subjects });
    }
}

/// An answer and the digest under which it may be kept.
pub type Found<A> = (Option<Digest>, A);

/// Answers the queries of a batch: from memory where an answer is kept, and otherwise by `read`,
/// which returns one answer for each query that it is given, in the same order. `candidates`
/// returns the digests by which the answer to a query is kept; none for those that are always read.
///
/// # Errors
/// Unavailable if the database does not respond.
pub async fn answer<Q: BatchQuery>(
    db: &mut PgConnection,
    kept: &KeptAnswers<Q::Answer>,
    queries: &[Q],
    candidates: impl Fn(&Q) -> &[Digest],
    read: impl AsyncFnOnce(&mut PgConnection, &[&Q]) -> Result<Vec<Option<Found<Q::Answer>>>>,
) -> Result<Vec<Option<Q::Answer>>>
where
    Q::Answer: Keepable,
{
    let mut valid = kept.validate(db).await?;
    let kept_answer = |query| valid.as_mut().and_then(|valid| valid.get(candidates(query)));
    let mut answers: Vec<_> = queries.iter().map(kept_answer).collect();
    let missing = || answers.iter().enumerate().filter(|(_, answer)| answer.is_none());
    let missing: Vec<usize> = missing().map(|(index, _)| index).collect();
    count(Q::NAME, answers.len() - missing.len(), missing.len());
    if missing.is_empty() {
        return Ok(answers);
    }
    let unanswered: Vec<&Q> = missing.iter().map(|&index| &queries[index]).collect();
    let found = read(db, &unanswered).await?;
    for (index, found) in missing.into_iter().zip(found) {
        let Some((digest, answer)) = found else { continue };
        if let (Some(valid), Some(digest)) = (&mut valid, digest) {
            valid.keep(digest, &answer);
        }
        answers[index] = Some(answer);
    }
    Ok(answers)
}

/// Counts the answers by where they came from, in the metrics.
fn count(name: &'static str, kept: usize, read: usize) {
    counter!("lookup_answers_total", "of" => name, "from" => "memory").increment(kept as u64);
    counter!("lookup_answers_total", "of" => name, "from" => "database").increment(read as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that depends on one row.
    #[derive(Clone, Debug, PartialEq)]
    struct Row(Uuid, Option<DateTime<Utc>>);

    impl Keepable for Row {
        fn subjects(&self) -> Option<impl Iterator<Item = Uuid>> {
            Some(std::iter::once(self.0))
        }

        fn bytes(&self) -> usize {
            0
        }

        fn expires_at(&self) -> Option<DateTime<Utc>> {
            self.1
        }
    }

    fn digest(number: u8) -> Digest {
        Digest::new([number; 32])
    }

    fn row(number: u8) -> Row {
        Row(Uuid::from_bytes([number; 16]), None)
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    /// Returns answers with a snapshot of the second 1000.
    fn answers(capacity: usize) -> Answers<Row> {
        let mut answers = Answers::new(capacity);
        answers.apply(Snapshot::for_test(at(1_000)), Changes::All, Instant::now());
        answers
    }

    fn validate(answers: &mut Answers<Row>, seconds: i64, changes: &[Row]) {
        let changes = Changes::Of(changes.iter().map(|row| row.0).collect());
        answers.apply(Snapshot::for_test(at(seconds)), changes, Instant::now());
    }

    #[test]
    fn a_change_discards_the_answers_that_depend_on_it_and_no_others() {
        let mut answers = answers(10);
        answers.keep(digest(1), &row(1));
        answers.keep(digest(2), &row(2));
        answers.keep(digest(3), &row(1));
        validate(&mut answers, 1_001, &[row(1), row(9)]);
        assert_eq!([1, 2, 3].map(|it| answers.get(&digest(it)).is_some()), [false, true, false]);
        assert_eq!(answers.by_subject.len(), 1);
    }

    #[test]
    fn the_number_of_answers_and_of_what_they_depend_on_is_bounded() {
        let mut answers = answers(10);
        for number in 0..200 {
            answers.keep(digest(number), &row(number));
            answers.keep(digest(number), &row(number + 1));
            assert_eq!(answers.get(&digest(number)), Some(row(number + 1)));
        }
        assert_eq!((answers.by_digest.len(), answers.by_subject.len()), (10, 10));
        assert_eq!(answers.get(&digest(189)), None);
        assert!((190..200).all(|number| answers.get(&digest(number)).is_some()));
    }

    #[test]
    fn an_expired_answer_is_not_returned() {
        let mut answers = answers(10);
        answers.keep(digest(1), &Row(row(1).0, Some(at(1_002))));
        validate(&mut answers, 1_001, &[]);
        assert!(answers.get(&digest(1)).is_some());
        validate(&mut answers, 1_002, &[]);
        assert!(answers.get(&digest(1)).is_none());
    }

    #[test]
    fn all_answers_are_discarded_if_the_last_snapshot_is_too_old() {
        let max_age = i64::try_from(MAX_SNAPSHOT_AGE.as_secs()).expect("minutes");
        let mut by_database = answers(10);
        by_database.keep(digest(1), &row(1));
        validate(&mut by_database, 1_000 + max_age - 1, &[]);
        assert!(by_database.get(&digest(1)).is_some());
        validate(&mut by_database, 1_000 + 2 * max_age, &[]);
        assert!(by_database.get(&digest(1)).is_none());
        // By this process's clock, while the database's was set back.
        let mut by_process = answers(10);
        by_process.keep(digest(1), &row(1));
        let long_ago = Instant::now().checked_sub(MAX_SNAPSHOT_AGE).expect("a time after boot");
        by_process.snapshot = Some((Snapshot::for_test(at(1_000)), long_ago));
        validate(&mut by_process, 1_000, &[]);
        assert!(by_process.get(&digest(1)).is_none());
    }
}
