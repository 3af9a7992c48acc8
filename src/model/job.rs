//! Jobs: work that is queued in the transaction of a change and done later by a worker.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::mail::{MailKind, QueuedMail};

/// A job that a worker has leased.
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What to do.
    pub kind: JobKind,
    /// How often it was attempted, this attempt included.
    pub attempts: i32,
    /// When it was queued.
    pub created_at: DateTime<Utc>,
}

/// What a job does, with its payload.
pub enum JobKind {
    /// Sends a mail.
    Mail(QueuedMail),
}

impl JobKind {
    /// The words of all kinds that this version knows.
    pub const WORDS: [&str; MailKind::WORDS.len()] = MailKind::WORDS;

    /// Returns the word that the database stores for the kind.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Mail(mail) => mail.kind.as_str(),
        }
    }
}

/// How an attempt at a job ended.
pub enum JobOutcome {
    /// The job is done, or there was nothing left to do.
    Done,
    /// The attempt failed.
    Failed {
        /// Why, for the operator. Contains no secret.
        failure: String,
        /// Whether further attempts would fail as well.
        is_permanent: bool,
    },
}
