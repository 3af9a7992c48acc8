//! Limits that mean the same on every server: one row a bucket, which says when it is full again.
//! The database judges, by its own clock, in the statement that counts.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::rate::{Rate, Verdict};

/// Judges one try, and counts it where it is let through.
///
/// # Errors
/// The database's own.
pub async fn take(
    db: &mut PgConnection,
    name: &str,
    subject: Uuid,
    rate: &Rate,
) -> Result<Verdict> {
    let row = sqlx::query!(
        r#"with taken as (
               insert into rate_limits as r (name, subject, full_at)
               values ($1, $2, now() + make_interval(secs => $3))
               on conflict on constraint rate_limits_pkey do update
               set full_at = greatest(r.full_at, now()) + make_interval(secs => $3)
               where greatest(r.full_at, now()) + make_interval(secs => $3)
                     <= now() + make_interval(secs => $4)
               returning full_at
           )
           select extract(epoch from (select full_at from taken) - now())::float8 as admitted,
                  extract(epoch from (
                      select full_at from rate_limits where name = $1 and subject = $2
                  ) - now())::float8 as before"#,
        name,
        subject,
        rate.pace().as_secs_f64(),
        rate.window.as_secs_f64(),
    )
    .fetch_one(db)
    .await?;
    let seconds = |text: f64| Duration::try_from_secs_f64(text).unwrap_or_default();
    Ok(match row.admitted {
        Some(until_full) => rate.admitted(seconds(until_full)),
        None => rate.refused(row.before.map_or(rate.window, seconds)),
    })
}

/// Fills a bucket.
///
/// # Errors
/// The database's own.
pub async fn refill(db: &mut PgConnection, name: &str, subject: Uuid) -> Result<()> {
    sqlx::query!("delete from rate_limits where name = $1 and subject = $2", name, subject)
        .execute(db)
        .await?;
    Ok(())
}

/// Removes up to 1,000 buckets that are full; how many.
///
/// # Errors
/// The database's own.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let done = sqlx::query!(
        "delete from rate_limits where (name, subject) in
             (select name, subject from rate_limits where full_at <= now()
              limit 1000 for update skip locked)",
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
