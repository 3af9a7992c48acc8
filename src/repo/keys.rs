//! Keys: made, listed, revoked. Who is calling is asked in [`super::callers`].

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::api_key::{ApiKey, NewApiKey};
use crate::model::ids::{KeyId, OrganizationId};
use crate::model::key_name::KeyName;
use crate::model::scope::ScopeSet;
use crate::repo::OnConstraints;

/// A key's row. `is_active` is judged by the database's clock.
struct Row {
    id: uuid::Uuid,
    prefix: String,
    display_id: String,
    name: Option<String>,
    scopes: Vec<String>,
    is_active: bool,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl From<Row> for ApiKey {
    fn from(row: Row) -> Self {
        Self {
            id: KeyId::from_uuid(row.id),
            prefix: row.prefix,
            display_id: row.display_id,
            name: row.name,
            scopes: ScopeSet::from_stored(&row.scopes),
            is_active: row.is_active,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// Stores a new key. A name held by an expired key is free again.
///
/// # Errors
/// Conflict where a live key of the organization has the name, or chance drew a taken digest.
pub async fn insert(db: &mut PgConnection, key: &NewApiKey<'_>) -> Result<()> {
    let name = key.name.map(KeyName::as_str);
    if name.is_some() {
        sqlx::query!(
            "update api_keys set name_held = false
             where organization_id = $1 and name = $2 and name_held and expires_at <= now()",
            key.organization.0,
            name,
        )
        .execute(&mut *db)
        .await?;
    }
    sqlx::query!(
        "insert into api_keys (id, organization_id, user_id, digest, pepper_id, prefix, display_id,
                               name, name_held, scopes, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8::text, $8::text is not null, $9, $10, $11)",
        key.id.uuid(),
        key.organization.0,
        key.user.0,
        key.digest.bytes().as_slice(),
        key.pepper_id,
        key.prefix,
        key.display_id,
        name,
        &key.scopes.to_stored(),
        key.created_at,
        key.expires_at,
    )
    .execute(db)
    .await
    .on_constraints(&[
        ("api_keys_held_name_key", "A live key of this organization already has this name"),
        ("api_keys_digest_key", "The minted key collided with another; try again"),
    ])?;
    Ok(())
}

/// The organization's keys, newest first, at most 1,000: the live ones, or all.
///
/// # Errors
/// The database's own.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    include_revoked: bool,
) -> Result<Vec<ApiKey>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id, prefix, display_id, name, scopes, created_at, expires_at, last_used_at,
                  revoked_at,
                  (revoked_at is null and (expires_at is null or expires_at > now()))
                      as "is_active!"
           from api_keys
           where organization_id = $1
             and ($2 or (revoked_at is null and (expires_at is null or expires_at > now())))
           order by created_at desc, id desc
           limit 1000"#,
        organization.0,
        include_revoked,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(ApiKey::from).collect())
}

/// One key of the organization, locked against change until the transaction ends.
///
/// # Errors
/// The database's own.
pub async fn lock(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
) -> Result<Option<ApiKey>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, prefix, display_id, name, scopes, created_at, expires_at, last_used_at,
                  revoked_at,
                  (revoked_at is null and (expires_at is null or expires_at > now()))
                      as "is_active!"
           from api_keys
           where organization_id = $1 and id = $2
           for update"#,
        organization.0,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(ApiKey::from))
}

/// One key of the organization.
///
/// # Errors
/// The database's own.
pub async fn find(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
) -> Result<Option<ApiKey>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id, prefix, display_id, name, scopes, created_at, expires_at, last_used_at,
                  revoked_at,
                  (revoked_at is null and (expires_at is null or expires_at > now()))
                      as "is_active!"
           from api_keys
           where organization_id = $1 and id = $2"#,
        organization.0,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(ApiKey::from))
}

/// Ends a key and frees its name. Whether it did: a key that was revoked before stays as it was.
///
/// # Errors
/// The database's own.
pub async fn revoke(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "update api_keys set revoked_at = $3, name_held = false
         where organization_id = $1 and id = $2 and revoked_at is null",
        organization.0,
        id.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}
