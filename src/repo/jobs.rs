//! Queued jobs, in the table `outbox`. All servers share it: only the worker that leased a job may
//! run it until the lease expires, then any worker may.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{InviteId, OrganizationId};
use crate::model::job::{Job, JobKind, JobQueue, LEAK_REPORT};
use crate::model::leak::{LeakNotice, LeakReport};
use crate::model::mail::{MailKind, QueuedMail};

struct Row {
    id: Uuid,
    kind: String,
    address: String,
    callback_url: Option<String>,
    invite_id: Option<Uuid>,
    claim_of: Option<Uuid>,
    payload: Option<Value>,
    attempts: i32,
    created_at: DateTime<Utc>,
}

impl Row {
    fn into_job(self, queue: JobQueue) -> Option<Job> {
        let name = queue.kinds().iter().find(|name| **name == self.kind)?;
        let (id, attempts, created_at) = (self.id, self.attempts, self.created_at);
        let kind = self.into_kind().unwrap_or(JobKind::Unreadable(name));
        Some(Job { id, kind, attempts, created_at })
    }

    fn into_kind(self) -> Option<JobKind> {
        if self.kind == LEAK_REPORT {
            return LeakReport::from_stored(self.payload.as_ref()?).map(JobKind::LeakReport);
        }
        let invite = self.invite_id.map(InviteId::from_uuid);
        let kind = MailKind::parse(&self.kind, invite, self.claim_of.map(OrganizationId))?;
        let leak = self.payload.as_ref().and_then(LeakNotice::from_stored);
        let text_of = |name| Some(self.payload.as_ref()?.get(name)?.as_str()?.to_owned());
        let (organization, domain) = (text_of("organization"), text_of("domain"));
        let (address, callback_url) = (self.address, self.callback_url);
        Some(JobKind::Mail(QueuedMail { kind, address, callback_url, leak, organization, domain }))
    }
}

/// Leases up to `limit` due jobs of a queue. A lease counts as an attempt. Jobs of unknown kinds
/// are left to servers of a newer version.
pub async fn lease_due(
    db: &mut PgConnection,
    queue: JobQueue,
    limit: i64,
    lease: Duration,
) -> Result<Vec<Job>> {
    let rows = sqlx::query_as!(
        Row,
        "update outbox o set attempts = o.attempts + 1, due_at = now() + make_interval(secs => $2)
         where o.id = any(array(
             select id from outbox
             where dead_at is null and due_at <= now() and kind = any($3)
             order by due_at limit $1 for update skip locked))
         returning o.id, o.kind, o.address, o.callback_url, o.invite_id, o.claim_of,
                   o.payload, o.attempts, o.created_at",
        limit,
        lease.as_secs_f64(),
        &stored_kinds(queue),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(|row| row.into_job(queue)).collect())
}

fn stored_kinds(queue: JobQueue) -> Vec<String> {
    queue.kinds().iter().map(|&kind| kind.to_owned()).collect()
}

/// Locks a job until the transaction ends; false if it was removed.
///
/// Invariant: jobs are locked before the tokens of links and before invitations and claims, so that
/// two transactions that lock one of each cannot deadlock. The exception is
/// [`super::invites::remove_accepted_by`]: no mail's transaction locks an accepted invitation.
pub async fn lock(db: &mut PgConnection, id: Uuid) -> Result<bool> {
    let row = sqlx::query!("select id from outbox where id = $1 for update", id)
        .fetch_optional(db)
        .await?;
    Ok(row.is_some())
}

/// Returns the time until the next job is due that [`lease_due`] would lease; `None` if there is
/// none.
pub async fn next_due(db: &mut PgConnection, queue: JobQueue) -> Result<Option<Duration>> {
    let seconds = sqlx::query_scalar!(
        r#"select extract(epoch from min(due_at) - now())::float8 from outbox
           where dead_at is null and kind = any($1)"#,
        &stored_kinds(queue),
    )
    .fetch_one(db)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// Removes a job that is done.
pub async fn remove(db: &mut PgConnection, id: Uuid) -> Result<()> {
    sqlx::query!("delete from outbox where id = $1", id).execute(db).await?;
    Ok(())
}

/// Schedules the next attempt at a failed job.
pub async fn reschedule(
    db: &mut PgConnection,
    id: Uuid,
    delay: Duration,
    failure: &str,
) -> Result<()> {
    sqlx::query!(
        "update outbox set due_at = now() + make_interval(secs => $2), last_failure = $3
         where id = $1",
        id,
        delay.as_secs_f64(),
        failure,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Marks a failed job as dead; false if it was removed, for example because a newer one replaced
/// it.
pub async fn mark_dead(
    db: &mut PgConnection,
    id: Uuid,
    failure: &str,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update outbox set dead_at = $2, last_failure = $3 where id = $1",
        id,
        at,
        failure,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Queues dead jobs of one kind or of all kinds again, with as many attempts as new ones, and
/// returns how many. A job stays dead if another of its kind, with the same address and content, is
/// queued, or is dead and newer.
pub async fn retry_dead(db: &mut PgConnection, kind: Option<&str>) -> Result<u64> {
    let result = sqlx::query!(
        "update outbox o set dead_at = null, attempts = 0, due_at = now()
         where o.dead_at is not null and ($1::text is null or o.kind = $1)
           and not exists (
               select from outbox n
               where n.kind = o.kind and n.address = o.address
                 and n.invite_id is not distinct from o.invite_id
                 and n.claim_of is not distinct from o.claim_of
                 and n.payload is not distinct from o.payload
                 and (n.dead_at is null or (n.created_at, n.id) > (o.created_at, o.id)))",
        kind,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Returns the number of dead jobs.
pub async fn count_dead(db: &mut PgConnection) -> Result<i64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from outbox where dead_at is not null"#,
    );
    Ok(count.fetch_one(db).await?)
}

/// Removes up to 1,000 jobs that died more than this many days ago, and returns how many.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from outbox where id = any(array(
             select id from outbox where dead_at < now() - make_interval(days => $1)
             limit 1000 for update skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
