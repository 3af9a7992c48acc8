//! Sessions that keys were exchanged for, and their refresh tokens.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::ids::{KeyId, OrganizationId, SessionId};
use crate::model::secret::Digest;

/// Inserts a session of a key.
pub async fn insert(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: SessionId,
    key: KeyId,
    created_at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into key_sessions (id, organization_id, key_id, created_at)
         values ($1, $2, $3, $4)",
        id.uuid(),
        organization.0,
        key.uuid(),
        created_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Inserts a refresh token of a session.
pub async fn insert_refresh_token(
    db: &mut PgConnection,
    organization: OrganizationId,
    session: SessionId,
    digest: Digest,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into refresh_tokens (digest, organization_id, session_id, created_at, expires_at)
         values ($1, $2, $3, $4, $5)",
        digest.bytes().as_slice(),
        organization.0,
        session.uuid(),
        created_at,
        expires_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the organization and the session of the refresh token with one of these digests, without
/// locking them.
pub async fn find_presented(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<Option<(OrganizationId, SessionId)>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let row = sqlx::query!(
        "select organization_id, session_id from refresh_tokens where digest = any($1)",
        &digests,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (OrganizationId(row.organization_id), SessionId::from_uuid(row.session_id))))
}

/// A refresh token that was presented.
pub struct PresentedRefreshToken {
    /// The organization of its session.
    pub organization: OrganizationId,
    /// Its session.
    pub session: SessionId,
    /// The session's key.
    pub key: KeyId,
    /// Whether it was used before, or its session has ended.
    pub is_spent: bool,
    /// Whether it has expired, by the database's clock.
    pub is_expired: bool,
}

/// Returns the refresh token with one of these digests, and locks it and its session until the
/// transaction ends: if a token is used twice at once, the second use finds it spent.
pub async fn lock_refresh_token(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<Option<PresentedRefreshToken>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let row = sqlx::query!(
        r#"select t.organization_id, t.session_id, s.key_id,
                  (t.used_at is not null or s.revoked_at is not null) as "is_spent!",
                  (t.expires_at <= now()) as "is_expired!"
           from refresh_tokens t
           join key_sessions s on s.id = t.session_id
           where t.digest = any($1)
           for update of t, s"#,
        &digests,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| PresentedRefreshToken {
        organization: OrganizationId(row.organization_id),
        session: SessionId::from_uuid(row.session_id),
        key: KeyId::from_uuid(row.key_id),
        is_spent: row.is_spent,
        is_expired: row.is_expired,
    }))
}

/// Marks the unused refresh token of a session as used.
///
/// # Errors
/// Internal if there is none. That is a defect, since the caller has its lock.
pub async fn consume_refresh_token(
    db: &mut PgConnection,
    organization: OrganizationId,
    session: SessionId,
    at: DateTime<Utc>,
) -> Result<()> {
    let result = sqlx::query!(
        "update refresh_tokens set used_at = $3
         where organization_id = $1 and session_id = $2 and used_at is null",
        organization.0,
        session.uuid(),
        at,
    )
    .execute(db)
    .await?;
    match result.rows_affected() {
        1 => Ok(()),
        rows => Err(Error::internal(format!("{rows} unused refresh tokens in one session"))),
    }
}

/// Revokes a session; false if it was revoked before, which changes nothing.
pub async fn revoke(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: SessionId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update key_sessions set revoked_at = $3
         where id = $2 and (organization_id = $1) is true and revoked_at is null",
        organization.0,
        id.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Removes up to 1,000 expired refresh tokens, and the sessions that have none left; returns how
/// many tokens. Applies to all organizations.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let sessions: Vec<Uuid> = sqlx::query_scalar!(
        "delete from refresh_tokens
         where digest = any(array(select digest from refresh_tokens where expires_at <= now()
                                  limit 1000 for update skip locked))
         returning session_id",
    )
    .fetch_all(&mut *db)
    .await?;
    sqlx::query!(
        "delete from key_sessions s
         where s.id = any($1)
           and not exists (select from refresh_tokens t
                           where t.organization_id = s.organization_id and t.session_id = s.id)",
        &sessions,
    )
    .execute(db)
    .await?;
    Ok(sessions.len().try_into().unwrap_or(u64::MAX))
}
