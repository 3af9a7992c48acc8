//! Records rejected requests, credentials and sign-ins: for the caller's organization, at
//! `GET /v1/organization/denials`, and for the audit log.

mod credentials;
mod requests;
mod sign_ins;

use self::credentials::RejectedCredentials;
use self::requests::RejectedRequests;
use self::sign_ins::FailedSignIns;
use crate::app::database::Database;
use crate::app::write_buffer::WriteBuffer;
use crate::error::Result;
use crate::model::audit::AuditContext;
use crate::model::ids::{AccountId, OrganizationId};
use crate::model::rejection::Rejection;

pub use self::credentials::RejectedCredential;
pub use self::sign_ins::SignInFailureReason;

/// Collects rejections in memory and writes them in batches.
pub struct Rejections {
    requests: WriteBuffer<RejectedRequests>,
    credentials: WriteBuffer<RejectedCredentials>,
    sign_ins: WriteBuffer<FailedSignIns>,
}

impl Rejections {
    /// Creates a collector that writes to `db`.
    #[must_use]
    pub fn new(db: &Database) -> Self {
        Self {
            requests: WriteBuffer::new(db.clone()),
            credentials: WriteBuffer::new(db.clone()),
            sign_ins: WriteBuffer::new(db.clone()),
        }
    }

    /// Records a rejected request for its organization's list. A request beyond the bounds is
    /// counted and dropped.
    pub fn record_request(
        &self,
        organization: OrganizationId,
        rejection: impl FnOnce() -> Rejection,
    ) {
        self.requests.pending().add(organization, rejection);
    }

    /// Records a rejected credential for the audit log: at most one event per credential and reason
    /// between two flushes. The event describes the first request of several.
    pub fn record_credential(
        &self,
        rejected: RejectedCredential,
        audit: impl FnOnce() -> AuditContext,
    ) {
        self.credentials.pending().add(rejected, audit, 1);
    }

    /// Records a failed sign-in to an existing account for the audit log: at most one event per
    /// account and reason between two flushes. The event describes the first request of several.
    ///
    /// It does not query the database, so that the response time does not reveal whether an account
    /// exists.
    pub fn record_sign_in(
        &self,
        account: AccountId,
        reason: SignInFailureReason,
        audit: &AuditContext,
    ) {
        self.sign_ins.pending().add((account, reason), reason.audit_context(audit), 1);
    }

    /// Writes only the pending requests, before their list is read, and logs a failure. Audit
    /// events are not written, because callers must not determine how often that happens.
    pub async fn flush_requests_and_log(&self) {
        log(self.requests.flush().await);
    }

    /// Writes what is pending. Each of the three kinds is written even if another fails.
    ///
    /// # Errors
    /// The first failure. Failures that may be temporary are retried by the next flush.
    pub async fn flush(&self) -> Result<()> {
        let credentials = self.credentials.flush().await;
        let sign_ins = self.sign_ins.flush().await;
        let requests = self.requests.flush().await;
        credentials.and(sign_ins).and(requests)
    }

    /// Flushes and logs a failure.
    pub async fn flush_and_log(&self) {
        log(self.flush().await);
    }
}

fn log(flushed: Result<()>) {
    if let Err(error) = flushed {
        tracing::warn!(cause = %error.cause(), "rejections not written");
    }
}
