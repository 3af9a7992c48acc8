//! The domains of organizations for single sign-on, and the dates of the checks of their records.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::model::ids::{DomainId, OrganizationId};
use crate::model::sso::domain::{DomainAbsence, NewSsoDomain, SsoDomain};
use crate::model::sso::domain_name::DomainName;
use crate::repo::{MapConstraintViolations, violated_constraint};

const ADDED_BEFORE: (&str, &str) =
    ("sso_domains_organization_id_domain_key", "This domain was already added");
/// Of all organizations, one has a domain verified.
const VERIFIED_ONCE: &str = "sso_domains_domain_key";

struct Row {
    id: Uuid,
    organization_id: Uuid,
    domain: String,
    token: String,
    created_at: DateTime<Utc>,
    verified_at: Option<DateTime<Utc>>,
    last_seen_at: Option<DateTime<Utc>>,
    absent_since: Option<DateTime<Utc>>,
    lost_at: Option<DateTime<Utc>>,
}

impl From<Row> for SsoDomain {
    fn from(row: Row) -> Self {
        Self {
            id: DomainId::from_uuid(row.id),
            organization: OrganizationId(row.organization_id),
            name: DomainName::from_stored(row.domain),
            token: row.token,
            created_at: row.created_at,
            verified_at: row.verified_at,
            last_seen_at: row.last_seen_at,
            absent_since: row.absent_since,
            lost_at: row.lost_at,
        }
    }
}

/// Inserts a domain, which is not verified.
///
/// # Errors
/// Conflict if the organization has added it before.
pub async fn insert(db: &mut PgConnection, domain: &NewSsoDomain<'_>) -> Result<()> {
    sqlx::query!(
        "insert into sso_domains (id, organization_id, domain, token, created_by, created_at)
         values ($1, $2, $3, $4, $5, $6)",
        domain.id.uuid(),
        domain.organization.0,
        domain.name.as_str(),
        domain.token,
        domain.created_by.0,
        domain.created_at,
    )
    .execute(db)
    .await
    .map_constraint_violations(&[ADDED_BEFORE])?;
    Ok(())
}

/// Returns the number of the organization's domains.
pub async fn count(db: &mut PgConnection, organization: OrganizationId) -> Result<u64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from sso_domains where organization_id = $1"#,
        organization.0,
    )
    .fetch_one(db)
    .await?;
    u64::try_from(count).map_err(Error::internal)
}

/// Returns a page of the organization's domains whose names contain `search`, newest first, and
/// their total count.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<SsoDomain>, i64)> {
    let rows = sqlx::query_as!(
        Row,
        "select id, organization_id, domain, token, created_at, verified_at, last_seen_at,
                absent_since, lost_at
         from sso_domains
         where organization_id = $1 and ($2::text is null or strpos(domain, lower($2)) > 0)
         order by id desc offset $3 limit $4",
        organization.0,
        search,
        offset,
        limit,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from sso_domains
           where organization_id = $1 and ($2::text is null or strpos(domain, lower($2)) > 0)"#,
        organization.0,
        search,
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().map(SsoDomain::from).collect(), total))
}

/// Returns a domain of the organization, if it exists.
pub async fn find(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: DomainId,
) -> Result<Option<SsoDomain>> {
    let row = sqlx::query_as!(
        Row,
        "select id, organization_id, domain, token, created_at, verified_at, last_seen_at,
                absent_since, lost_at
         from sso_domains where id = $2 and organization_id = $1",
        organization.0,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(SsoDomain::from))
}

/// Locks a domain of the organization until the transaction ends, and returns it, if it exists.
pub async fn lock(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: DomainId,
) -> Result<Option<SsoDomain>> {
    let row = sqlx::query_as!(
        Row,
        "select id, organization_id, domain, token, created_at, verified_at, last_seen_at,
                absent_since, lost_at
         from sso_domains where id = $2 and organization_id = $1 for update",
        organization.0,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(SsoDomain::from))
}

/// Records that the record of a domain was found: it is verified from now on, and looked up again
/// after a day. Returns whether the domain exists.
///
/// # Errors
/// [`ErrorKind::DomainTaken`] if another organization has it verified.
pub async fn set_verified(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: DomainId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update sso_domains
         set verified_at = case when verified_at is not null and lost_at is null
                                then verified_at else $3 end,
             last_seen_at = $3, absent_since = null, warned_at = null, lost_at = null,
             next_check_at = now() + interval '1 day'
         where id = $2 and organization_id = $1",
        organization.0,
        id.uuid(),
        at,
    )
    .execute(db)
    .await
    .map_err(|error| match violated_constraint(&error) {
        Some(VERIFIED_ONCE) => {
            Error::new(ErrorKind::DomainTaken, "Another organization has verified this domain")
        }
        _ => error.into(),
    })?;
    Ok(result.rows_affected() == 1)
}

/// Deletes a domain; returns whether it existed.
pub async fn delete(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: DomainId,
) -> Result<bool> {
    let result = sqlx::query!(
        "delete from sso_domains where id = $2 and organization_id = $1",
        organization.0,
        id.uuid(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Returns the organization that has a domain verified. A sub-domain does not match.
pub async fn find_owner(
    db: &mut PgConnection,
    domain: &DomainName,
) -> Result<Option<OrganizationId>> {
    let owner = sqlx::query_scalar!(
        "select d.organization_id from sso_domains d
         join organizations o on o.id = d.organization_id and o.deleted_at is null
         where d.domain = $1 and d.verified_at is not null and d.lost_at is null",
        domain.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(owner.map(OrganizationId))
}

/// Returns whether the organization has a domain verified. A sub-domain does not match.
pub async fn is_verified(
    db: &mut PgConnection,
    organization: OrganizationId,
    domain: &DomainName,
) -> Result<bool> {
    let is_verified = sqlx::query_scalar!(
        r#"select exists (select from sso_domains
                          where organization_id = $1 and domain = $2
                            and verified_at is not null and lost_at is null) as "verified!""#,
        organization.0,
        domain.as_str(),
    );
    Ok(is_verified.fetch_one(db).await?)
}

/// Returns whether the organization has any domain verified.
pub async fn has_verified(db: &mut PgConnection, organization: OrganizationId) -> Result<bool> {
    let has_verified = sqlx::query_scalar!(
        r#"select exists (select from sso_domains
                          where organization_id = $1
                            and verified_at is not null and lost_at is null) as "verified!""#,
        organization.0,
    );
    Ok(has_verified.fetch_one(db).await?)
}

/// Claims at most `limit` verified domains that are due for a check: no other server gets them for
/// an hour, after which they are due again. Applies to all organizations.
pub async fn claim_due(db: &mut PgConnection, limit: i64) -> Result<Vec<SsoDomain>> {
    let rows = sqlx::query_as!(
        Row,
        "update sso_domains set next_check_at = now() + interval '1 hour'
         where id = any(array(
             select d.id from sso_domains d
             join organizations o on o.id = d.organization_id and o.deleted_at is null
             where d.next_check_at <= now()
             order by d.next_check_at limit $1 for update of d skip locked))
         returning id, organization_id, domain, token, created_at, verified_at, last_seen_at,
                   absent_since, lost_at",
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(SsoDomain::from).collect())
}

/// Records that the daily check of a verified domain, which is locked, found its record.
pub async fn record_seen(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: DomainId,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update sso_domains
         set last_seen_at = $3, absent_since = null, warned_at = null,
             next_check_at = now() + interval '1 day'
         where id = $2 and organization_id = $1",
        organization.0,
        id.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Records that the daily check of a verified domain, which is locked, did not find its record. A
/// warning is due at first and then every 3 days. After 7 days, the domain is lost. Returns what
/// that changed, and the handle of the organization; `None` if the organization was deleted.
pub async fn record_absent(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: DomainId,
    at: DateTime<Utc>,
) -> Result<Option<(DomainAbsence, String)>> {
    let row = sqlx::query!(
        r#"update sso_domains d
           set absent_since = coalesce(absent_since, now()),
               warned_at = case when warned_at > now() - interval '3 days' then warned_at
                                else now() end,
               lost_at = case when absent_since <= now() - interval '7 days' then $3::timestamptz
                         end,
               next_check_at = case when absent_since <= now() - interval '7 days' then null
                                    else now() + interval '1 day' end
           from organizations o
           where d.id = $2 and d.organization_id = $1
             and o.id = d.organization_id and o.deleted_at is null
           -- The time is that of the transaction, so it is equal to what was set just now.
           returning o.handle, lost_at is not null as "is_lost!",
                     absent_since = now() as "has_begun!", warned_at = now() as "is_warned!""#,
        organization.0,
        id.uuid(),
        at,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let absence = match (row.is_lost, row.has_begun, row.is_warned) {
            (true, _, _) => DomainAbsence::Lost,
            (false, true, _) => DomainAbsence::Began,
            (false, false, true) => DomainAbsence::Continues,
            (false, false, false) => DomainAbsence::Known,
        };
        (absence, row.handle)
    }))
}
