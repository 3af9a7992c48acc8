//! Accounts whose e-mail address is not verified. The latest sign-up with an address replaces
//! earlier ones.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::{Error, Result};
use crate::model::account::AccountHandle;
use crate::model::ids::{AccountId, OrganizationId};
use crate::model::names::PersonName;
use crate::repo::MapConstraintViolations;
use crate::repo::accounts::HANDLE_TAKEN;

/// Replaces a pending sign-up with a later one with the same address; returns the home
/// organization.
///
/// To avoid a deadlock, the caller must lock the queued verification mail to the address first: the
/// mail worker locks a mail, and then waits for its account while this update of the handle, a
/// unique column, is uncommitted.
///
/// # Errors
/// Conflict if another account has the handle; internal if the account is not pending.
pub async fn replace(
    db: &mut PgConnection,
    id: AccountId,
    (name, handle): (Option<&PersonName>, &AccountHandle),
    password_hash: &str,
    at: DateTime<Utc>,
) -> Result<OrganizationId> {
    let home = sqlx::query_scalar!(
        "update accounts
         set name = $2, handle = $3, password_hash = $4, password_version = password_version + 1,
             last_login_at = null, updated_at = $5
         where id = $1 and verified_at is null and deleted_at is null
         returning home_organization_id",
        id.uuid(),
        name.map(PersonName::as_str),
        handle.as_str(),
        password_hash,
        at,
    )
    .fetch_optional(db)
    .await
    .map_constraint_violations(&[HANDLE_TAKEN])?;
    let not_pending =
        || Error::internal("the account is not a pending sign-up: it is verified or deleted");
    home.map(OrganizationId).ok_or_else(not_pending)
}
