//! Rejected credentials, collected and written to the audit log: at most one event for each of them
//! and a reason every few seconds, however many requests came, so that a flood of requests is not a
//! second flood in the table. What could not be written is kept and tried again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::counter;
use serde_json::{Value, json};

use crate::app::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::model::audit::{AuditContext, EventType, NewAuditEvent};
use crate::model::caller::RejectedKey;
use crate::model::ids::OrganizationId;
use crate::model::master_scope::MasterScope;
use crate::model::rate_limit::LimitSubject;
use crate::repo::audit_events;

/// How many kinds of rejections are kept until they are written.
const MAX_PENDING: usize = 200;
/// How many of them may be one organization's: one alone can not crowd the others out.
const MAX_PER_ORGANIZATION: usize = 10;
/// After how many organizations that fail the others wait for the next flush.
const MAX_FAILURES: usize = 3;

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RejectedCredential {
    /// A key that is known: told to its organization's trail.
    Key(RejectedKey),
    /// A master key that was missing or wrong, or another scope's, from one client or, where there
    /// is no room for that, from anywhere: told to the deployment's trail.
    MasterKey(MasterScope, Option<LimitSubject>),
}

impl RejectedCredential {
    const fn organization(&self) -> OrganizationId {
        match self {
            Self::Key(key) => key.organization,
            Self::MasterKey(..) => OrganizationId::SYSTEM,
        }
    }

    fn event<'a>(
        &'a self,
        actor: &'a str,
        count: u64,
        audit: &'a AuditContext,
    ) -> NewAuditEvent<'a> {
        let (event_type, key_display_id) = match self {
            Self::Key(key) => (EventType::KeyRejected, Some(key.key_display_id.as_str())),
            Self::MasterKey(..) => (EventType::MasterKeyRejected, None),
        };
        let (organization, detail) = (self.organization(), self.detail(count));
        let target = actor;
        NewAuditEvent { organization, event_type, actor, target, key_display_id, detail, audit }
    }

    /// The public id of what was refused.
    fn public_id(&self) -> String {
        match self {
            Self::Key(key) => key.key.to_string(),
            Self::MasterKey(scope, _) => scope.as_str().to_owned(),
        }
    }

    fn detail(&self, count: u64) -> Value {
        match self {
            Self::Key(key) => json!({ "reason": key.reason.as_str(), "count": count }),
            Self::MasterKey(scope, _) => json!({ "scope": scope.as_str(), "count": count }),
        }
    }
}

/// Collects rejections; cheap to clone.
#[derive(Clone)]
pub struct RejectedCredentials(Arc<Inner>);

struct Inner {
    db: Database,
    pending: Mutex<Pending>,
    /// One flush at a time: whoever waits for it then finds its own rejections written.
    flushing: tokio::sync::Mutex<()>,
}

/// What is not written yet: of each rejection the first request, and how many there were.
type Pending = HashMap<RejectedCredential, (AuditContext, u64)>;

impl RejectedCredentials {
    /// Rejections that are written to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        let (pending, flushing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { db, pending, flushing }))
    }

    /// Notes one rejection; of several, the first request is recorded.
    pub fn record(&self, refused: RejectedCredential, audit: impl FnOnce() -> AuditContext) {
        add(&mut self.0.pending(), refused, audit, 1);
    }

    /// Writes what was noted so far. What could not be written is kept for the next time, within
    /// the same bounds as everything that is noted.
    ///
    /// It runs on even if the caller goes away: a batch that is cut off could be written twice.
    pub async fn flush(&self) -> Result<()> {
        let collected = Arc::clone(&self.0);
        tokio::spawn(async move { collected.write().await }).await.map_err(Error::internal)?
    }

    /// Flushes; a failure is logged.
    pub async fn flush_and_log(&self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(cause = %error.cause(), "rejected credentials not written; will retry");
        }
    }
}

/// Adds `count` rejections of one kind where there is room for the kind.
fn add(
    pending: &mut Pending,
    refused: RejectedCredential,
    audit: impl FnOnce() -> AuditContext,
    count: u64,
) {
    let organization = refused.organization();
    let of_one = pending.keys().filter(|it| it.organization() == organization).count();
    let is_full = match refused {
        RejectedCredential::Key(_) => {
            pending.len() >= MAX_PENDING || of_one >= MAX_PER_ORGANIZATION
        }
        // Nobody crowds these out, their own kind included: the scopes alone always have room.
        RejectedCredential::MasterKey(_, client) => {
            client.is_some() && of_one >= MAX_PER_ORGANIZATION
        }
    };
    let refused = match refused {
        RejectedCredential::MasterKey(scope, _) if is_full && !pending.contains_key(&refused) => {
            RejectedCredential::MasterKey(scope, None)
        }
        refused => refused,
    };
    let is_full = is_full && matches!(refused, RejectedCredential::Key(_));
    match pending.entry(refused) {
        Entry::Occupied(mut place) => place.get_mut().1 += count,
        Entry::Vacant(place) if !is_full => {
            place.insert((audit(), count));
        }
        Entry::Vacant(_) => count_outcome("left_out", 1),
    }
}

impl Inner {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self) -> Result<()> {
        let _turn = self.flushing.lock().await;
        let noted = std::mem::take(&mut *self.pending());
        if noted.is_empty() {
            return Ok(());
        }
        // In the order of organizations, or two servers could wait for each other's audit logs.
        let mut batch: Vec<_> = noted.into_iter().collect();
        batch.sort_unstable_by_key(|(refused, _)| refused.organization().0);
        let done = self.insert(&batch).await;
        if done.is_ok() {
            count_outcome("written", batch.len());
            return Ok(());
        }
        // Each organization by itself: what makes one of them fail keeps no other's waiting.
        let (mut failures, mut outcome) = (0, Ok(()));
        for part in
            batch.chunk_by(|(one, _), (other, _)| one.organization() == other.organization())
        {
            if failures == MAX_FAILURES {
                self.requeue(part);
                continue;
            }
            match self.insert(part).await {
                Ok(()) => count_outcome("written", part.len()),
                Err(error) => {
                    failures += 1;
                    // Only what may succeed another time is worth keeping.
                    match error.kind() {
                        ErrorKind::Unavailable => self.requeue(part),
                        _ => count_outcome("lost", part.len()),
                    }
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    async fn insert(&self, batch: &[(RejectedCredential, (AuditContext, u64))]) -> Result<()> {
        self.db
            .transaction(async |tx| {
                for (refused, (audit, count)) in batch {
                    let actor = refused.public_id();
                    audit_events::insert(tx, &refused.event(&actor, *count, audit)).await?;
                }
                Ok(())
            })
            .await
    }

    /// Puts back what could not be written. It came first, so it keeps its place and its request.
    fn requeue(&self, batch: &[(RejectedCredential, (AuditContext, u64))]) {
        count_outcome("kept", batch.len());
        let mut pending = self.pending();
        let newer = std::mem::take(&mut *pending);
        let older = batch.iter().cloned();
        for (refused, (audit, count)) in older.chain(newer) {
            add(&mut pending, refused, || audit, count);
        }
    }
}

fn count_outcome(outcome: &'static str, rejections: usize) {
    let rejections = u64::try_from(rejections).unwrap_or(u64::MAX);
    counter!("rejected_credentials_total", "outcome" => outcome).increment(rejections);
}
