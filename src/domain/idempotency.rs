//! Runs idempotent requests: the response is stored in the transaction of the change, so that
//! neither exists without the other.
//!
//! Only successful responses are stored: an invalid request or an outage does not use a key up.
//! Known limitation: after a crash between the commit and the response, a replay reports what was
//! created, but no secret.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use std::time::Duration;

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::model::idempotency::{IdempotentRequest, StoredResponse};
use crate::model::ids::OrganizationId;
use crate::model::secret::Digest;
use crate::repo::idempotency_keys;

/// The response to the first request, and what is stored for replays.
pub struct FirstResponse<T> {
    /// The response for the caller, with secrets.
    pub response: T,
    /// The HTTP status.
    pub status: u16,
    /// The body that is stored, without secrets.
    pub stored_body: Option<Value>,
}

/// The outcome of an idempotent request.
pub enum IdempotentOutcome<T> {
    /// This request made the change.
    FirstRequest(T),
    /// An earlier request made it.
    Replayed(StoredResponse),
}

/// Runs a change in one transaction within the `tenant`: once for each idempotency key, or each
/// time if the request has none.
///
/// # Errors
/// The errors of `work`; idempotency key reused if the key was sent with another request; in use if
/// another request with this key is still running.
pub async fn run_once<T>(
    app: &App,
    tenant: Option<OrganizationId>,
    attempt: Option<&IdempotentRequest>,
    now: DateTime<Utc>,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<FirstResponse<T>>,
) -> Result<IdempotentOutcome<T>> {
    app.db
        .transaction_for(tenant, async |tx| {
            let Some(attempt) = attempt else {
                return Ok(IdempotentOutcome::FirstRequest(work(tx).await?.response));
            };
            if !idempotency_keys::try_lock(tx, attempt).await? {
                return Err(running());
            }
            if let Some(stored) = find_stored(tx, attempt).await? {
                return Ok(IdempotentOutcome::Replayed(stored));
            }
            let FirstResponse { response, status, stored_body } = work(tx).await?;
            let until = now + attempt.lifetime;
            idempotency_keys::store(tx, attempt, status, stored_body.as_ref(), now, until).await?;
            Ok(IdempotentOutcome::FirstRequest(response))
        })
        .await
}

/// Returns the stored response to a request, if it was made before.
///
/// # Errors
/// Idempotency key reused if the key was sent with another request.
pub async fn find_stored(
    tx: &mut PgConnection,
    attempt: &IdempotentRequest,
) -> Result<Option<StoredResponse>> {
    let Some(stored) = idempotency_keys::find(tx, attempt).await? else { return Ok(None) };
    let is_same = |digest: &Digest| digest.bytes().as_slice() == stored.fingerprint;
    if attempt.fingerprints.iter().any(is_same) { Ok(Some(stored)) } else { Err(reused()) }
}

fn running() -> Error {
    let message = "Another request with this Idempotency-Key is still running";
    Error::new(ErrorKind::IdempotencyKeyInUse, message).with_retry_after(Duration::from_secs(1))
}

fn reused() -> Error {
    let message = "This Idempotency-Key was used for another request";
    Error::new(ErrorKind::IdempotencyKeyReused, message)
}
