//! Accounts.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::model::account::{Account, AccountHandle, NewAccount};
use crate::model::ids::{AccountId, KeyId, OrganizationId};
use crate::model::names::PersonName;
use crate::model::plan::Plan;
use crate::repo::{MapConstraintViolations, violated_constraint};

/// The unique constraint on handles, and its message.
pub(super) const HANDLE_TAKEN: (&str, &str) =
    ("accounts_handle_key", "Another account has this handle");

/// Inserts an account. Its home organization must exist.
///
/// # Errors
/// [`ErrorKind::EmailTaken`]; conflict if another account has the handle.
pub async fn insert(db: &mut PgConnection, account: &NewAccount<'_>) -> Result<()> {
    let result = sqlx::query!(
        "insert into accounts (id, home_organization_id, email, name, handle, password_hash,
                               last_login_at, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, null, $7, $7)",
        account.id.uuid(),
        account.home_organization.0,
        account.email.as_str(),
        account.name.map(PersonName::as_str),
        account.handle.as_str(),
        account.password_hash,
        account.created_at,
    )
    .execute(db)
    .await;
    if result.as_ref().is_err_and(|error| violated_constraint(error) == Some("accounts_email_key"))
    {
        return Err(Error::new(ErrorKind::EmailTaken, "An account with this email already exists"));
    }
    result.map_constraint_violations(&[HANDLE_TAKEN])?;
    Ok(())
}

/// Returns the account's default key, and locks the account until the transaction ends. Works with
/// row-level security set to the home organization, too.
pub async fn lock_default_key(db: &mut PgConnection, id: AccountId) -> Result<Option<KeyId>> {
    let key = sqlx::query_scalar!(
        "select default_key_id from accounts where id = $1 for no key update",
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(key.flatten().map(KeyId::from_uuid))
}

/// Stores the account's default key.
///
/// # Errors
/// Internal if the account does not exist.
pub async fn set_default_key(db: &mut PgConnection, id: AccountId, key: KeyId) -> Result<()> {
    let result = sqlx::query!(
        "update accounts set default_key_id = $2 where id = $1",
        id.uuid(),
        key.uuid(),
    )
    .execute(db)
    .await?;
    match result.rows_affected() {
        1 => Ok(()),
        _ => Err(Error::internal("the account of a default key does not exist")),
    }
}

struct Row {
    id: Uuid,
    email: String,
    name: Option<String>,
    handle: String,
    verified_at: Option<DateTime<Utc>>,
    is_proven: bool,
    is_active: bool,
    last_login_at: Option<DateTime<Utc>>,
    organization_count: i64,
    security_mails: bool,
    plan: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for Account {
    fn from(row: Row) -> Self {
        Self {
            id: AccountId::from_uuid(row.id),
            email: row.email,
            name: row.name,
            handle: row.handle,
            verified_at: row.verified_at,
            is_proven: row.is_proven,
            is_active: row.is_active,
            last_login_at: row.last_login_at,
            organization_count: row.organization_count,
            security_mails: row.security_mails,
            plan: Plan::parse(&row.plan).unwrap_or(Plan::Trial),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Returns an account that was not deleted.
pub async fn find(db: &mut PgConnection, id: AccountId) -> Result<Option<Account>> {
    let row = sqlx::query_as!(
        Row,
        r#"select a.id, a.email as "email!", a.name, a.handle as "handle!", a.verified_at,
                  a.proven_at is not null as "is_proven!", a.is_active, a.last_login_at,
                  a.created_at, a.updated_at, a.security_mails, home.plan,
                  (select count(*) from users u join organizations o on o.id = u.organization_id
                   where u.account_id = a.id and u.removed_at is null
                     and o.deleted_at is null) as "organization_count!"
           from accounts a join organizations home on home.id = a.home_organization_id
           where a.id = $1 and a.deleted_at is null"#,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(Account::from))
}

/// The data of an account that sign-ins and password operations check.
pub struct AccountCredentials {
    /// The account.
    pub id: AccountId,
    /// Its e-mail address.
    pub email: String,
    /// The PHC string of its password.
    pub password_hash: Option<String>,
    /// The version of the password; each new password increases it.
    pub password_version: i32,
    /// Whether it may sign in.
    pub is_active: bool,
    /// Whether its address is verified, which a setting can require for signing in.
    pub is_verified: bool,
    /// Whether the address was verified together with the password.
    pub is_proven: bool,
    /// Its default key.
    pub default_key: Option<KeyId>,
}

struct CredentialsRow {
    id: Uuid,
    email: String,
    password_hash: Option<String>,
    password_version: i32,
    is_active: bool,
    is_verified: bool,
    is_proven: bool,
    default_key_id: Option<Uuid>,
}

impl From<CredentialsRow> for AccountCredentials {
    fn from(row: CredentialsRow) -> Self {
        Self {
            id: AccountId::from_uuid(row.id),
            email: row.email,
            password_hash: row.password_hash,
            password_version: row.password_version,
            is_active: row.is_active,
            is_verified: row.is_verified,
            is_proven: row.is_proven,
            default_key: row.default_key_id.map(KeyId::from_uuid),
        }
    }
}

/// Returns the account with this address, if there is one. Locks nothing.
pub async fn find_by_email(
    db: &mut PgConnection,
    email: &str,
) -> Result<Option<AccountCredentials>> {
    let row = sqlx::query_as!(
        CredentialsRow,
        r#"select id, email as "email!", password_hash, password_version,
                  is_active, verified_at is not null as "is_verified!",
                  proven_at is not null as "is_proven!", default_key_id
           from accounts where email = $1"#,
        email,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(AccountCredentials::from))
}

/// Locks the account until the transaction ends.
///
/// Invariant: of the rows that [`super::organizations::lock`] lists, accounts are locked first.
///
/// # Errors
/// Not found if the account was deleted.
pub async fn lock(db: &mut PgConnection, id: AccountId) -> Result<AccountCredentials> {
    let row = sqlx::query_as!(
        CredentialsRow,
        r#"select id, email as "email!", password_hash, password_version,
                  is_active, verified_at is not null as "is_verified!",
                  proven_at is not null as "is_proven!", default_key_id
           from accounts where id = $1 and deleted_at is null for no key update"#,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    row.map(AccountCredentials::from).ok_or_else(|| Error::not_found("There is no such account"))
}

/// Locks the account with this address, like [`lock`]; `None` if there is none.
pub async fn lock_by_email(
    db: &mut PgConnection,
    email: &str,
) -> Result<Option<AccountCredentials>> {
    let row = sqlx::query_as!(
        CredentialsRow,
        r#"select id, email as "email!", password_hash, password_version,
                  is_active, verified_at is not null as "is_verified!",
                  proven_at is not null as "is_proven!", default_key_id
           from accounts where email = $1 for no key update"#,
        email,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(AccountCredentials::from))
}

/// Returns the organization in whose audit log the account's own operations are recorded: the home
/// organization as long as it exists and the account has a membership there, otherwise the
/// deployment's own.
pub async fn find_audit_organization(
    db: &mut PgConnection,
    id: AccountId,
) -> Result<OrganizationId> {
    let home = sqlx::query_scalar!(
        "select o.id from accounts a
         join organizations o on o.id = a.home_organization_id and o.deleted_at is null
         join users u on u.organization_id = o.id and u.account_id = a.id and u.removed_at is null
         where a.id = $1",
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(home.map_or(OrganizationId::SYSTEM, OrganizationId))
}

/// Records that the account signed in.
pub async fn record_sign_in(db: &mut PgConnection, id: AccountId, at: DateTime<Utc>) -> Result<()> {
    sqlx::query!("update accounts set last_login_at = $2 where id = $1", id.uuid(), at)
        .execute(db)
        .await?;
    Ok(())
}

/// Sets the hash of a new password.
pub async fn set_password(db: &mut PgConnection, id: AccountId, hash: &str) -> Result<()> {
    sqlx::query!(
        "update accounts set password_hash = $2, password_version = password_version + 1
         where id = $1",
        id.uuid(),
        hash,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Replaces the hash of the same password.
pub async fn update_password_hash(db: &mut PgConnection, id: AccountId, hash: &str) -> Result<()> {
    sqlx::query!("update accounts set password_hash = $2 where id = $1", id.uuid(), hash)
        .execute(db)
        .await?;
    Ok(())
}

/// Records that the address is proven, and so verified. Returns whether it was not proven before.
pub async fn mark_email_proven(
    db: &mut PgConnection,
    id: AccountId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update accounts
         set verified_at = coalesce(verified_at, $2), proven_at = $2, updated_at = $2
         where id = $1 and proven_at is null and deleted_at is null",
        id.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Turns security notices to the account on or off.
pub async fn set_security_mails(
    db: &mut PgConnection,
    id: AccountId,
    enabled: bool,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update accounts set security_mails = $2, updated_at = $3
         where id = $1 and deleted_at is null",
        id.uuid(),
        enabled,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Updates the name and the handle, if given.
///
/// # Errors
/// Conflict if another account has the handle.
pub async fn update(
    db: &mut PgConnection,
    id: AccountId,
    name: Option<&PersonName>,
    handle: Option<&AccountHandle>,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update accounts set name = coalesce($2, name), handle = coalesce($3, handle),
                             updated_at = $4
         where id = $1 and deleted_at is null",
        id.uuid(),
        name.map(PersonName::as_str),
        handle.map(AccountHandle::as_str),
        at,
    )
    .execute(db)
    .await
    .map_constraint_violations(&[HANDLE_TAKEN])?;
    Ok(())
}

/// Deletes the personal data of the account. The remaining row does not identify a person.
pub async fn delete(db: &mut PgConnection, id: AccountId, at: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        "update accounts
         set email = null, name = null, handle = null, password_hash = null, deleted_at = $2,
             updated_at = $2
         where id = $1 and deleted_at is null",
        id.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes up to 1,000 rows of accounts that were deleted more than this many days ago and that
/// nothing references; returns how many.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from accounts where id = any(array(
             select a.id from accounts a
             where a.deleted_at < now() - make_interval(days => $1)
               and not exists (select from users u where u.account_id = a.id)
               and not exists (select from sessions s where s.account_id = a.id)
               and not exists (select from personal_tokens t where t.account_id = a.id)
               and not exists (select from oauth_grants g where g.account_id = a.id)
               and not exists (select from email_tokens t where t.account_id = a.id)
             limit 1000 for update of a skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
