//! Failed sign-ins to existing accounts, for the audit log: one event per account and reason, with
//! a count.

use std::collections::HashMap;

use serde_json::json;
use sqlx::PgConnection;

use crate::app::database::Database;
use crate::app::write_buffer::Batch;
use crate::error::Result;
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
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

    /// Returns the context of the audit event, with the status of the response.
    #[must_use]
    pub fn audit_context(self, audit: &AuditContext) -> AuditContext {
        let status = match self {
            Self::WrongPassword | Self::AccountInactive => 401,
            Self::EmailNotVerified => 403,
        };
        AuditContext { status: Some(status), ..audit.clone() }
    }
}

type AccountFailure = (AccountId, SignInFailureReason);

/// The failed sign-ins that are not written yet, each with its first request and the number of
/// requests.
#[derive(Default)]
pub struct FailedSignIns(HashMap<AccountFailure, (AuditContext, u64)>);

impl FailedSignIns {
    /// Adds `count` failures of one account and reason. A new entry beyond the bound is dropped.
    pub fn add(&mut self, failure: AccountFailure, audit: AuditContext, count: u64) {
        if let Some((_, total)) = self.0.get_mut(&failure) {
            *total += count;
        } else if self.0.len() < MAX_PENDING {
            self.0.insert(failure, (audit, count));
        }
    }

    async fn insert(&self, tx: &mut PgConnection) -> Result<()> {
        let mut events = Vec::new();
        for (failure, request) in &self.0 {
            let organization = accounts::find_audit_organization(tx, failure.0).await?;
            events.push((organization, failure, request));
        }
        // Sorted by organization, so that two servers do not deadlock on audit logs.
        events.sort_unstable_by_key(|(organization, ..)| organization.0);
        for (organization, (account, reason), (audit, count)) in events {
            let account = account.to_string();
            let event = NewAuditEvent {
                organization,
                event_type: AuditEventType::SignInFailed,
                actor: &account,
                target: &account,
                key_display_id: None,
                detail: json!({ "reason": reason.as_str(), "count": count }),
                audit,
            };
            audit_events::insert(tx, &event).await?;
        }
        Ok(())
    }
}

impl Batch for FailedSignIns {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn merge(&mut self, newer: Self) {
        for (failure, (audit, count)) in newer.0 {
            self.add(failure, audit, count);
        }
    }

    async fn write(&mut self, db: &Database) -> Result<()> {
        db.transaction(async |tx| self.insert(tx).await).await?;
        self.0.clear();
        Ok(())
    }
}
