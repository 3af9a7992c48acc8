//! Sign-ins to accounts that there are which failed, gathered and written to the audit log: at most
//! one row for an account and a reason every few seconds, with a count. Noting one asks nothing of
//! the database, so that its time does not tell whether there is such an account.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::app::database::Database;
use crate::error::Result;
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::ids::AccountId;
use crate::repo::{accounts, audit_events};

/// How many are kept between two flushes.
const MOST: usize = 500;

/// Why somebody did not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The password was wrong.
    WrongPassword,
    /// The account is not active.
    AccountInactive,
    /// The address has to be proven first.
    EmailNotVerified,
}

impl Reason {
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

type Noted = HashMap<(AccountId, Reason), (Trail, u64)>;

/// Gathers failed sign-ins.
pub struct SignInFailures {
    db: Database,
    pending: Mutex<Noted>,
}

impl SignInFailures {
    /// Failures that are written to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        Self { db, pending: Mutex::default() }
    }

    /// Notes one; of several, the first request is kept.
    pub fn note(&self, account: AccountId, reason: Reason, trail: &Trail) {
        let trail = Trail { status: Some(reason.status()), ..trail.clone() };
        add(&mut self.pending(), (account, reason), (trail, 1));
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
            for (which, (trail, count)) in noted {
                add(&mut pending, which, (trail, count));
            }
        }
        written
    }

    async fn write(&self, noted: &Noted) -> Result<()> {
        self.db
            .transaction(async |tx| {
                let mut logs = Vec::new();
                for (which, request) in noted {
                    logs.push((accounts::trail_of(tx, which.0).await?, which, request));
                }
                // In the order of organizations, or two servers could wait for each other's logs.
                logs.sort_unstable_by_key(|(organization, ..)| organization.0);
                for (organization, (account, reason), (trail, count)) in logs {
                    let account = account.to_string();
                    let event = AuditEvent {
                        organization,
                        event_type: EventType::SignInFailed,
                        actor: &account,
                        target: &account,
                        key_display_id: None,
                        detail: json!({ "reason": reason.as_str(), "count": count }),
                        trail,
                    };
                    audit_events::insert(tx, &event).await?;
                }
                Ok(())
            })
            .await
    }

    fn pending(&self) -> MutexGuard<'_, Noted> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to what is noted of an account and a reason; a new one only where there is room.
fn add(noted: &mut Noted, which: (AccountId, Reason), (trail, count): (Trail, u64)) {
    if let Some((_, before)) = noted.get_mut(&which) {
        *before += count;
    } else if noted.len() < MOST {
        noted.insert(which, (trail, count));
    }
}
