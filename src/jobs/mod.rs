//! The workers of queued jobs, one for each queue. Several servers share the queues.
//!
//! A worker leases a job, attempts it, and removes it when it is done. A failed job is retried
//! after a growing delay. After the last attempt it is dead, and is kept for the operator. A job
//! whose worker crashes, or cannot reach the database, is attempted again when its lease ends, so a
//! job may be done twice.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::app::App;
use crate::domain::{leaks, mail};
use crate::error::{Error, ErrorKind, Result};
use crate::model::job::{Job, JobKind, JobOutcome, JobQueue};
use crate::repo::jobs;

/// The number of jobs that a worker attempts concurrently.
const BATCH_SIZE: i64 = 10;
/// The duration of a lease: longer than one attempt may take.
const LEASE: Duration = Duration::from_mins(2);
/// The delay between the first failure and the second attempt; each later delay is twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(30);
/// The longest delay between two attempts.
const MAX_DELAY: Duration = Duration::from_hours(1);
/// The number of attempts, in about 9 hours, after which a job is dead.
const MAX_ATTEMPTS: i32 = 16;
/// The maximum length of a stored failure, in characters.
const MAX_FAILURE_LENGTH: usize = 500;
/// The longest wait between two queries for jobs that another server queued.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// The shortest wait between two queries.
const MIN_WAIT: Duration = Duration::from_millis(100);

/// Runs jobs forever: immediately if this server queued them, otherwise after the first query that
/// finds them due. If this is cancelled, leased jobs are attempted again when their leases end.
pub async fn run(app: App) {
    tokio::join!(run_queue(&app, JobQueue::Mails), run_queue(&app, JobQueue::LeakReports));
}

async fn run_queue(app: &App, queue: JobQueue) {
    let waker = match queue {
        JobQueue::Mails => &app.mail_waker,
        JobQueue::LeakReports => &app.leak_report_waker,
    };
    loop {
        let due = match run_due_in(app, queue).await {
            Ok(_) => next_due(app, queue).await,
            Err(error) => Err(error),
        };
        let due = due.unwrap_or_else(|error| {
            let cause = error.cause();
            tracing::warn!(?queue, %cause, "due jobs could not be read; will retry");
            None
        });
        let wait = due.map_or(POLL_INTERVAL, |due| due.clamp(MIN_WAIT, POLL_INTERVAL));
        let _ = tokio::time::timeout(wait, waker.notified()).await;
    }
}

/// Attempts every job that is due, first the reports and then the mails, and returns their number.
///
/// # Errors
/// As [`run_due_in`].
pub async fn run_due(app: &App) -> Result<usize> {
    let reports = run_due_in(app, JobQueue::LeakReports).await?;
    Ok(reports + run_due_in(app, JobQueue::Mails).await?)
}

/// Attempts every job of a queue that is due, `BATCH_SIZE` at a time, and returns their number.
///
/// # Errors
/// The due jobs cannot be read. A failed job is logged, and its error is not returned.
pub async fn run_due_in(app: &App, queue: JobQueue) -> Result<usize> {
    let mut attempted = 0;
    loop {
        let lease =
            app.db.transaction(async |tx| jobs::lease_due(tx, queue, BATCH_SIZE, LEASE).await);
        let due = lease.await?;
        if due.is_empty() {
            return Ok(attempted);
        }
        attempted += due.len();
        let mut attempts = JoinSet::new();
        for job in due {
            let app = app.clone();
            attempts.spawn(async move {
                if let Err(error) = attempt(&app, &job).await {
                    let (job, kind, cause) = (job.id, job.kind.as_str(), error.cause());
                    tracing::warn!(%job, kind, %cause, "job interrupted; will retry");
                }
            });
        }
        attempts.join_all().await;
    }
}

/// Returns the time until the next job of a queue is due; `None` if none is queued.
pub async fn next_due(app: &App, queue: JobQueue) -> Result<Option<Duration>> {
    app.db.run(async |db| jobs::next_due(db, queue).await).await
}

async fn attempt(app: &App, job: &Job) -> Result<()> {
    let attempted = match &job.kind {
        JobKind::Mail(queued) => mail::deliver(app, job, queued).await,
        JobKind::LeakReport(report) => leaks::act(app, report).await,
        JobKind::Unreadable(_) => Ok(JobOutcome::Failed {
            failure: "the payload is of another version of tenantry".to_owned(),
            is_permanent: false,
        }),
    };
    match attempted.or_else(failure_of)? {
        JobOutcome::Done => app.db.run(async |db| jobs::remove(db, job.id).await).await,
        JobOutcome::Failed { failure, is_permanent } => {
            let failure: String = failure.chars().take(MAX_FAILURE_LENGTH).collect();
            record_failure(app, job, &failure, is_permanent).await
        }
    }
}

/// Returns the job's failure for an error. An outage of the database, or a lack of connections, is
/// returned as an error: it is no fault of the job, and may outlast all its attempts.
fn failure_of(error: Error) -> Result<JobOutcome> {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::RateLimited => Err(error),
        _ => Ok(JobOutcome::Failed { failure: error.cause().to_string(), is_permanent: false }),
    }
}

async fn record_failure(app: &App, job: &Job, failure: &str, is_permanent: bool) -> Result<()> {
    let is_dead = is_permanent || job.attempts >= MAX_ATTEMPTS;
    let (id, kind, attempts) = (job.id, job.kind.as_str(), job.attempts);
    tracing::warn!(job = %id, kind, attempts, is_dead, failure, "job failed");
    let now = app.clock.now();
    app.db
        .transaction(async |tx| {
            if !is_dead {
                return jobs::reschedule(tx, id, delay_after(attempts), failure).await;
            }
            // A job that a newer one has replaced is not cleaned up: the stored token is the newer
            // job's.
            if jobs::mark_dead(tx, id, failure, now).await? {
                match &job.kind {
                    JobKind::Mail(queued) => mail::discard(tx, queued).await?,
                    JobKind::LeakReport(_) | JobKind::Unreadable(_) => {}
                }
            }
            Ok(())
        })
        .await
}

/// Returns the delay after the given number of attempts.
fn delay_after(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(16);
    FIRST_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_one_hour_and_attempts_end_after_8_to_10_hours() {
        let delays: Vec<_> = (1..MAX_ATTEMPTS).map(delay_after).collect();
        assert_eq!(delays[0], Duration::from_secs(30));
        assert_eq!(delays[1], Duration::from_mins(1));
        assert_eq!(delays.last(), Some(&MAX_DELAY));
        let whole: Duration = delays.iter().sum();
        assert!((8..=10).contains(&(whole.as_secs() / 3600)), "{whole:?}");
    }
}
