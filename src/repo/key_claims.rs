//! Claims to the first key of an organization that was paid for. They expire by the database's
//! clock when they are read.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::email::Email;
use crate::model::ids::OrganizationId;
use crate::model::secret::Digest;

/// The time in which a claim can be used.
const LIFETIME: TimeDelta = TimeDelta::days(7);

/// Inserts a claim to the organization's first key.
///
/// # Errors
/// Internal if the organization has or had a claim.
pub async fn insert(
    db: &mut PgConnection,
    organization: OrganizationId,
    email: &Email,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into key_claims (organization_id, email, created_at, expires_at)
         values ($1, $2, $3, $4)",
        organization.0,
        email.as_str(),
        at,
        at + LIFETIME,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores the token of the next mail in place of an older one, and returns the organization's
/// handle, `None` if the claim is not open or the organization was deleted.
pub async fn set_token(
    db: &mut PgConnection,
    id: OrganizationId,
    digest: Digest,
) -> Result<Option<String>> {
    let handle = sqlx::query_scalar!(
        "update key_claims c set digest = $2 from organizations o
         where c.organization_id = $1 and o.id = c.organization_id and o.deleted_at is null
           and c.claimed_at is null and c.revoked_at is null and c.expires_at > now()
         returning o.handle",
        id.0,
        digest.bytes().as_slice(),
    )
    .fetch_optional(db)
    .await?;
    Ok(handle)
}

/// Returns the organization whose open claim has a token with one of these digests, and its handle.
/// Locks nothing.
pub async fn find_presented(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<Option<(OrganizationId, String)>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let row = sqlx::query!(
        "select o.id, o.handle
         from key_claims c join organizations o on o.id = c.organization_id
         where c.digest = any($1) and c.claimed_at is null and c.revoked_at is null
           and c.expires_at > now() and o.deleted_at is null",
        &digests,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (OrganizationId(row.id), row.handle)))
}

/// Uses up the organization's claim; false if it is not open or its token was replaced. Of several
/// concurrent uses, one succeeds.
pub async fn consume(
    db: &mut PgConnection,
    organization: OrganizationId,
    digests: &[Digest],
    at: DateTime<Utc>,
) -> Result<bool> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let result = sqlx::query!(
        "update key_claims set claimed_at = $3
         where organization_id = $1 and digest = any($2) and claimed_at is null
           and revoked_at is null and expires_at > now()",
        organization.0,
        &digests,
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Revokes the organization's open claim; false if it has none.
pub async fn revoke(
    db: &mut PgConnection,
    organization: OrganizationId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update key_claims set revoked_at = $2
         where organization_id = $1 and claimed_at is null and revoked_at is null",
        organization.0,
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Removes up to 1,000 claims that expired more than this many days ago, and returns how many.
/// Applies to all organizations.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from key_claims where organization_id = any(array(
             select c.organization_id from key_claims c
             where c.expires_at < now() - make_interval(days => $1)
               and not exists (select from outbox m where m.claim_of = c.organization_id)
             limit 1000 for update of c skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
