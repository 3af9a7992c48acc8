//! Apps: the OAuth clients that organizations register. The operator also lists and disables the
//! clients that no organization registered, which belong to the deployment.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::ids::{AppId, OrganizationId};
use crate::model::names::AppName;
use crate::model::oauth::app::{AppChanges, ClientUri, NewApp, OauthApp, scopes_to_stored};
use crate::model::oauth::client_keys::ClientKeys;
use crate::model::oauth::redirect_uri::{RedirectUri, to_stored};
use crate::model::oauth::{
    ApplicationType, ClientAuthMethod, ClientKind, ClientVisibility, IdTokenAlgorithm,
};
use crate::repo::MapConstraintViolations;
use crate::repo::oauth_client_keys::StoredKeys;

const NAME_TAKEN: (&str, &str) =
    ("oauth_clients_organization_id_name_key", "Another app of the organization has this name");

struct Row {
    id: Uuid,
    client_id: String,
    kind: String,
    organization_handle: String,
    name: String,
    client_uri: Option<String>,
    redirect_uris: Vec<String>,
    application_type: String,
    auth_method: String,
    jwks: Option<Value>,
    jwks_uri: Option<String>,
    id_token_alg: String,
    scopes: Vec<String>,
    visibility: String,
    published_at: Option<DateTime<Utc>>,
    disabled_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    /// Returns the app, without its secrets and grants; `None` only for a word that a constraint of
    /// the table excludes.
    fn into_app(self) -> Option<OauthApp> {
        Some(OauthApp {
            id: AppId::from_uuid(self.id),
            client_id: self.client_id,
            kind: ClientKind::parse(&self.kind)?,
            organization_handle: self.organization_handle,
            name: self.name,
            client_uri: self.client_uri,
            redirect_uris: self.redirect_uris.into_iter().map(RedirectUri::from_stored).collect(),
            application_type: ApplicationType::parse(&self.application_type)?,
            auth_method: ClientAuthMethod::parse(&self.auth_method)?,
            keys: StoredKeys(self.jwks, self.jwks_uri).into_keys(),
            id_token_algorithm: IdTokenAlgorithm::parse(&self.id_token_alg)?,
            scopes: self.scopes,
            visibility: ClientVisibility::parse(&self.visibility)?,
            published_at: self.published_at,
            disabled_at: self.disabled_at,
            secrets: Vec::new(),
            grants: 0,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// Inserts an app.
///
/// # Errors
/// Conflict if another app of the organization has the name.
pub async fn insert(db: &mut PgConnection, app: &NewApp<'_>) -> Result<()> {
    let spec = app.spec;
    let keys = StoredKeys::from(spec.keys.as_ref());
    sqlx::query!(
        "insert into oauth_clients (id, client_id, organization_id, kind, name, client_uri,
                                    redirect_uris, application_type, auth_method, scopes,
                                    visibility, created_by, created_at, updated_at, jwks,
                                    jwks_uri, id_token_alg)
         values ($1, $2, $3, 'registered', $4, $5, $6, $7, $8, $9, 'private', $10, $11, $11, $12,
                 $13, $14)",
        app.id.uuid(),
        app.id.to_string(),
        app.organization.0,
        spec.name.as_str(),
        spec.client_uri.as_ref().map(ClientUri::as_str),
        &to_stored(&spec.redirect_uris),
        spec.application_type.as_str(),
        spec.auth_method.as_str(),
        &scopes_to_stored(&spec.scopes),
        app.created_by.0,
        app.created_at,
        keys.0,
        keys.1,
        spec.id_token_algorithm.as_str(),
    )
    .execute(db)
    .await
    .map_constraint_violations(&[NAME_TAKEN])?;
    Ok(())
}

/// Returns a page of the organization's apps whose names contain `search`, newest first, and their
/// total count. Secrets and grants are not read.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<OauthApp>, i64)> {
    let rows = sqlx::query_as!(
        Row,
        "select c.id, c.client_id, c.kind, o.handle as organization_handle, c.name, c.client_uri,
                c.redirect_uris, c.application_type, c.auth_method, c.jwks, c.jwks_uri,
                c.id_token_alg, c.scopes, c.visibility,
                c.published_at, c.disabled_at, c.created_at, c.updated_at
         from oauth_clients c
         join organizations o on o.id = c.organization_id
         where (c.organization_id = $1) is true and c.kind = 'registered'
           and ($2::text is null or strpos(lower(c.name), lower($2)) > 0)
         order by c.id desc offset $3 limit $4",
        organization.0,
        search,
        offset,
        limit,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from oauth_clients
           where (organization_id = $1) is true and kind = 'registered'
             and ($2::text is null or strpos(lower(name), lower($2)) > 0)"#,
        organization.0,
        search,
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().filter_map(Row::into_app).collect(), total))
}

/// Returns the number of the organization's apps.
pub async fn count(db: &mut PgConnection, organization: OrganizationId) -> Result<u64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from oauth_clients
           where (organization_id = $1) is true and kind = 'registered'"#,
        organization.0,
    )
    .fetch_one(db)
    .await?;
    u64::try_from(count).map_err(Error::internal)
}

/// Returns an app of the organization, if it exists. Secrets and grants are not read.
pub async fn find(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: AppId,
) -> Result<Option<OauthApp>> {
    let row = sqlx::query_as!(
        Row,
        "select c.id, c.client_id, c.kind, o.handle as organization_handle, c.name, c.client_uri,
                c.redirect_uris, c.application_type, c.auth_method, c.jwks, c.jwks_uri,
                c.id_token_alg, c.scopes, c.visibility,
                c.published_at, c.disabled_at, c.created_at, c.updated_at
         from oauth_clients c
         join organizations o on o.id = c.organization_id
         where c.id = $2 and (c.organization_id = $1) is true",
        organization.0,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(Row::into_app))
}

/// Locks an app of the organization until the transaction ends; nothing happens if it does not
/// exist.
pub async fn lock(db: &mut PgConnection, organization: OrganizationId, id: AppId) -> Result<()> {
    sqlx::query!(
        "select from oauth_clients
         where id = $2 and (organization_id = $1) is true and kind = 'registered' for update",
        organization.0,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(())
}

/// Locks all apps of the organization until the transaction ends, and returns their ids.
pub async fn lock_all(db: &mut PgConnection, organization: OrganizationId) -> Result<Vec<AppId>> {
    let ids = sqlx::query_scalar!(
        "select id from oauth_clients
         where (organization_id = $1) is true and kind = 'registered' order by id for update",
        organization.0,
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(AppId::from_uuid).collect())
}

/// Updates the given fields of an app, and replaces its keys; returns whether it exists.
///
/// # Errors
/// Conflict if another app of the organization has the name.
pub async fn update(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: AppId,
    (changes, keys): (&AppChanges, Option<&ClientKeys>),
    at: DateTime<Utc>,
) -> Result<bool> {
    let uri = changes.client_uri.as_ref();
    let redirect_uris = changes.redirect_uris.as_deref().map(to_stored);
    let scopes = changes.scopes.as_deref().map(scopes_to_stored);
    let keys = StoredKeys::from(keys);
    let result = sqlx::query!(
        "update oauth_clients
         set name = coalesce($3, name),
             client_uri = case when $4 then $5 else client_uri end,
             redirect_uris = coalesce($6, redirect_uris),
             application_type = coalesce($7, application_type),
             auth_method = coalesce($8, auth_method),
             scopes = coalesce($9, scopes),
             jwks = $11, jwks_uri = $12, id_token_alg = coalesce($13, id_token_alg),
             -- The operator has verified another app.
             published_at = case
                 when (name, redirect_uris, scopes)
                      = (coalesce($3, name), coalesce($6, redirect_uris), coalesce($9, scopes))
                      and (not $4 or client_uri is not distinct from $5)
                 then published_at end,
             -- The request's own time may be before a consent that knew the earlier attributes.
             updated_at = greatest($10, clock_timestamp())
         where id = $2 and (organization_id = $1) is true and kind = 'registered'",
        organization.0,
        id.uuid(),
        changes.name.as_ref().map(AppName::as_str),
        uri.is_some(),
        uri.and_then(|it| it.as_ref()).map(ClientUri::as_str),
        redirect_uris.as_deref(),
        changes.application_type.map(ApplicationType::as_str),
        changes.auth_method.map(ClientAuthMethod::as_str),
        scopes.as_deref(),
        at,
        keys.0,
        keys.1,
        changes.id_token_algorithm.map(IdTokenAlgorithm::as_str),
    )
    .execute(db)
    .await
    .map_constraint_violations(&[NAME_TAKEN])?;
    Ok(result.rows_affected() == 1)
}

/// Deletes an app with its secrets, its grants and their tokens; returns whether it existed.
pub async fn delete(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: AppId,
) -> Result<bool> {
    let result = sqlx::query!(
        "delete from oauth_clients
         where id = $2 and (organization_id = $1) is true and kind = 'registered'",
        organization.0,
        id.uuid(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Returns at most `limit` clients of all organizations and of the deployment, or those of one
/// organization, or those of one kind, newest first: those before the one `after`, or the newest.
/// Secrets and grants are not read.
pub async fn list_of_all(
    db: &mut PgConnection,
    (organization_handle, kind): (Option<&str>, Option<ClientKind>),
    after: Option<AppId>,
    limit: i64,
) -> Result<Vec<OauthApp>> {
    let rows = sqlx::query_as!(
        Row,
        "select c.id, c.client_id, c.kind, o.handle as organization_handle, c.name, c.client_uri,
                c.redirect_uris, c.application_type, c.auth_method, c.jwks, c.jwks_uri,
                c.id_token_alg, c.scopes, c.visibility,
                c.published_at, c.disabled_at, c.created_at, c.updated_at
         from oauth_clients c
         join organizations o on o.id = c.organization_id
         where ($1::text is null or lower(o.handle) = lower($1))
           and ($2::uuid is null or c.id < $2)
           and ($4::text is null or c.kind = $4)
         order by c.id desc limit $3",
        organization_handle,
        after.map(AppId::uuid),
        limit,
        kind.map(ClientKind::as_str),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(Row::into_app).collect())
}

/// Locks a client of any kind until the transaction ends. Returns its id and its organization.
pub async fn lock_any(
    db: &mut PgConnection,
    client_id: &str,
) -> Result<Option<(AppId, OrganizationId)>> {
    let row = sqlx::query!(
        "select id, organization_id from oauth_clients where client_id = $1 for update",
        client_id,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (AppId::from_uuid(row.id), OrganizationId(row.organization_id))))
}

/// Makes an app public; returns whether it was private.
pub async fn publish(db: &mut PgConnection, id: AppId, at: DateTime<Utc>) -> Result<bool> {
    let result = sqlx::query!(
        "update oauth_clients set visibility = 'public', published_at = $2, updated_at = $2
         where id = $1 and kind = 'registered' and visibility = 'private'",
        id.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Disables or enables a client of any kind; returns whether that changed anything.
pub async fn set_disabled(
    db: &mut PgConnection,
    id: AppId,
    is_disabled: bool,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update oauth_clients
         set disabled_at = case when $2 then $3::timestamptz end, updated_at = $3
         where id = $1 and (disabled_at is not null) <> $2",
        id.uuid(),
        is_disabled,
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}
