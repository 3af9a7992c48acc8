//! Usage: daily sums of requests, which are added in batches.

use chrono::NaiveDate;
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::{KeyId, OrganizationId};
use crate::model::usage::{DayUsage, KeyUsage, Period, UsageTally};

/// Adds a batch to the daily sums of the organizations in which keys were used, and updates
/// `last_used_at` of organizations' keys. Never moves it back. A tally without requests and
/// rejections adds no row.
///
/// One statement does it, so all or nothing is stored. Rows are locked in the order of their keys,
/// so that two servers that write at the same time cannot deadlock.
pub async fn add(db: &mut PgConnection, tallies: &[UsageTally]) -> Result<()> {
    let mut tallies: Vec<&UsageTally> =
        tallies.iter().filter(|tally| tally.organization.is_some()).collect();
    tallies.sort_unstable_by_key(|tally| (tally.key, tally.day));
    let organizations: Vec<_> =
        tallies.iter().filter_map(|it| it.organization).map(|it| it.0).collect();
    let keys: Vec<_> = tallies.iter().map(|tally| tally.key.uuid()).collect();
    let days: Vec<_> = tallies.iter().map(|tally| tally.day).collect();
    let requests: Vec<_> = tallies.iter().map(|tally| tally.requests).collect();
    let denied: Vec<_> = tallies.iter().map(|tally| tally.rejected).collect();
    let last_used: Vec<_> = tallies.iter().map(|tally| tally.last_used_at).collect();
    sqlx::query!(
        "with batch as (
             select * from unnest($1::uuid[], $2::uuid[], $3::date[], $4::bigint[], $5::bigint[],
                                  $6::timestamptz[])
                 as t (organization_id, key_id, day, requests, denied, last_used_at)
         ), locked as (
             select k.organization_id, k.id from api_keys k
             where (k.organization_id, k.id) in (select organization_id, key_id from batch)
             order by k.id
             for no key update
         ), used as (
             update api_keys k set last_used_at = greatest(k.last_used_at, b.last_used_at)
             from (select organization_id, key_id, max(last_used_at) as last_used_at
                   from batch group by organization_id, key_id) b
             join locked l on l.organization_id = b.organization_id and l.id = b.key_id
             where k.organization_id = b.organization_id and k.id = b.key_id
         )
         insert into usage_daily as u (organization_id, key_id, day, requests, denied)
         select b.organization_id, b.key_id, b.day, b.requests, b.denied
         from batch b
         where b.requests <> 0 or b.denied <> 0
         order by b.organization_id, b.day, b.key_id
         on conflict on constraint usage_daily_pkey do update
         set requests = u.requests + excluded.requests, denied = u.denied + excluded.denied",
        &organizations,
        &keys,
        &days,
        &requests,
        &denied,
        &last_used,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the number of requests of each organization in the month that begins on the day.
pub async fn sum_by_month(
    db: &mut PgConnection,
    months: &[(OrganizationId, NaiveDate)],
) -> Result<Vec<((OrganizationId, NaiveDate), u64)>> {
    let (organizations, starts): (Vec<_>, Vec<_>) =
        months.iter().map(|(organization, start)| (organization.0, *start)).unzip();
    let rows = sqlx::query!(
        r#"select m.organization_id as "organization_id!", m.start as "start!",
                  coalesce((select sum(u.requests) from usage_daily u
                            where u.organization_id = m.organization_id and u.day >= m.start
                              and u.day < (m.start + interval '1 month')::date),
                           0)::bigint as "requests!"
           from unnest($1::uuid[], $2::date[]) as m (organization_id, start)"#,
        &organizations,
        &starts,
    )
    .fetch_all(db)
    .await?;
    let totals = rows.into_iter().map(|row| {
        let requests = u64::try_from(row.requests).unwrap_or(0);
        ((OrganizationId(row.organization_id), row.start), requests)
    });
    Ok(totals.collect())
}

/// Returns the number of the organization's requests in the period.
pub async fn sum_requests(
    db: &mut PgConnection,
    organization: OrganizationId,
    period: Period,
) -> Result<u64> {
    let sum = sqlx::query_scalar!(
        r#"select coalesce(sum(requests), 0)::bigint as "sum!" from usage_daily
           where organization_id = $1 and day >= $2 and day < $3"#,
        organization.0,
        period.start,
        period.end,
    )
    .fetch_one(db)
    .await?;
    Ok(u64::try_from(sum).unwrap_or(0))
}

/// Returns the organization's usage on each day of the period that had any, oldest first.
pub async fn list_by_day(
    db: &mut PgConnection,
    organization: OrganizationId,
    period: Period,
) -> Result<Vec<DayUsage>> {
    let rows = sqlx::query!(
        r#"select day, sum(requests)::bigint as "requests!", sum(denied)::bigint as "denied!"
           from usage_daily
           where organization_id = $1 and day >= $2 and day < $3
           group by day order by day"#,
        organization.0,
        period.start,
        period.end,
    )
    .fetch_all(db)
    .await?;
    let days = rows.into_iter().map(|row| DayUsage {
        day: row.day,
        requests: u64::try_from(row.requests).unwrap_or(0),
        rejected: u64::try_from(row.denied).unwrap_or(0),
    });
    Ok(days.collect())
}

/// Returns at most `limit` of the keys, personal access tokens and OAuth grants that were used in
/// the organization in the period, the most used first. Usage without a key is left out.
/// `last_used_at` is only returned for the organization's keys and for tokens that are pinned to
/// it, since others may also be used elsewhere.
pub async fn list_by_key(
    db: &mut PgConnection,
    organization: OrganizationId,
    period: Period,
    limit: i64,
) -> Result<Vec<KeyUsage>> {
    let rows = sqlx::query!(
        r#"select u.key_id, u.requests as "requests!", k.name as "name?",
                  case when k.id is not null then k.last_used_at
                       when t.pinned_to = $1 then t.last_used_at end as "last_used_at?"
           from (select key_id, sum(requests)::bigint as requests
                 from usage_daily
                 where organization_id = $1 and day >= $2 and day < $3
                   and key_id <> '00000000-0000-0000-0000-000000000000'
                 group by key_id
                 order by sum(requests) desc, key_id limit $4) u
           left join api_keys k on k.organization_id = $1 and k.id = u.key_id
           left join personal_tokens t on t.id = u.key_id
           order by u.requests desc, u.key_id"#,
        organization.0,
        period.start,
        period.end,
        limit,
    )
    .fetch_all(db)
    .await?;
    let keys = rows.into_iter().map(|row| KeyUsage {
        key: KeyId::from_uuid(row.key_id),
        name: row.name,
        requests: u64::try_from(row.requests).unwrap_or(0),
        last_used_at: row.last_used_at,
    });
    Ok(keys.collect())
}

/// Removes up to 1,000 daily sums that are older than this many days; returns how many. Applies to
/// all organizations.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from usage_daily where ctid = any(array(
             select ctid from usage_daily where day < current_date - $1::int
             limit 1000 for update skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
