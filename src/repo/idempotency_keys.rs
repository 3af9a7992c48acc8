//! Stored responses to idempotent requests.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::error::{Error, Result};
use crate::model::idempotency::{IdempotentRequest, StoredResponse};
use crate::model::ids::AccountId;

/// Locks the request's record until the transaction ends; returns false if another transaction has
/// the lock.
pub async fn try_lock(db: &mut PgConnection, request: &IdempotentRequest) -> Result<bool> {
    let locked = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock($1) as "held!""#,
        request.advisory_lock_key(),
    )
    .fetch_one(db)
    .await?;
    Ok(locked)
}

/// Returns the stored response, if it has not expired.
pub async fn find(
    db: &mut PgConnection,
    request: &IdempotentRequest,
) -> Result<Option<StoredResponse>> {
    let row = sqlx::query!(
        "select fingerprint, status, body from idempotency_keys
         where organization_id = $1 and principal = $2 and endpoint = $3 and key_digest = $4
           and expires_at > now()",
        request.organization.0,
        request.principal,
        request.endpoint,
        request.key_digest.as_slice(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| StoredResponse {
        fingerprint: row.fingerprint,
        status: u16::try_from(row.status).unwrap_or(500),
        body: row.body,
    }))
}

/// Stores a response, in place of an expired one.
///
/// # Errors
/// Internal if there is one that has not expired. That is a defect, since the caller has the
/// record's lock.
pub async fn store(
    db: &mut PgConnection,
    request: &IdempotentRequest,
    status: u16,
    body: Option<&Value>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    let result = sqlx::query!(
        "insert into idempotency_keys as i
             (organization_id, principal, endpoint, key_digest, fingerprint, status, body,
              created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict on constraint idempotency_keys_pkey do update
         set fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body,
             created_at = excluded.created_at, expires_at = excluded.expires_at
         where i.expires_at <= now()",
        request.organization.0,
        request.principal,
        request.endpoint,
        request.key_digest.as_slice(),
        request.fingerprints[0].bytes().as_slice(),
        i16::try_from(status).unwrap_or(500),
        body,
        created_at,
        expires_at,
    )
    .execute(db)
    .await?;
    match result.rows_affected() {
        1 => Ok(()),
        _ => Err(Error::internal("a response was stored although its record was locked")),
    }
}

/// Removes the responses to an account, in every organization in which it has or had a membership.
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

/// Removes up to 1,000 expired responses; returns how many. Applies to all organizations.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from idempotency_keys where ctid = any(array(
             select ctid from idempotency_keys where expires_at <= now()
             limit 1000 for update skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
