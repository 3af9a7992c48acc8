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
    /// For the caller, secrets and all.
    pub response: T,
    /// The status.
    pub status: u16,
    /// The answer's body without secrets.
    pub stored_body: Option<Value>,
}

/// Which of the two it was.
pub enum IdempotentOutcome<T> {
    /// The change was made now.
    FirstRequest(T),
    /// It was made before.
    Replayed(StoredResponse),
}

/// Makes a change in one transaction, behind the walls of the `tenant` that it is made in, once for
/// each attempt of the same name; without a name, each time.
///
/// # Errors
/// Those of `work`; idempotency reused where the name was for another request, processing where
/// the first request of this name still runs.
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
            if let Some(stored) = idempotency_keys::find(tx, attempt).await? {
                let is_same = |digest: &Digest| digest.bytes().as_slice() == stored.fingerprint;
                return if attempt.fingerprints.iter().any(is_same) {
                    Ok(IdempotentOutcome::Replayed(stored))
                } else {
                    Err(reused())
                };
            }
            let FirstResponse { response, status, stored_body: stored } = work(tx).await?;
            let until = now + attempt.lifetime;
            idempotency_keys::store(tx, attempt, status, stored.as_ref(), now, until).await?;
            Ok(IdempotentOutcome::FirstRequest(response))
        })
        .await
}

/// Whether a response is stored for this request: then running it again changes nothing.
pub async fn is_stored(
    app: &App,
    tenant: Option<OrganizationId>,
    attempt: &IdempotentRequest,
) -> Result<bool> {
    let find = async |tx: &mut PgConnection| idempotency_keys::find(tx, attempt).await;
    Ok(app.db.transaction_for(tenant, find).await?.is_some())
}

fn running() -> Error {
    let message = "The first request with this Idempotency-Key is still running";
    Error::new(ErrorKind::IdempotencyKeyInUse, message).with_retry_after(Duration::from_secs(1))
}

fn reused() -> Error {
    let message = "This Idempotency-Key was used for another request";
    Error::new(ErrorKind::IdempotencyKeyReused, message)
}
