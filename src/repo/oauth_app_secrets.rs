//! Secrets of apps. An expired secret is treated as if it did not exist.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{AppId, AppSecretId, OrganizationId};
use crate::model::oauth::app::{AppSecret, NewAppSecret};

/// Inserts a secret.
pub async fn insert(db: &mut PgConnection, secret: &NewAppSecret<'_>) -> Result<()> {
    sqlx::query!(
        "insert into oauth_client_secrets (id, client_id, organization_id, digest, pepper_id,
                                           display_id, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        secret.id.uuid(),
        secret.app.uuid(),
        secret.organization.0,
        secret.digest.bytes().as_slice(),
        secret.pepper_id,
        secret.display_id,
        secret.created_at,
        secret.expires_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the valid secrets of these apps of the organization, oldest first, each with its app.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    apps: &[AppId],
) -> Result<Vec<(AppId, AppSecret)>> {
    let apps: Vec<Uuid> = apps.iter().map(|app| app.uuid()).collect();
    let rows = sqlx::query!(
        "select id, client_id, display_id, created_at, expires_at, last_used_at
         from oauth_client_secrets
         where client_id = any($2) and (organization_id = $1) is true
           and (expires_at is null or expires_at > now())
         order by id",
        organization.0,
        &apps,
    )
    .fetch_all(db)
    .await?;
    let secrets = rows.into_iter().map(|row| {
        let secret = AppSecret {
            id: AppSecretId::from_uuid(row.id),
            display_id: row.display_id,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
        };
        (AppId::from_uuid(row.client_id), secret)
    });
    Ok(secrets.collect())
}

/// Returns the number of valid secrets of an app of the organization.
pub async fn count(db: &mut PgConnection, organization: OrganizationId, app: AppId) -> Result<i64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from oauth_client_secrets
           where client_id = $2 and (organization_id = $1) is true
             and (expires_at is null or expires_at > now())"#,
        organization.0,
        app.uuid(),
    )
    .fetch_one(db)
    .await?;
    Ok(count)
}

/// Deletes a valid secret of an app of the organization and returns the characters of it that may
/// be displayed; `None` if there was none.
pub async fn delete(
    db: &mut PgConnection,
    organization: OrganizationId,
    app: AppId,
    id: AppSecretId,
) -> Result<Option<String>> {
    let display_id = sqlx::query_scalar!(
        "delete from oauth_client_secrets
         where id = $3 and client_id = $2 and (organization_id = $1) is true
           and (expires_at is null or expires_at > now())
         returning display_id",
        organization.0,
        app.uuid(),
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(display_id)
}

/// Deletes all secrets of an app of the organization.
pub async fn delete_all(
    db: &mut PgConnection,
    organization: OrganizationId,
    app: AppId,
) -> Result<()> {
    sqlx::query!(
        "delete from oauth_client_secrets
         where client_id = $2 and (organization_id = $1) is true",
        organization.0,
        app.uuid(),
    )
    .execute(db)
    .await?;
    Ok(())
}
