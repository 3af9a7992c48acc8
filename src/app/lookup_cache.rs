//! A cache of answers about credentials, which is validated with each batch of lookups.
//!
//! An answer is not trusted merely because it is recent: a batch first asks the database what has
//! changed since the last one, and discards the answers that depend on it. The others are as
//! current as answers that are read now. No server needs to be notified of a change.
//!
//! Invariant: every cached answer was read after the snapshot, or was not affected by any change
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

/// The age of the last snapshot at which all answers are discarded. [`credential_changes::sweep`]
/// deletes changes only after 10 minutes, so none is missed before.
const MAX_SNAPSHOT_AGE: Duration = Duration::from_mins(5);
/// The maximum size of a cached answer, in bytes. Organizations decide how much data a key has.
const MAX_BYTES: usize = 8 * 1024;

/// An answer about a credential that may be cached.
pub trait Cacheable: Clone {
    /// Returns the ids of all rows that the answer was made of; `None` if it must not be cached: it
    /// changes without a change to these rows other than by expiring, or a new row could change it.
    fn subjects(&self) -> Option<impl Iterator<Item = Uuid>>;
    /// Returns about how many bytes of the organization's data the answer has.
    fn bytes(&self) -> usize;
    /// Returns when it stops being true by itself; `None` if it never does.
    fn expires_at(&self) -> Option<DateTime<Utc>>;
}

/// The cache of one kind of lookup. Only one batch at a time uses it. If a batch is still running
/// after 5 ms (`MAX_BATCH_WAIT`), the next one runs beside it, and reads everything from the
/// database.
pub struct LookupCache<A>(Option<Arc<Mutex<CacheEntries<A>>>>);

impl<A: Cacheable> LookupCache<A> {
    /// Creates a cache of at most `capacity` answers; 0 turns it off.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self((capacity > 0).then(|| Arc::new(Mutex::new(CacheEntries::new(capacity)))))
    }

    /// Returns the cache for use by one batch, after discarding the answers that a change may have
    /// affected; `None` if another batch uses it, it is off, or the database is a standby.
    ///
    /// # Errors
    /// Unavailable if the database does not respond. The answers stay as they are: the next batch
    /// asks what has changed since the same snapshot.
    pub async fn validate(&self, db: &mut PgConnection) -> Result<Option<ValidatedCache<A>>> {
        let Some(entries) = &self.0 else { return Ok(None) };
        let Ok(mut entries) = Arc::clone(entries).try_lock_owned() else { return Ok(None) };
        let asked_at = Instant::now();
        let mut found = credential_changes::find_since(db, entries.last()).await?;
        // A standby cannot begin an epoch, and reads everything.
        if found.is_none() && credential_changes::begin_epoch(db).await.is_ok() {
            found = credential_changes::find_since(db, entries.last()).await?;
        }
        let Some((snapshot, changes)) = found else { return Ok(None) };
        entries.apply(snapshot, changes, asked_at);
        Ok(Some(ValidatedCache(entries)))
    }
}

/// The cache, whose answers were valid when the batch asked.
pub struct ValidatedCache<A>(OwnedMutexGuard<CacheEntries<A>>);

impl<A: Cacheable> ValidatedCache<A> {
    /// Returns the cached answer about the credential with one of these digests.
    pub fn get(&mut self, candidates: &[Digest]) -> Option<A> {
        candidates.iter().find_map(|digest| self.0.get(digest))
    }

    /// Caches an answer that was read after the validation.
    pub fn insert(&mut self, digest: Digest, answer: &A) {
        self.0.insert(digest, answer);
    }
}

struct CacheEntry<A> {
    answer: A,
    subjects: Box<[Uuid]>,
}

struct CacheEntries<A> {
    by_digest: LruCache<Digest, CacheEntry<A>>,
    /// The answers that depend on each row.
    by_subject: HashMap<Uuid, HashSet<Digest>>,
    /// The last snapshot, and when it was requested.
    snapshot: Option<(Snapshot, Instant)>,
}

impl<A: Cacheable> CacheEntries<A> {
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
            if let Some(entry) = self.by_digest.remove(&digest) {
                self.unlink(digest, &entry.subjects);
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

    /// Caches an answer if that is allowed, and discards the least recently used if necessary.
    fn insert(&mut self, digest: Digest, answer: &A) {
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
        self.by_digest.insert(digest, CacheEntry { answer: answer.clone(), subjects });
    }
}

/// An answer and the digest under which it may be cached.
pub type Found<A> = (Option<Digest>, A);

/// Answers the queries of a batch: from the cache where it has an answer, and otherwise by `read`,
/// which returns one answer for each query that it is given, in the same order. `candidates`
/// returns the digests under which the answer to a query may be cached, one for each pepper; none
/// for the queries that are always read.
///
/// # Errors
/// Unavailable if the database does not respond.
pub async fn answer<Q: BatchQuery>(
    db: &mut PgConnection,
    cache: &LookupCache<Q::Answer>,
    queries: &[Q],
    candidates: impl Fn(&Q) -> &[Digest],
    read: impl AsyncFnOnce(&mut PgConnection, &[&Q]) -> Result<Vec<Option<Found<Q::Answer>>>>,
) -> Result<Vec<Option<Q::Answer>>>
where
    Q::Answer: Cacheable,
{
    let mut cache = cache.validate(db).await?;
    let cached_answer = |query| cache.as_mut().and_then(|cache| cache.get(candidates(query)));
    let mut answers: Vec<_> = queries.iter().map(cached_answer).collect();
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
        if let (Some(cache), Some(digest)) = (&mut cache, digest) {
            cache.insert(digest, &answer);
        }
        answers[index] = Some(answer);
    }
    Ok(answers)
}

/// Counts the answers by where they came from, in the metrics.
fn count(name: &'static str, cached: usize, read: usize) {
    counter!("lookup_answers_total", "of" => name, "from" => "memory").increment(cached as u64);
    counter!("lookup_answers_total", "of" => name, "from" => "database").increment(read as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that depends on one row.
    #[derive(Clone, Debug, PartialEq)]
    struct Row(Uuid, Option<DateTime<Utc>>);

    impl Cacheable for Row {
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

    /// Returns no entries, with a snapshot of the second 1000.
    fn entries(capacity: usize) -> CacheEntries<Row> {
        let mut entries = CacheEntries::new(capacity);
        entries.apply(Snapshot::for_test(at(1_000)), Changes::All, Instant::now());
        entries
    }

    fn validate(entries: &mut CacheEntries<Row>, seconds: i64, changes: &[Row]) {
        let changes = Changes::Of(changes.iter().map(|row| row.0).collect());
        entries.apply(Snapshot::for_test(at(seconds)), changes, Instant::now());
    }

    #[test]
    fn a_change_discards_the_answers_that_depend_on_it_and_no_others() {
        let mut entries = entries(10);
        entries.insert(digest(1), &row(1));
        entries.insert(digest(2), &row(2));
        entries.insert(digest(3), &row(1));
        validate(&mut entries, 1_001, &[row(1), row(9)]);
        assert_eq!([1, 2, 3].map(|it| entries.get(&digest(it)).is_some()), [false, true, false]);
        assert_eq!(entries.by_subject.len(), 1);
    }

    #[test]
    fn the_number_of_answers_and_of_what_they_depend_on_is_bounded() {
        let mut entries = entries(10);
        for number in 0..200 {
            entries.insert(digest(number), &row(number));
            entries.insert(digest(number), &row(number + 1));
            assert_eq!(entries.get(&digest(number)), Some(row(number + 1)));
        }
        assert_eq!((entries.by_digest.len(), entries.by_subject.len()), (10, 10));
        assert_eq!(entries.get(&digest(189)), None);
        assert!((190..200).all(|number| entries.get(&digest(number)).is_some()));
    }

    #[test]
    fn an_expired_answer_is_not_returned() {
        let mut entries = entries(10);
        entries.insert(digest(1), &Row(row(1).0, Some(at(1_002))));
        validate(&mut entries, 1_001, &[]);
        assert!(entries.get(&digest(1)).is_some());
        validate(&mut entries, 1_002, &[]);
        assert!(entries.get(&digest(1)).is_none());
    }

    #[test]
    fn all_answers_are_discarded_if_the_last_snapshot_is_too_old() {
        let max_age = i64::try_from(MAX_SNAPSHOT_AGE.as_secs()).expect("minutes");
        let mut by_database = entries(10);
        by_database.insert(digest(1), &row(1));
        validate(&mut by_database, 1_000 + max_age - 1, &[]);
        assert!(by_database.get(&digest(1)).is_some());
        validate(&mut by_database, 1_000 + 2 * max_age, &[]);
        assert!(by_database.get(&digest(1)).is_none());
        // By this process's clock, while the database's was set back.
        let mut by_process = entries(10);
        by_process.insert(digest(1), &row(1));
        let long_ago = Instant::now().checked_sub(MAX_SNAPSHOT_AGE).expect("a time after boot");
        by_process.snapshot = Some((Snapshot::for_test(at(1_000)), long_ago));
        validate(&mut by_process, 1_000, &[]);
        assert!(by_process.get(&digest(1)).is_none());
    }
}
