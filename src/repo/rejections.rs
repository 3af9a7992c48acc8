//! Rejected requests of organizations: inserted in batches, limited in number for each
//! organization, and listed newest first.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{OrganizationId, RejectionId};
use crate::model::rejection::{MAX_REJECTIONS_PER_ORGANIZATION, Rejection};

/// Inserts a batch of rejections, each with its organization.
pub async fn insert(db: &mut PgConnection, batch: &[(OrganizationId, Rejection)]) -> Result<()> {
    let organizations: Vec<Uuid> = batch.iter().map(|(organization, _)| organization.0).collect();
    let rejections = || batch.iter().map(|(_, rejection)| rejection);
    let ids: Vec<Uuid> = rejections().map(|it| it.id.uuid()).collect();
    let keys: Vec<Option<String>> = rejections().map(|it| it.key_display_id.clone()).collect();
    let methods: Vec<String> = rejections().map(|it| it.method.clone()).collect();
    let paths: Vec<String> = rejections().map(|it| it.path.clone()).collect();
    let statuses: Vec<i16> =
        rejections().map(|it| i16::try_from(it.status).unwrap_or(i16::MAX)).collect();
    let codes: Vec<String> = rejections().map(|it| it.code.clone()).collect();
    let details: Vec<String> = rejections().map(|it| it.detail.clone()).collect();
    let addresses: Vec<Option<String>> = rejections().map(|it| it.address.clone()).collect();
    let requests: Vec<String> = rejections().map(|it| it.request_id.clone()).collect();
    let times: Vec<DateTime<Utc>> = rejections().map(|it| it.created_at).collect();
    sqlx::query!(
        "insert into denials (organization_id, id, key_display_id, method, path, status, code,
                              detail, address, request_id, created_at)
         select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[],
                              $6::smallint[], $7::text[], $8::text[], $9::text[], $10::text[],
                              $11::timestamptz[])",
        &organizations,
        &ids,
        &keys as &[Option<String>],
        &methods,
        &paths,
        &statuses,
        &codes,
        &details,
        &addresses as &[Option<String>],
        &requests,
        &times,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes all but the newest [`MAX_REJECTIONS_PER_ORGANIZATION`] rejections of each of these
/// organizations; returns how many. Rows that another transaction is removing are skipped.
pub async fn trim(db: &mut PgConnection, organizations: &[OrganizationId]) -> Result<u64> {
    let organizations: Vec<Uuid> = organizations.iter().map(|it| it.0).collect();
    let result = sqlx::query!(
        "delete from denials where ctid = any(array(
             select old.ctid
             from unnest($1::uuid[]) as o (organization_id)
             cross join lateral
                 (select id from denials where organization_id = o.organization_id
                  order by id desc offset $2 limit 1) oldest
             join denials old
                 on old.organization_id = o.organization_id and old.id < oldest.id
             for update of old skip locked))",
        &organizations,
        MAX_REJECTIONS_PER_ORGANIZATION - 1,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Removes up to 1,000 rejections that are older than this many days; returns how many. Applies to
/// all organizations.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from denials where ctid = any(array(
             select ctid from denials where created_at < now() - make_interval(days => $1)
             limit 1000 for update skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Returns at most `limit` of the organization's rejections, newest first: those before `after`, or
/// the newest.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    after: Option<RejectionId>,
    limit: i64,
) -> Result<Vec<Rejection>> {
    let rows = sqlx::query!(
        "select id, key_display_id, method, path, status, code, detail, address, request_id,
                created_at
         from denials
         where organization_id = $1 and ($2::uuid is null or id < $2)
         order by id desc
         limit $3",
        organization.0,
        after.map(RejectionId::uuid),
        limit,
    )
    .fetch_all(db)
    .await?;
    let rejections = rows.into_iter().map(|row| Rejection {
        id: RejectionId::from_uuid(row.id),
        key_display_id: row.key_display_id,
        method: row.method,
        path: row.path,
        status: u16::try_from(row.status).unwrap_or(0),
        code: row.code,
        detail: row.detail,
        address: row.address,
        request_id: row.request_id,
        created_at: row.created_at,
    });
    Ok(rejections.collect())
}
