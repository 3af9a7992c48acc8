//! Mails that wait to be sent. Several servers share the work: a mail is one worker's for as long
//! as its lease, and then anybody's again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{AccountId, InviteId, OrganizationId};
use crate::model::mail::{MailKind, QueuedMail, SecurityNotice};

/// Queues a mail, in place of an unsent one of the same kind to the same address.
pub async fn insert(
    db: &mut PgConnection,
    id: Uuid,
    (kind, address): (MailKind, &str),
    callback_url: Option<&str>,
    at: DateTime<Utc>,
) -> Result<()> {
    cancel(db, kind, address).await?;
    sqlx::query!(
        "insert into outbox (id, kind, address, callback_url, created_at, due_at, invite_id)
         values ($1, $2, $3, $4, $5, now(), $6)",
        id,
        kind.as_str(),
        address,
        callback_url,
        at,
        kind.invite().map(InviteId::uuid),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Adds the mail of a claim to an organization's first key, of which there is one.
pub async fn insert_claim(
    db: &mut PgConnection,
    id: Uuid,
    (claim_of, address): (OrganizationId, &str),
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into outbox (id, kind, address, created_at, due_at, claim_of)
         values ($1, $2, $3, $4, now(), $5)",
        id,
        MailKind::ClaimKey(claim_of).as_str(),
        address,
        at,
        claim_of.0,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Queues a notice to an account, where its address is proven, it wants such notices, and none of
/// the same kind is queued.
pub async fn insert_notice(
    db: &mut PgConnection,
    id: Uuid,
    (notice, account): (SecurityNotice, AccountId),
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into outbox (id, kind, address, created_at, due_at)
         select $1, $2, a.email, $4, now() from accounts a
         where a.id = $3 and a.security_mails and a.verified_at is not null
           and not exists (select from outbox o
                           where o.address = a.email and o.kind = $2 and o.dead_at is null
                             and o.attempts = 0)",
        id,
        notice.as_str(),
        account.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Cancels unsent mails of a kind to an address.
pub async fn cancel(db: &mut PgConnection, kind: MailKind, address: &str) -> Result<()> {
    sqlx::query!(
        "delete from outbox where id = any(array(
             select id from outbox
             where kind = $1 and address = $2 and invite_id is not distinct from $3
               and dead_at is null
             order by id for update))",
        kind.as_str(),
        address,
        kind.invite().map(InviteId::uuid),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes the mails about an account, sent or given up, that are to its address.
pub async fn remove_about_account(db: &mut PgConnection, address: &str) -> Result<()> {
    sqlx::query!(
        "delete from outbox where id = any(array(
             select id from outbox
             where address = $1 and invite_id is null and claim_of is null
             order by id for update))",
        address,
    )
    .execute(db)
    .await?;
    Ok(())
}

struct Row {
    id: Uuid,
    kind: String,
    address: String,
    callback_url: Option<String>,
    invite_id: Option<Uuid>,
    claim_of: Option<Uuid>,
    attempts: i32,
    created_at: DateTime<Utc>,
}

/// Leases up to `limit` mails that are due, for the time of `lease`. Each counts as an attempt, so
/// a mail that crashes its worker is not retried forever. Mails of unknown kinds are left to
/// servers of a newer version that run beside this one.
pub async fn lease_due(
    db: &mut PgConnection,
    limit: i64,
    lease: Duration,
) -> Result<Vec<QueuedMail>> {
    let rows = sqlx::query_as!(
        Row,
        "update outbox o set attempts = o.attempts + 1, due_at = now() + make_interval(secs => $2)
         where o.id = any(array(
             select id from outbox
             where dead_at is null and due_at <= now() and kind = any($3)
             order by due_at limit $1 for update skip locked))
         returning o.id, o.kind, o.address, o.callback_url, o.invite_id, o.claim_of,
                   o.attempts, o.created_at",
        limit,
        lease.as_secs_f64(),
        &MailKind::WORDS.map(str::to_owned),
    )
    .fetch_all(db)
    .await?;
    let mails = rows.into_iter().filter_map(|row| {
        Some(QueuedMail {
            id: row.id,
            kind: MailKind::parse(
                &row.kind,
                row.invite_id.map(InviteId::from_uuid),
                row.claim_of.map(OrganizationId),
            )?,
            address: row.address,
            callback_url: row.callback_url,
            attempts: row.attempts,
            created_at: row.created_at,
        })
    });
    Ok(mails.collect())
}

/// Locks a mail until the transaction ends; returns false where it does not exist any more.
///
/// Invariant: mails are locked before the tokens of links and before invitations and claims, so
/// that no two transactions wait for each other.
pub async fn lock(db: &mut PgConnection, id: Uuid) -> Result<bool> {
    let locked = sqlx::query!("select id from outbox where id = $1 for update", id)
        .fetch_optional(db)
        .await?;
    Ok(locked.is_some())
}

/// In how long the next mail is due that [`lease_due`] would take; `None` where there is none.
pub async fn next_due(db: &mut PgConnection) -> Result<Option<Duration>> {
    let seconds = sqlx::query_scalar!(
        r#"select extract(epoch from min(due_at) - now())::float8 from outbox
           where dead_at is null and kind = any($1)"#,
        &MailKind::WORDS.map(str::to_owned),
    )
    .fetch_one(db)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// Removes a mail that was sent, or is not to be sent.
pub async fn remove(db: &mut PgConnection, id: Uuid) -> Result<()> {
    sqlx::query!("delete from outbox where id = $1", id).execute(db).await?;
    Ok(())
}

/// Puts a mail off that could not be sent.
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

/// Gives a mail up; false where it is not there any more, replaced by a newer one.
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

/// Brings mails back that were given up, those of one kind or all, to be tried as often as new
/// ones; how many. One that a newer mail of its kind to its address has replaced stays.
pub async fn retry_dead(db: &mut PgConnection, kind: Option<&str>) -> Result<u64> {
    let result = sqlx::query!(
        "update outbox o set dead_at = null, attempts = 0, due_at = now()
         where o.dead_at is not null and ($1::text is null or o.kind = $1)
           and not exists (
               select from outbox n
               where n.kind = o.kind and n.address = o.address
                 and n.invite_id is not distinct from o.invite_id
                 and n.claim_of is not distinct from o.claim_of
                 and (n.dead_at is null or (n.created_at, n.id) > (o.created_at, o.id)))",
        kind,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// How many mails were given up.
pub async fn count_dead(db: &mut PgConnection) -> Result<i64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from outbox where dead_at is not null"#,
    );
    Ok(count.fetch_one(db).await?)
}

/// Removes up to 1,000 mails that were given up this many days ago; how many.
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
