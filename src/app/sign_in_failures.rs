//! Collects failed sign-ins to existing accounts in memory and writes them to the audit log: at
//! most one event per account and reason every few seconds, with a count. Recording one does not
//! query the database, so that the response time does not reveal whether an account exists.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::app::database::Database;
use crate::error::Result;
use crate::model::audit::{AuditContext, EventType, NewAuditEvent};
use crate::model::ids::AccountId;
use crate::repo::{accounts, audit_events};

/// The maximum number of pending entries between two flushes.
const MAX_PENDING: usize = 500;

/// Why a sign-in failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignInFailureReason {
    /// The password was wrong.
    WrongPassword,
    /// The account is not active.
    AccountInactive,
    /// The e-mail address must be verified first.
    EmailNotVerified,
}

impl SignInFailureReason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::WrongPassword => "wrong_password",
            Self::AccountInactive => "account_inactive",
            Self::EmailNotVerified => "email_not_verified",
        }
    }

    const fn status(self) -> u16 {
        match self {
            Self::WrongPassword | Self::AccountInactive => 401,
            Self::EmailNotVerified => 403,
        }
    }
}

type PendingFailures = HashMap<(AccountId, SignInFailureReason), (AuditContext, u64)>;

/// Collects failed sign-ins.
pub struct SignInFailures {
    db: Database,
    pending: Mutex<PendingFailures>,
}

impl SignInFailures {
    /// Creates a collector that writes to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        Self { db, pending: Mutex::default() }
    }

    /// Records one failure in memory. The audit event will describe the first request of several.
    pub fn record(&self, account: AccountId, reason: SignInFailureReason, audit: &AuditContext) {
        let audit = AuditContext { status: Some(reason.status()), ..audit.clone() };
        add(&mut self.pending(), (account, reason), (audit, 1));
    }

    /// Writes the pending failures to the audit log. Those that could not be written are retried by
    /// the next flush.
    pub async fn flush(&self) -> Result<()> {
        let batch = std::mem::take(&mut *self.pending());
        if batch.is_empty() {
            return Ok(());
        }
        let written = self.write(&batch).await;
        if written.is_err() {
            let mut pending = self.pending();
            for (key, request) in batch {
                add(&mut pending, key, request);
            }
        }
        written
    }

    async fn write(&self, batch: &PendingFailures) -> Result<()> {
        self.db
            .transaction(async |tx| {
                let mut events = Vec::new();
                for (key, request) in batch {
                    let organization = accounts::find_audit_organization(tx, key.0).await?;
                    events.push((organization, key, request));
                }
                // Sorted by organization, so that two servers do not deadlock on audit logs.
                events.sort_unstable_by_key(|(organization, ..)| organization.0);
                for (organization, (account, reason), (audit, count)) in events {
                    let account = account.to_string();
                    let event = NewAuditEvent {
                        organization,
                        event_type: EventType::SignInFailed,
                        actor: &account,
                        target: &account,
                        key_display_id: None,
                        detail: json!({ "reason": reason.as_str(), "count": count }),
                        audit,
                    };
                    audit_events::insert(tx, &event).await?;
                }
                Ok(())
            })
            .await
    }

    fn pending(&self) -> MutexGuard<'_, PendingFailures> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds `count` failures of one account and reason. A new entry beyond the bound is dropped.
fn add(
    pending: &mut PendingFailures,
    key: (AccountId, SignInFailureReason),
    (audit, count): (AuditContext, u64),
) {
    if let Some((_, total)) = pending.get_mut(&key) {
        *total += count;
    } else if pending.len() < MAX_PENDING {
        pending.insert(key, (audit, count));
    }
}
