//! Personal access tokens. Callers are looked up in [`super::account_callers`].

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::account_reach::AccountReach;
use crate::model::ids::{AccountId, KeyId};
use crate::model::names::KeyName;
use crate::model::personal_token::{NewPersonalToken, PersonalToken};
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;
use crate::model::usage::UsageTally;
use crate::repo::MapConstraintViolations;

struct Row {
    id: Uuid,
    name: String,
    prefix: String,
    display_id: String,
    scopes: Vec<String>,
    organization_handle: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for PersonalToken {
    fn from(row: Row) -> Self {
        Self {
            id: KeyId::from_uuid(row.id),
            name: row.name,
            prefix: row.prefix,
            display_id: row.display_id,
            scopes: ScopeSet::from_stored(&row.scopes),
            organization_handle: row.organization_handle,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Inserts a token and returns it.
///
/// # Errors
/// Conflict if the digest exists.
pub async fn insert(db: &mut PgConnection, token: &NewPersonalToken<'_>) -> Result<PersonalToken> {
    let row = sqlx::query_as!(
        Row,
        r#"insert into personal_tokens (id, account_id, pinned_to, digest, pepper_id, prefix,
                                      display_id, name, scopes, created_at, updated_at, expires_at,
                                      pinned_seat)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12)
         returning id, name, prefix, display_id, scopes,
                   (select handle from organizations where id = pinned_to) as organization_handle,
                   expires_at, last_used_at, created_at, updated_at"#,
        token.id.uuid(),
        token.account.uuid(),
        token.pinned_to.map(|(organization, _)| organization.0),
        token.digest.bytes().as_slice(),
        token.pepper_id,
        token.prefix,
        token.display_id,
        token.name.as_str(),
        &token.scopes.to_stored(),
        token.created_at,
        token.expires_at,
        token.pinned_to.map(|(_, membership)| membership.0),
    )
    .fetch_one(db)
    .await
    .map_constraint_violations(&[(
        "personal_tokens_digest_key",
        "A token with this text already exists",
    )])?;
    Ok(row.into())
}

/// Returns a page of the account's tokens within this reach whose names contain `search`, newest
/// first, and their total count, without revoked tokens.
pub async fn list(
    db: &mut PgConnection,
    reach: AccountReach,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<PersonalToken>, i64)> {
    let rows = sqlx::query_as!(
        Row,
        r#"select t.id, t.name, t.prefix, t.display_id, t.scopes,
                  o.handle as "organization_handle?", t.expires_at, t.last_used_at, t.created_at,
                  t.updated_at
           from personal_tokens t left join organizations o on o.id = t.pinned_to
           where t.account_id = $1 and t.revoked_at is null
             and ($2::text is null or strpos(lower(t.name), lower($2)) > 0)
             and ($5::uuid is null or t.pinned_to = $5)
           order by t.id desc offset $3 limit $4"#,
        reach.account.uuid(),
        search,
        offset,
        limit,
        reach.only.map(|organization| organization.0),
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from personal_tokens
           where account_id = $1 and revoked_at is null
             and ($2::text is null or strpos(lower(name), lower($2)) > 0)
             and ($3::uuid is null or pinned_to = $3)"#,
        reach.account.uuid(),
        search,
        reach.only.map(|organization| organization.0),
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().map(PersonalToken::from).collect(), total))
}

/// Returns a token of the account within this reach, if it exists and was not revoked.
pub async fn find(
    db: &mut PgConnection,
    reach: AccountReach,
    id: KeyId,
) -> Result<Option<PersonalToken>> {
    let row = sqlx::query_as!(
        Row,
        r#"select t.id, t.name, t.prefix, t.display_id, t.scopes,
                  o.handle as "organization_handle?", t.expires_at, t.last_used_at, t.created_at,
                  t.updated_at
           from personal_tokens t left join organizations o on o.id = t.pinned_to
           where t.account_id = $1 and t.id = $2 and t.revoked_at is null
             and ($3::uuid is null or t.pinned_to = $3)"#,
        reach.account.uuid(),
        id.uuid(),
        reach.only.map(|organization| organization.0),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(PersonalToken::from))
}

/// Updates the name and scopes of a token within this reach, if given, and returns it; `None` if it
/// does not exist or was revoked.
pub async fn update(
    db: &mut PgConnection,
    reach: AccountReach,
    id: KeyId,
    (name, scopes): (Option<&KeyName>, Option<&ScopeSet>),
    at: DateTime<Utc>,
) -> Result<Option<PersonalToken>> {
    let scopes = scopes.map(ScopeSet::to_stored);
    let row = sqlx::query_as!(
        Row,
        r#"update personal_tokens
         set name = coalesce($3, name), scopes = coalesce($4, scopes), updated_at = $5
         where account_id = $1 and id = $2 and revoked_at is null
           and ($6::uuid is null or pinned_to = $6)
         returning id, name, prefix, display_id, scopes,
                   (select handle from organizations where id = pinned_to) as organization_handle,
                   expires_at, last_used_at, created_at, updated_at"#,
        reach.account.uuid(),
        id.uuid(),
        name.map(KeyName::as_str),
        scopes.as_deref(),
        at,
        reach.only.map(|organization| organization.0),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(PersonalToken::from))
}

/// Revokes a token within this reach; false if it does not exist or was revoked before.
pub async fn revoke(
    db: &mut PgConnection,
    reach: AccountReach,
    id: KeyId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update personal_tokens set revoked_at = $3
         where account_id = $1 and id = $2 and revoked_at is null
           and ($4::uuid is null or pinned_to = $4)",
        reach.account.uuid(),
        id.uuid(),
        at,
        reach.only.map(|organization| organization.0),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Revokes every token of the account; returns how many.
pub async fn revoke_all(
    db: &mut PgConnection,
    account: AccountId,
    at: DateTime<Utc>,
) -> Result<u64> {
    let result = sqlx::query!(
        "with held as (
             select id from personal_tokens where account_id = $1 and revoked_at is null
             order by id
             for no key update
         )
         update personal_tokens t set revoked_at = $2 from held where t.id = held.id",
        account.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Removes every token of the account, with the names that its owner chose.
pub async fn remove_all(db: &mut PgConnection, account: AccountId) -> Result<()> {
    sqlx::query!(
        "delete from personal_tokens where id = any(array(
             select id from personal_tokens where account_id = $1 order by id for update))",
        account.uuid(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores a token's digest under the newest pepper. Of two concurrent calls, the first takes
/// effect.
pub async fn rehash(
    db: &mut PgConnection,
    account: AccountId,
    id: KeyId,
    digest: Digest,
    pepper_id: &str,
) -> Result<()> {
    sqlx::query!(
        "update personal_tokens set digest = $3, pepper_id = $4
         where account_id = $1 and id = $2 and pepper_id <> $4",
        account.uuid(),
        id.uuid(),
        digest.bytes().as_slice(),
        pepper_id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Updates `last_used_at` of tokens. Never moves it back.
pub async fn record_use(db: &mut PgConnection, tallies: &[UsageTally]) -> Result<()> {
    let ids: Vec<Uuid> = tallies.iter().map(|tally| tally.key.uuid()).collect();
    let times: Vec<DateTime<Utc>> = tallies.iter().map(|tally| tally.last_used_at).collect();
    sqlx::query!(
        "with batch as (
             select id, max(at) as at from unnest($1::uuid[], $2::timestamptz[]) as t (id, at)
             group by id
         ), locked as (
             select t.id, b.at from personal_tokens t join batch b on b.id = t.id
             order by t.id
             for no key update of t
         )
         update personal_tokens t set last_used_at = greatest(t.last_used_at, l.at)
         from locked l where t.id = l.id",
        &ids,
        &times,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes up to 1,000 tokens that ended more than this many days ago; returns how many. Applies to
/// all organizations.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from personal_tokens where id = any(array(
             select id from personal_tokens
             where (revoked_at is not null or expires_at is not null)
               and least(revoked_at, expires_at) < now() - make_interval(days => $1)
             limit 1000 for update skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
