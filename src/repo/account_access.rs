//! Counts of the credentials and invitations of an account.

use sqlx::PgConnection;

use crate::error::{Error, Result};
use crate::model::account::AccountAccess;
use crate::model::ids::AccountId;

/// Counts the live sessions, personal access tokens and grants to apps of the account, and the live
/// keys and open invitations of its memberships.
pub async fn count(db: &mut PgConnection, account: AccountId) -> Result<AccountAccess> {
    let row = sqlx::query!(
        r#"with memberships as (
               select u.organization_id, u.id from users u
               join organizations o on o.id = u.organization_id and o.deleted_at is null
               where u.account_id = $1 and u.removed_at is null
           )
           select (select proven_at is not null from accounts where id = $1) as "is_proven!",
                  (select count(*) from sessions
                   where account_id = $1 and revoked_at is null
                     and expires_at > now()) as "sessions!",
                  (select count(*) from personal_tokens
                   where account_id = $1 and revoked_at is null
                     and (expires_at is null or expires_at > now())) as "personal_tokens!",
                  (select count(*) from memberships m
                   join api_keys k on k.organization_id = m.organization_id and k.user_id = m.id
                   where k.revoked_at is null
                     and (k.expires_at is null or k.expires_at > now())) as "keys!",
                  (select count(*) from memberships m
                   join invites i on i.organization_id = m.organization_id and i.invited_by = m.id
                   where i.accepted_at is null and i.revoked_at is null
                     and i.expires_at > now()) as "invitations!",
                  (select count(*) from oauth_grants
                   where account_id = $1 and revoked_at is null) as "app_grants!""#,
        account.uuid(),
    )
    .fetch_one(db)
    .await?;
    let number = |count: i64| u64::try_from(count).map_err(Error::internal);
    Ok(AccountAccess {
        is_proven: row.is_proven,
        sessions: number(row.sessions)?,
        personal_tokens: number(row.personal_tokens)?,
        keys: number(row.keys)?,
        invitations: number(row.invitations)?,
        app_grants: number(row.app_grants)?,
    })
}
