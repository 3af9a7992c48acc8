//! The end of keys: rotation, revocation and deletion. A key has ended if it is revoked or expired.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::{Error, Result};
use crate::model::ids::{KeyId, MembershipId, OrganizationId};
use crate::model::key_format::IMPORTED_PREFIX;

/// Returns the key and its successors, in order.
pub async fn list_successors(
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

/// Returns the key and its predecessors, in order.
pub async fn list_with_predecessors(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
) -> Result<Vec<KeyId>> {
    let ids = sqlx::query_scalar!(
        r#"with recursive chain as (
               select id, rotated_from from api_keys
               where id = $2 and (organization_id = $1) is true
               union
               select o.id, o.rotated_from from api_keys o join chain c on o.id = c.rotated_from
               where (o.organization_id = $1) is true
           )
           select id as "id!" from chain"#,
        organization.0,
        id.uuid(),
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(KeyId::from_uuid).collect())
}

/// Starts a key's grace period: releases its name, and sets its expiry `grace_seconds` from now by
/// the database's clock, unless it expires earlier.
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

/// Revokes a key and releases its name. Returns false if it is already revoked.
pub async fn revoke(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
    reason: Option<&str>,
    by: &str,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
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
    Ok(result.rows_affected() == 1)
}

/// Revokes every key that has not ended or was superseded; returns how many. Misses a key that
/// another transaction is creating: repeat until the result is 0.
pub async fn revoke_all(
    db: &mut PgConnection,
    organization: OrganizationId,
    reason: &str,
    by: &str,
    at: DateTime<Utc>,
) -> Result<u64> {
    let result = sqlx::query!(
        "update api_keys
         set revoked_at = $4, name_held = false, revoked_reason = $2, revoked_by = $3
         where id = any(array(
             select id from api_keys
             where organization_id = $1 and revoked_at is null
               and (superseded_at is not null or expires_at is null or expires_at > now())
             order by id
             for no key update))",
        organization.0,
        reason,
        by,
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Clears up to 1,000 references to keys that ended more than this many days ago, in their
/// successors and in accounts whose default key they were; returns how many. Applies to all
/// organizations.
pub async fn clear_references(db: &mut PgConnection, days: i32) -> Result<u64> {
    let keys = sqlx::query!(
        "update api_keys set rotated_from = null where id = any(array(
             select n.id from api_keys k join api_keys n on n.rotated_from = k.id
             where (k.revoked_at is not null or k.expires_at is not null)
               and least(k.revoked_at, k.expires_at) < now() - make_interval(days => $1)
             limit 1000 for no key update of n skip locked))",
        days,
    )
    .execute(&mut *db)
    .await?;
    let accounts = sqlx::query!(
        "update accounts set default_key_id = null where id = any(array(
             select a.id from api_keys k
             join accounts a
               on a.home_organization_id = k.organization_id and a.default_key_id = k.id
             where (k.revoked_at is not null or k.expires_at is not null)
               and least(k.revoked_at, k.expires_at) < now() - make_interval(days => $1)
             limit 1000 for no key update of a skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(keys.rows_affected() + accounts.rows_affected())
}

/// Deletes up to 1,000 keys that ended more than this many days ago and that nothing references;
/// returns how many. Applies to all organizations.
///
/// Invariant: imported keys are kept. Other systems know them, and only the row shows that a
/// key was revoked: without it, the key could be imported again.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let count = sqlx::query_scalar!(
        r#"with deleted as (
           delete from api_keys where id = any(array(
             select k.id from api_keys k
             where (k.revoked_at is not null or k.expires_at is not null)
               and least(k.revoked_at, k.expires_at) < now() - make_interval(days => $1)
               and k.prefix <> $2
               and not exists (select from api_keys n where n.rotated_from = k.id)
               and not exists (select from key_sessions s where s.key_id = k.id)
               and not exists (select from invites i
                               where i.organization_id = k.organization_id and i.key_id = k.id)
               and not exists (select from invites i
                               where i.organization_id = k.organization_id
                                 and i.resent_key_id = k.id)
               and not exists (select from accounts a
                               where a.home_organization_id = k.organization_id
                                 and a.default_key_id = k.id)
             limit 1000 for update of k skip locked))
           returning organization_id, id, coalesce(metered_key_id, id) as metered_key_id
         ), unused as (
           delete from credit_balances b using deleted d
           where b.id = d.metered_key_id and b.organization_id = d.organization_id
             and not exists (select from api_keys k
                             where k.organization_id = d.organization_id
                               and coalesce(k.metered_key_id, k.id) = d.metered_key_id
                               and k.id not in (select id from deleted))
         )
         select count(*) as "count!" from deleted"#,
        days,
        IMPORTED_PREFIX,
    )
    .fetch_one(db)
    .await?;
    u64::try_from(count).map_err(Error::internal)
}

/// Revokes every key that a membership created and that has not ended or was superseded; returns
/// their ids. Misses a key that another transaction is creating: repeat until the result is empty.
pub async fn revoke_created_by(
    db: &mut PgConnection,
    (organization, membership): (OrganizationId, MembershipId),
    reason: &str,
    by: &str,
    at: DateTime<Utc>,
) -> Result<Vec<KeyId>> {
    let ids = sqlx::query_scalar!(
        "update api_keys
         set revoked_at = $5, name_held = false, revoked_reason = $3, revoked_by = $4
         where id = any(array(
             select id from api_keys
             where organization_id = $1 and user_id = $2 and revoked_at is null
               and (superseded_at is not null or expires_at is null or expires_at > now())
             order by id
             for no key update))
         returning id",
        organization.0,
        membership.0,
        reason,
        by,
        at,
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(KeyId::from_uuid).collect())
}
