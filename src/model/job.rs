//! Jobs: work that is queued in the transaction of a change and done later by a worker.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::leak::LeakReport;
use crate::model::mail::{MailKind, QueuedMail};

/// The stored name of the kind of job that acts on a report of a leaked key.
pub const LEAK_REPORT: &str = "leak_report";

/// Jobs that wait for each other, but not for those of another queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobQueue {
    /// Mails, which a mail server may delay.
    Mails,
    /// Reports of leaked keys, which strangers may queue in any number.
    LeakReports,
}

impl JobQueue {
    /// Returns the stored names of the kinds of its jobs that this version knows.
    #[must_use]
    pub const fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Mails => &MailKind::NAMES,
            Self::LeakReports => &[LEAK_REPORT],
        }
    }
}

/// A job that a worker has leased.
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// The kind of work, with its payload.
    pub kind: JobKind,
    /// The number of attempts, including this one.
    pub attempts: i32,
    /// When it was queued.
    pub created_at: DateTime<Utc>,
}

/// A kind of job, with its payload.
pub enum JobKind {
    /// Sending a mail.
    Mail(QueuedMail),
    /// Acting on a report of a leaked key.
    LeakReport(LeakReport),
    /// Work of the kind with this name, with a payload that this version cannot read.
    Unreadable(&'static str),
}

impl JobKind {
    /// Returns the name that the database stores for the kind.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Mail(mail) => mail.kind.as_str(),
            Self::LeakReport(_) => LEAK_REPORT,
            Self::Unreadable(name) => name,
        }
    }
}

/// The outcome of an attempt at a job.
pub enum JobOutcome {
    /// The job is done, or nothing was left to do.
    Done,
    /// The attempt failed.
    Failed {
        /// The reason, for the operator. Contains no secret.
        failure: String,
        /// Whether further attempts would fail as well.
        is_permanent: bool,
    },
}
