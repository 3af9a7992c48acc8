//! The people of identity providers, and their accounts.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{AccountId, ConnectionId, OrganizationId};
use crate::model::sso::connection::ConnectionStatus;

/// Returns the account of a person of a connection.
pub async fn find_account(
    db: &mut PgConnection,
    connection: ConnectionId,
    subject: &str,
) -> Result<Option<AccountId>> {
    let account = sqlx::query_scalar!(
        "select account_id from sso_identities where connection_id = $1 and subject = $2",
        connection.uuid(),
        subject,
    )
    .fetch_optional(db)
    .await?;
    Ok(account.map(AccountId::from_uuid))
}

/// Returns whether a person of the connection has this account.
pub async fn has_account(
    db: &mut PgConnection,
    connection: ConnectionId,
    account: AccountId,
) -> Result<bool> {
    let exists = sqlx::query_scalar!(
        r#"select exists (select from sso_identities
                          where connection_id = $1 and account_id = $2) as "exists!""#,
        connection.uuid(),
        account.uuid(),
    )
    .fetch_one(db)
    .await?;
    Ok(exists)
}

/// Returns whether the connection is active, and keeps it as it is until the transaction ends.
pub async fn lock_active_connection(
    db: &mut PgConnection,
    connection: ConnectionId,
) -> Result<bool> {
    let status = sqlx::query_scalar!(
        "select status from sso_connections where id = $1 for share",
        connection.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(status.is_some_and(|status| status == ConnectionStatus::Active.as_str()))
}

/// Links a person of a connection, who has no account yet, to an account. The organization must be
/// locked.
pub async fn insert(
    db: &mut PgConnection,
    (connection, organization): (ConnectionId, OrganizationId),
    (subject, account): (&str, AccountId),
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into sso_identities (connection_id, subject, organization_id, account_id,
                                     created_at, last_sign_in_at)
         values ($1, $2, $3, $4, $5, $5)",
        connection.uuid(),
        subject,
        organization.0,
        account.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Records a sign-in.
pub async fn record_sign_in(
    db: &mut PgConnection,
    connection: ConnectionId,
    subject: &str,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update sso_identities set last_sign_in_at = $3
         where connection_id = $1 and subject = $2",
        connection.uuid(),
        subject,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes the account from every connection: the provider's id of a person is personal data.
pub async fn remove_of_account(db: &mut PgConnection, account: AccountId) -> Result<()> {
    sqlx::query!("delete from sso_identities where account_id = $1", account.uuid())
        .execute(db)
        .await?;
    Ok(())
}

/// What a connection began.
pub struct EndedSignIns {
    /// The number of sessions that were valid until now.
    pub sessions: u64,
    /// The number of accounts that can no longer sign in with it.
    pub identities: u64,
}

/// Ends what a connection began: its sessions, the sign-ins that wait for an answer, and the links
/// to accounts, which no later connection inherits.
pub async fn end_all(
    db: &mut PgConnection,
    connection: ConnectionId,
    at: DateTime<Utc>,
) -> Result<EndedSignIns> {
    let id: Uuid = connection.uuid();
    let sessions = sqlx::query!(
        "update sessions set revoked_at = $2 where id = any(array(
             select id from sessions where connection_id = $1 and revoked_at is null
             order by id for no key update))",
        id,
        at,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!("delete from sso_flows where connection_id = $1", id).execute(&mut *db).await?;
    let identities =
        sqlx::query!("delete from sso_identities where connection_id = $1", id).execute(db).await?;
    let (sessions, identities) = (sessions.rows_affected(), identities.rows_affected());
    Ok(EndedSignIns { sessions, identities })
}
