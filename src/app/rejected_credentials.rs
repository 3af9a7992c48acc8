//! Collects rejected credentials in memory and writes them to the audit log: at most one event per
//! credential and reason every few seconds, however many requests arrive, so that a flood of
//! requests does not flood the table. Events that could not be written are retried.

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

/// The maximum number of different rejections that wait to be written.
const MAX_PENDING: usize = 200;
/// The maximum number of them for one organization, so that it can not displace the others'.
const MAX_PER_ORGANIZATION: usize = 10;
/// The number of failed organizations after which the others wait for the next flush.
const MAX_FAILURES: usize = 3;

/// A rejected credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RejectedCredential {
    /// A known key; recorded in its organization's audit log.
    Key(RejectedKey),
    /// A master key that is missing, wrong, or of another scope; recorded in the deployment's audit
    /// log. It is counted per client, or for all clients together once too many are pending.
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

    /// Returns the public id of the credential.
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
    /// Allows one flush at a time, so that a caller that waited for it finds its own rejections
    /// written.
    flushing: tokio::sync::Mutex<()>,
}

/// The rejections that are not written yet, each with its first request and the number of requests.
type Pending = HashMap<RejectedCredential, (AuditContext, u64)>;

impl RejectedCredentials {
    /// Creates a collector that writes to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        let (pending, flushing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { db, pending, flushing }))
    }

    /// Records one rejection in memory. The audit event will describe the first request of several.
    pub fn record(&self, rejected: RejectedCredential, audit: impl FnOnce() -> AuditContext) {
        add(&mut self.0.pending(), rejected, audit, 1);
    }

    /// Writes the pending rejections. Those that could not be written are retried by the next
    /// flush, within the same bounds as new ones.
    ///
    /// It continues even if the caller is cancelled: an interrupted batch could be written twice.
    pub async fn flush(&self) -> Result<()> {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.write().await }).await.map_err(Error::internal)?
    }

    /// Flushes and logs a failure.
    pub async fn flush_and_log(&self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(cause = %error.cause(), "rejected credentials not written; will retry");
        }
    }
}

/// Adds `count` rejections of one credential. A new one beyond the bounds is dropped and counted in
/// the metrics.
fn add(
    pending: &mut Pending,
    rejected: RejectedCredential,
    audit: impl FnOnce() -> AuditContext,
    count: u64,
) {
    let organization = rejected.organization();
    let in_organization = pending.keys().filter(|it| it.organization() == organization).count();
    let is_full = match rejected {
        RejectedCredential::Key(_) => {
            pending.len() >= MAX_PENDING || in_organization >= MAX_PER_ORGANIZATION
        }
        // A master key's rejection is never dropped: an entry per scope is always possible.
        RejectedCredential::MasterKey(_, client) => {
            client.is_some() && in_organization >= MAX_PER_ORGANIZATION
        }
    };
    let rejected = match rejected {
        RejectedCredential::MasterKey(scope, _) if is_full && !pending.contains_key(&rejected) => {
            RejectedCredential::MasterKey(scope, None)
        }
        rejected => rejected,
    };
    let is_full = is_full && matches!(rejected, RejectedCredential::Key(_));
    match pending.entry(rejected) {
        Entry::Occupied(mut entry) => entry.get_mut().1 += count,
        Entry::Vacant(entry) if !is_full => {
            entry.insert((audit(), count));
        }
        Entry::Vacant(_) => count_outcome("left_out", 1),
    }
}

impl Inner {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self) -> Result<()> {
        let _guard = self.flushing.lock().await;
        let pending = std::mem::take(&mut *self.pending());
        if pending.is_empty() {
            return Ok(());
        }
        // Sorted by organization, so that two servers do not deadlock on their audit logs.
        let mut batch: Vec<_> = pending.into_iter().collect();
        batch.sort_unstable_by_key(|(rejected, _)| rejected.organization().0);
        if self.insert(&batch).await.is_ok() {
            count_outcome("written", batch.len());
            return Ok(());
        }
        // One organization at a time, so that the failure of one does not delay the others.
        let (mut failures, mut outcome) = (0, Ok(()));
        for of_organization in
            batch.chunk_by(|(one, _), (other, _)| one.organization() == other.organization())
        {
            if failures == MAX_FAILURES {
                self.requeue(of_organization);
                continue;
            }
            match self.insert(of_organization).await {
                Ok(()) => count_outcome("written", of_organization.len()),
                Err(error) => {
                    failures += 1;
                    // Only failures that may be temporary are retried.
                    match error.kind() {
                        ErrorKind::Unavailable => self.requeue(of_organization),
                        _ => count_outcome("lost", of_organization.len()),
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
                for (rejected, (audit, count)) in batch {
                    let actor = rejected.public_id();
                    audit_events::insert(tx, &rejected.event(&actor, *count, audit)).await?;
                }
                Ok(())
            })
            .await
    }

    /// Puts back rejections that could not be written. They are older than the pending ones, so
    /// they are added first and keep their request.
    fn requeue(&self, batch: &[(RejectedCredential, (AuditContext, u64))]) {
        count_outcome("kept", batch.len());
        let mut pending = self.pending();
        let newer = std::mem::take(&mut *pending);
        let older = batch.iter().cloned();
        for (rejected, (audit, count)) in older.chain(newer) {
            add(&mut pending, rejected, || audit, count);
        }
    }
}

fn count_outcome(outcome: &'static str, rejections: usize) {
    let rejections = u64::try_from(rejections).unwrap_or(u64::MAX);
    counter!("rejected_credentials_total", "outcome" => outcome).increment(rejections);
}
