//! Rate limits that all servers share. Each bucket is a row with the time when it is full. One
//! statement decides and counts, by the database's clock.
//!
//! The clock counts microseconds. Intervals are rounded down to whole microseconds; otherwise the
//! last permits of a quota would be lost.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::rate::{Rate, RateOutcome};

/// Checks an attempt, and counts it if it is allowed.
pub async fn check_and_count(
    db: &mut PgConnection,
    name: &str,
    subject: Uuid,
    rate: &Rate,
) -> Result<RateOutcome> {
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
        interval_seconds(rate),
        rate.window.as_secs_f64(),
    )
    .fetch_one(&mut *db)
    .await?;
    let seconds = |number: f64| Duration::try_from_secs_f64(number).unwrap_or_default();
    if let Some(until_full) = row.admitted {
        return Ok(rate.allowed(seconds(until_full)));
    }
    let until_full = row.before.map_or(rate.window, seconds);
    if until_full > rate.window {
        cap_at_window(db, (name, subject), rate).await?;
    }
    Ok(rate.rejected(until_full.min(rate.window)))
}

/// Empties a bucket that would be full later than one window from now. Such a bucket exists if
/// the operator configured a shorter window, or the clock was set back.
async fn cap_at_window(
    db: &mut PgConnection,
    (name, subject): (&str, Uuid),
    rate: &Rate,
) -> Result<()> {
    sqlx::query!(
        "update rate_limits set full_at = now() + make_interval(secs => $3)
         where name = $1 and subject = $2 and full_at > now() + make_interval(secs => $3)",
        name,
        subject,
        rate.window.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns one permit to the bucket.
pub async fn refund(db: &mut PgConnection, name: &str, subject: Uuid, rate: &Rate) -> Result<()> {
    sqlx::query!(
        "update rate_limits set full_at = full_at - make_interval(secs => $3)
         where name = $1 and subject = $2",
        name,
        subject,
        interval_seconds(rate),
    )
    .execute(db)
    .await?;
    Ok(())
}

fn interval_seconds(rate: &Rate) -> f64 {
    let whole = u64::try_from(rate.interval().as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(whole.max(1)).as_secs_f64()
}

/// Fills a bucket completely.
pub async fn refill(db: &mut PgConnection, name: &str, subject: Uuid) -> Result<()> {
    sqlx::query!("delete from rate_limits where name = $1 and subject = $2", name, subject)
        .execute(db)
        .await?;
    Ok(())
}

/// Removes up to 1,000 buckets that are full; returns how many.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from rate_limits where ctid = any(array(
             select ctid from rate_limits where full_at <= now()
             limit 1000 for update skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
