//! Sign-ins to accounts that there are which failed, gathered and written to the audit log: at most
//! one row for an account and a reason every few seconds, with a count. Noting one asks nothing of
//! the database, so that its time does not tell whether there is such an account.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::app::database::Database;
use crate::error::Result;
use crate::model::audit::{AuditContext, EventType, NewAuditEvent};
use crate::model::ids::AccountId;
use crate::repo::{accounts, audit_events};

/// How many are kept between two flushes.
const MAX_PENDING: usize = 500;

/// Why somebody did not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignInFailureReason {
    /// The password was wrong.
    WrongPassword,
    /// The account is not active.
    AccountInactive,
    /// The address has to be proven first.
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

/// Gathers failed sign-ins.
pub struct SignInFailures {
    db: Database,
    pending: Mutex<PendingFailures>,
}

impl SignInFailures {
    /// Failures that are written to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        Self { db, pending: Mutex::default() }
    }

    /// Notes one; of several, the first request is kept.
    pub fn record(&self, account: AccountId, reason: SignInFailureReason, audit: &AuditContext) {
        let audit = AuditContext { status: Some(reason.status()), ..audit.clone() };
        add(&mut self.pending(), (account, reason), (audit, 1));
    }

    /// Writes what was noted so far to the audit log.
    ///
    /// # Errors
    /// The database's own; what could not be written is kept for the next time.
    pub async fn flush(&self) -> Result<()> {
        let noted = std::mem::take(&mut *self.pending());
        if noted.is_empty() {
            return Ok(());
        }
        let written = self.write(&noted).await;
        if written.is_err() {
            let mut pending = self.pending();
            for (which, (audit, count)) in noted {
                add(&mut pending, which, (audit, count));
            }
        }
        written
    }

    async fn write(&self, noted: &PendingFailures) -> Result<()> {
        self.db
            .transaction(async |tx| {
                let mut logs = Vec::new();
                for (which, request) in noted {
                    logs.push((
                        accounts::find_audit_organization(tx, which.0).await?,
                        which,
                        request,
                    ));
                }
                // In the order of organizations, or two servers could wait for each other's logs.
                logs.sort_unstable_by_key(|(organization, ..)| organization.0);
                for (organization, (account, reason), (audit, count)) in logs {
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

/// Adds to what is noted of an account and a reason; a new one only where there is room.
fn add(
    noted: &mut PendingFailures,
    which: (AccountId, SignInFailureReason),
    (audit, count): (AuditContext, u64),
) {
    if let Some((_, before)) = noted.get_mut(&which) {
        *before += count;
    } else if noted.len() < MAX_PENDING {
        noted.insert(which, (audit, count));
    }
}
