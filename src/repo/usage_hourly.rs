//! Usage by hour, key, resource and tags, which is added in batches and exported.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::attribution::{
    AttributedUsage, ExportPosition, ExportedUsage, MAX_ATTRIBUTIONS_PER_DAY,
};
use crate::model::ids::{KeyId, OrganizationId};

/// The columns of a batch.
struct Columns {
    organizations: Vec<Uuid>,
    hours: Vec<DateTime<Utc>>,
    keys: Vec<Uuid>,
    resources: Vec<String>,
    tags: Vec<String>,
    units: Vec<i64>,
}

impl Columns {
    fn of(batch: &[AttributedUsage]) -> Self {
        let key = |it: &AttributedUsage| it.key.map_or(Uuid::nil(), KeyId::uuid);
        Self {
            organizations: batch.iter().map(|it| it.organization.0).collect(),
            hours: batch.iter().map(|it| it.hour).collect(),
            keys: batch.iter().map(key).collect(),
            resources: batch.iter().map(|it| it.attribution.resource.clone()).collect(),
            tags: batch.iter().map(|it| it.attribution.tags.to_stored()).collect(),
            units: batch.iter().map(|it| it.units).collect(),
        }
    }
}

/// Adds a batch to the hourly sums. The first [`MAX_ATTRIBUTIONS_PER_DAY`] attributions of an
/// organization and day are distinguished, and all further ones become the resource `other`.
///
/// Rows are written in the order of the primary key, so that two servers cannot deadlock.
pub async fn add(db: &mut PgConnection, batch: &[AttributedUsage]) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let it = Columns::of(batch);
    register(db, &it).await?;
    sqlx::query!(
        "with batch as (
             select * from unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[],
                                  $6::bigint[])
                 as t (organization_id, hour, key_id, resource, tags, units)
         ), classified as (
             select b.organization_id, b.hour, b.key_id, b.units, b.resource, b.tags,
                    (b.resource = '' and b.tags = '') or exists (
                        select from usage_resources r
                        where r.organization_id = b.organization_id
                          and r.day = (b.hour at time zone 'UTC')::date
                          and r.resource = b.resource and r.tags = b.tags) as is_known
             from batch b
         )
         insert into usage_hourly as u (organization_id, hour, key_id, resource, tags, units)
         select organization_id, hour, key_id, case when is_known then resource else 'other' end,
                case when is_known then tags else '' end, sum(units)
         from classified
         group by 1, 2, 3, 4, 5
         order by 1, 2, 3, 4, 5
         on conflict on constraint usage_hourly_pkey do update
         set units = u.units + excluded.units",
        &it.organizations,
        &it.hours,
        &it.keys,
        &it.resources,
        &it.tags,
        &it.units,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Registers resources and tags that are new for their organization and day, while there are fewer
/// than [`MAX_ATTRIBUTIONS_PER_DAY`]. A lock for each organization makes the number exact.
async fn register(db: &mut PgConnection, it: &Columns) -> Result<()> {
    let unknown = sqlx::query_scalar!(
        r#"select distinct b.organization_id as "organization_id!"
           from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[])
               as b (organization_id, hour, resource, tags)
           where (b.resource <> '' or b.tags <> '') and not exists (
               select from usage_resources r
               where r.organization_id = b.organization_id
                 and r.day = (b.hour at time zone 'UTC')::date
                 and r.resource = b.resource and r.tags = b.tags)
           order by 1"#,
        &it.organizations,
        &it.hours,
        &it.resources,
        &it.tags,
    )
    .fetch_all(&mut *db)
    .await?;
    if unknown.is_empty() {
        return Ok(());
    }
    for organization in unknown {
        sqlx::query!(
            "select pg_advisory_xact_lock(hashtextextended('usage_resources ' || $1::text, 0))",
            organization.to_string(),
        )
        .fetch_one(&mut *db)
        .await?;
    }
    sqlx::query!(
        "insert into usage_resources (organization_id, day, resource, tags)
         select organization_id, day, resource, tags
         from (select b.*, row_number() over (partition by organization_id, day
                                              order by resource, tags)
                           + (select count(*) from usage_resources r
                              where r.organization_id = b.organization_id and r.day = b.day)
                           as number
               from (select distinct organization_id, (hour at time zone 'UTC')::date as day,
                            resource, tags
                     from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[])
                         as t (organization_id, hour, resource, tags)
                     where resource <> '' or tags <> '') b
               where not exists (
                   select from usage_resources r
                   where r.organization_id = b.organization_id and r.day = b.day
                     and r.resource = b.resource and r.tags = b.tags)) n
         where number <= $5
         on conflict do nothing",
        &it.organizations,
        &it.hours,
        &it.resources,
        &it.tags,
        i64::try_from(MAX_ATTRIBUTIONS_PER_DAY).unwrap_or(i64::MAX),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns at most `limit` sums of the hours from `from` to before `until`, after the position
/// `after`, in the order of [`ExportPosition`].
pub async fn list(
    db: &mut PgConnection,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
    after: Option<&ExportPosition>,
    limit: i64,
) -> Result<Vec<ExportedUsage>> {
    let rows = sqlx::query!(
        r#"select u.hour, u.organization_id, u.key_id, u.resource, u.tags, u.units, o.handle,
                  o.external_id as "organization_external_id?", k.external_id as "key_external_id?"
           from usage_hourly u
           join organizations o on o.id = u.organization_id
           left join api_keys k on k.id = u.key_id
           where u.hour >= $1 and u.hour < $2
             and ($3::timestamptz is null
                  or (u.hour, u.organization_id, u.key_id, u.resource, u.tags)
                     > ($3, $4::uuid, $5::uuid, $6::text, $7::text))
           order by u.hour, u.organization_id, u.key_id, u.resource, u.tags
           limit $8"#,
        after.map_or(from, |it| it.hour),
        until,
        after.map(|it| it.hour),
        after.map(|it| it.organization.0),
        after.map(|it| it.key.map_or(Uuid::nil(), KeyId::uuid)),
        after.map(|it| it.resource.as_str()),
        after.map(|it| it.tags.as_str()),
        limit,
    )
    .fetch_all(db)
    .await?;
    let exported = rows.into_iter().map(|row| ExportedUsage {
        position: ExportPosition {
            hour: row.hour,
            organization: OrganizationId(row.organization_id),
            key: (!row.key_id.is_nil()).then(|| KeyId::from_uuid(row.key_id)),
            resource: row.resource,
            tags: row.tags,
        },
        handle: row.handle,
        organization_external_id: row.organization_external_id,
        key_external_id: row.key_external_id,
        units: row.units,
    });
    Ok(exported.collect())
}

/// Removes up to 1,000 sums that are older than this many days; returns how many. Applies to all
/// organizations.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from usage_hourly where ctid = any(array(
             select ctid from usage_hourly where hour < now() - make_interval(days => $1)
             limit 1000 for update skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Removes up to 1,000 registered resources of days that nothing is added to any more; returns how
/// many. Applies to all organizations.
pub async fn sweep_resources(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from usage_resources where ctid = any(array(
             select ctid from usage_resources where day < current_date - 7
             limit 1000 for update skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
