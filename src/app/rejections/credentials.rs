//! Rejected credentials, for the audit log: one event per credential and reason, with a count.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use metrics::counter;
use serde_json::{Value, json};

use crate::app::database::Database;
use crate::app::write_buffer::Batch;
use crate::error::{ErrorKind, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::caller::RejectedKey;
use crate::model::ids::OrganizationId;
use crate::model::master_scope::MasterScope;
use crate::model::rate_limit::LimitSubject;
use crate::repo::audit_events;

/// The maximum number of different rejections that wait to be written.
const MAX_PENDING: usize = 200;
/// The maximum number for one organization, so that its rejections do not displace others'.
const MAX_PER_ORGANIZATION: usize = 10;
/// The number of organizations whose writes may fail before the others wait for the next flush.
const MAX_FAILURES: usize = 3;

/// A rejected credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RejectedCredential {
    /// A known key; recorded in its organization's audit log.
    Key(RejectedKey),
    /// A master key that is missing, wrong, or of another scope; recorded in the deployment's audit
    /// log. It is counted per client, or for all clients together once too many are pending.
    MasterKey(MasterScope, Option<LimitSubject>),
    /// A verifier's secret that is missing or wrong; recorded and counted like a rejected
    /// master key.
    Verifier(Option<LimitSubject>),
}

impl RejectedCredential {
    const fn organization(&self) -> OrganizationId {
        match self {
            Self::Key(key) => key.organization,
            Self::MasterKey(..) | Self::Verifier(_) => OrganizationId::SYSTEM,
        }
    }

    fn event<'a>(
        &'a self,
        actor: &'a str,
        count: u64,
        audit: &'a AuditContext,
    ) -> NewAuditEvent<'a> {
        let (event_type, key_display_id) = match self {
            Self::Key(key) => (AuditEventType::KeyRejected, Some(key.key_display_id.as_str())),
            Self::MasterKey(..) => (AuditEventType::MasterKeyRejected, None),
            Self::Verifier(_) => (AuditEventType::VerifierRejected, None),
        };
        let (organization, detail) = (self.organization(), self.detail(count));
        let target = actor;
        NewAuditEvent { organization, event_type, actor, target, key_display_id, detail, audit }
    }

    /// Returns the audit event's actor: the key's id, the master key's scope, or `verifier`.
    fn actor(&self) -> String {
        match self {
            Self::Key(key) => key.key.to_string(),
            Self::MasterKey(scope, _) => scope.as_str().to_owned(),
            Self::Verifier(_) => "verifier".to_owned(),
        }
    }

    fn detail(&self, count: u64) -> Value {
        match self {
            Self::Key(key) => json!({ "reason": key.reason.as_str(), "count": count }),
            Self::MasterKey(scope, _) => json!({ "scope": scope.as_str(), "count": count }),
            Self::Verifier(_) => json!({ "count": count }),
        }
    }
}

/// A rejected credential with its first request and the number of requests.
type Counted = (RejectedCredential, (AuditContext, u64));

/// The rejected credentials that are not written yet.
#[derive(Default)]
pub struct RejectedCredentials(HashMap<RejectedCredential, (AuditContext, u64)>);

impl RejectedCredentials {
    /// Adds `count` rejections of one credential. A new key beyond the bounds is dropped and
    /// counted in the metrics.
    pub fn add(
        &mut self,
        rejected: RejectedCredential,
        audit: impl FnOnce() -> AuditContext,
        count: u64,
    ) {
        let Some(rejected) = self.entry_within_bounds(rejected) else {
            return count_outcome("left_out", 1);
        };
        match self.0.entry(rejected) {
            Entry::Occupied(mut entry) => entry.get_mut().1 += count,
            Entry::Vacant(entry) => {
                entry.insert((audit(), count));
            }
        }
    }

    /// Returns the entry that counts a rejection. Within the bounds, each has its own. Beyond them,
    /// a key has none. All clients share one entry for each scope of master keys, and one for
    /// verifiers' secrets, so that these are never dropped.
    fn entry_within_bounds(&self, rejected: RejectedCredential) -> Option<RejectedCredential> {
        if self.0.contains_key(&rejected) {
            return Some(rejected);
        }
        let organization = rejected.organization();
        let in_organization = self.0.keys().filter(|it| it.organization() == organization).count();
        let is_organization_full = in_organization >= MAX_PER_ORGANIZATION;
        match rejected {
            RejectedCredential::Key(_) if is_organization_full || self.0.len() >= MAX_PENDING => {
                None
            }
            RejectedCredential::MasterKey(scope, Some(_)) if is_organization_full => {
                Some(RejectedCredential::MasterKey(scope, None))
            }
            RejectedCredential::Verifier(Some(_)) if is_organization_full => {
                Some(RejectedCredential::Verifier(None))
            }
            rejected => Some(rejected),
        }
    }

    /// Writes each organization in its own transaction, so that a failure affects only that one.
    /// Temporary failures, and what remains after `MAX_FAILURES`, wait for the next flush.
    async fn write_each(&mut self, db: &Database, batch: &[Counted]) -> Result<()> {
        let (mut failures, mut outcome) = (0, Ok(()));
        for of_organization in
            batch.chunk_by(|(one, _), (other, _)| one.organization() == other.organization())
        {
            if failures == MAX_FAILURES {
                self.requeue(of_organization);
                continue;
            }
            match insert(db, of_organization).await {
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

    fn requeue(&mut self, batch: &[Counted]) {
        count_outcome("kept", batch.len());
        self.0.extend(batch.iter().cloned());
    }
}

impl Batch for RejectedCredentials {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn merge(&mut self, newer: Self) {
        for (rejected, (audit, count)) in newer.0 {
            self.add(rejected, || audit, count);
        }
    }

    async fn write(&mut self, db: &Database) -> Result<()> {
        // Sorted by organization, so that two servers do not deadlock on their audit logs.
        let mut batch: Vec<_> = std::mem::take(&mut self.0).into_iter().collect();
        batch.sort_unstable_by_key(|(rejected, _)| rejected.organization().0);
        if insert(db, &batch).await.is_err() {
            return self.write_each(db, &batch).await;
        }
        count_outcome("written", batch.len());
        Ok(())
    }
}

async fn insert(db: &Database, batch: &[Counted]) -> Result<()> {
    db.transaction(async |tx| {
        for (rejected, (audit, count)) in batch {
            let actor = rejected.actor();
            audit_events::insert(tx, &rejected.event(&actor, *count, audit)).await?;
        }
        Ok(())
    })
    .await
}

fn count_outcome(outcome: &'static str, rejections: usize) {
    let rejections = u64::try_from(rejections).unwrap_or(u64::MAX);
    counter!("rejected_credentials_total", "outcome" => outcome).increment(rejections);
}
