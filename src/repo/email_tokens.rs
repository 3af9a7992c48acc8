//! Tokens of the links that are mailed to accounts. Each can be used once.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::AccountId;
use crate::model::mail::LinkPurpose;
use crate::model::secret::Digest;

/// Stores the token of a link in place of an older one of the same purpose. Without a callback URL,
/// the older one's remains.
pub async fn replace(
    db: &mut PgConnection,
    (account, purpose): (AccountId, LinkPurpose),
    digest: Digest,
    callback_url: Option<&str>,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into email_tokens (account_id, purpose, digest, callback_url, created_at,
                                   expires_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict on constraint email_tokens_pkey do update
         set digest = excluded.digest, created_at = excluded.created_at,
             expires_at = excluded.expires_at,
             callback_url = coalesce(excluded.callback_url, email_tokens.callback_url)",
        account.uuid(),
        purpose.as_str(),
        digest.bytes().as_slice(),
        callback_url,
        at,
        at + purpose.lifetime(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the account whose unexpired token has one of these digests.
pub async fn find(
    db: &mut PgConnection,
    purpose: LinkPurpose,
    digests: &[Digest],
) -> Result<Option<AccountId>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let account = sqlx::query_scalar!(
        "select account_id from email_tokens
         where purpose = $1 and digest = any($2) and expires_at > now()",
        purpose.as_str(),
        &digests,
    )
    .fetch_optional(db)
    .await?;
    Ok(account.map(AccountId::from_uuid))
}

/// Returns whether the account has a valid link for this purpose, or a mail with one is queued.
pub async fn is_pending(
    db: &mut PgConnection,
    (account, purpose): (AccountId, LinkPurpose),
    address: &str,
) -> Result<bool> {
    let is_pending = sqlx::query_scalar!(
        r#"select exists (select from email_tokens
                          where account_id = $1 and purpose = $2 and expires_at > now())
               or exists (select from outbox
                          where kind = $2 and address = $3 and dead_at is null) as "is_pending!""#,
        account.uuid(),
        purpose.as_str(),
        address,
    )
    .fetch_one(db)
    .await?;
    Ok(is_pending)
}

/// Uses up a token of the account and returns its callback URL, if it has one; the outer `None`
/// means that the token is unknown, expired or used. Of several concurrent uses, one succeeds.
pub async fn consume(
    db: &mut PgConnection,
    (account, purpose): (AccountId, LinkPurpose),
    digests: &[Digest],
) -> Result<Option<Option<String>>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let callback_url = sqlx::query_scalar!(
        "delete from email_tokens
         where account_id = $1 and purpose = $2 and digest = any($3) and expires_at > now()
         returning callback_url",
        account.uuid(),
        purpose.as_str(),
        &digests,
    )
    .fetch_optional(db)
    .await?;
    Ok(callback_url)
}

/// Removes the account's token for one purpose.
pub async fn remove(
    db: &mut PgConnection,
    (account, purpose): (AccountId, LinkPurpose),
) -> Result<()> {
    sqlx::query!(
        "delete from email_tokens where account_id = $1 and purpose = $2",
        account.uuid(),
        purpose.as_str(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes every token of the account.
pub async fn remove_all(db: &mut PgConnection, account: AccountId) -> Result<()> {
    sqlx::query!("delete from email_tokens where account_id = $1", account.uuid())
        .execute(db)
        .await?;
    Ok(())
}

/// Removes up to 1,000 expired tokens, and returns how many.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from email_tokens where ctid = any(array(
             select ctid from email_tokens where expires_at <= now()
             limit 1000 for update skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
