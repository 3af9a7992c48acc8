//! What was answered to requests that may come again.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::error::{Error, Result};
use crate::model::idempotency::{IdempotentRequest, StoredResponse};
use crate::model::ids::AccountId;

/// Holds the record's place until the transaction ends; false where somebody else holds it.
pub async fn try_lock(db: &mut PgConnection, attempt: &IdempotentRequest) -> Result<bool> {
    let held = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock($1) as "held!""#,
        attempt.advisory_lock_key(),
    )
    .fetch_one(db)
    .await?;
    Ok(held)
}

/// The kept answer that is not over yet.
pub async fn find(
    db: &mut PgConnection,
    attempt: &IdempotentRequest,
) -> Result<Option<StoredResponse>> {
    let row = sqlx::query!(
        "select fingerprint, status, body from idempotency_keys
         where organization_id = $1 and principal = $2 and endpoint = $3 and key_digest = $4
           and expires_at > now()",
        attempt.organization.0,
        attempt.principal,
        attempt.endpoint,
        attempt.key_digest.as_slice(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| StoredResponse {
        fingerprint: row.fingerprint,
        status: u16::try_from(row.status).unwrap_or(500),
        body: row.body,
    }))
}

/// Keeps an answer, in the place of one that is over.
///
/// # Errors
/// Internal where one is there that is not over: whoever keeps holds the place.
pub async fn store(
    db: &mut PgConnection,
    attempt: &IdempotentRequest,
    status: u16,
    body: Option<&Value>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    let done = sqlx::query!(
        "insert into idempotency_keys as i
             (organization_id, principal, endpoint, key_digest, fingerprint, status, body,
              created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict on constraint idempotency_keys_pkey do update
         set fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body,
             created_at = excluded.created_at, expires_at = excluded.expires_at
         where i.expires_at <= now()",
        attempt.organization.0,
        attempt.principal,
        attempt.endpoint,
        attempt.key_digest.as_slice(),
        attempt.fingerprints[0].bytes().as_slice(),
        i16::try_from(status).unwrap_or(500),
        body,
        created_at,
        expires_at,
    )
    .execute(db)
    .await?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(Error::internal("an answer's place was taken while it was held")),
    }
}

/// Removes what was answered to a person, in every organization that they had a seat in.
pub async fn remove_for_account(
    db: &mut PgConnection,
    account: AccountId,
    principal: &str,
) -> Result<()> {
    sqlx::query!(
        "delete from idempotency_keys
         where principal = $2 and organization_id in
             (select organization_id from users where account_id = $1
              union select home_organization_id from accounts where id = $1)",
        account.uuid(),
        principal,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes up to 1,000 answers that are over; how many. No tenant's data is read: what is over is
/// over for all.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let done = sqlx::query!(
        "delete from idempotency_keys where ctid = any(array(
             select ctid from idempotency_keys where expires_at <= now()
             limit 1000 for update skip locked))",
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
