//! How keys end: revoked, or rotated away.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::{KeyId, OrganizationId};

/// The key and those that took over from it, one after the other.
///
/// # Errors
/// The database's own.
pub async fn successors(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
) -> Result<Vec<KeyId>> {
    let ids = sqlx::query_scalar!(
        r#"with recursive chain as (
               select id from api_keys where id = $2 and (organization_id = $1) is true
               union
               select n.id from api_keys n join chain c on n.rotated_from = c.id
               where n.organization_id = $1
           )
           select id as "id!" from chain"#,
        organization.0,
        id.uuid(),
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(KeyId::from_uuid).collect())
}

/// Lets a key serve out its grace: it gives its name up and ends `grace_seconds` from now by the
/// database's clock, or earlier where it would have anyway.
///
/// # Errors
/// The database's own.
pub async fn supersede(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
    grace_seconds: i32,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update api_keys set name_held = false, superseded_at = $4,
                expires_at = least(expires_at, now() + make_interval(secs => $3))
         where id = $2 and (organization_id = $1) is true",
        organization.0,
        id.uuid(),
        f64::from(grace_seconds),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends a key and frees its name. Whether it did: a key that was revoked before stays as it was.
///
/// # Errors
/// The database's own.
pub async fn revoke(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
    reason: Option<&str>,
    by: &str,
    at: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "update api_keys set revoked_at = $3, name_held = false, revoked_reason = $4,
                revoked_by = $5
         where id = $2 and (organization_id = $1) is true and revoked_at is null",
        organization.0,
        id.uuid(),
        at,
        reason,
        by,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends every key of the organization that has not ended or expired; how many. A key that somebody
/// is minting just now is not among them: ask again until there is none.
///
/// # Errors
/// The database's own.
pub async fn revoke_all(
    db: &mut PgConnection,
    organization: OrganizationId,
    reason: &str,
    by: &str,
    at: DateTime<Utc>,
) -> Result<u64> {
    let done = sqlx::query!(
        "update api_keys
         set revoked_at = $4, name_held = false, revoked_reason = $2, revoked_by = $3
         where id = any(array(
             select id from api_keys
             where organization_id = $1 and revoked_at is null
               and (expires_at is null or expires_at > now())
             order by id
             for no key update))",
        organization.0,
        reason,
        by,
        at,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
