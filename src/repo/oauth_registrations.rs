//! OAuth clients that registered themselves (RFC 7591). They belong to the deployment. This
//! module also removes unused clients that no organization registered.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{AppId, OrganizationId};
use crate::model::oauth::app::ClientUri;
use crate::model::oauth::client_metadata::ClientMetadata;
use crate::model::oauth::redirect_uri::{RedirectUri, to_stored};
use crate::model::oauth::registration::{NewRegistration, Registration};
use crate::model::oauth::{ApplicationType, ClientAuthMethod, IdTokenAlgorithm};
use crate::model::secret::Digest;

struct Row {
    id: Uuid,
    name: String,
    client_uri: Option<String>,
    redirect_uris: Vec<String>,
    application_type: String,
    id_token_alg: String,
    scopes: Vec<String>,
    created_at: DateTime<Utc>,
}

impl Row {
    /// Returns the registration; `None` only for a word that a constraint of the table excludes.
    fn into_registration(self) -> Option<Registration> {
        let metadata = ClientMetadata {
            name: self.name,
            client_uri: self.client_uri.and_then(|uri| ClientUri::parse(&uri).ok()),
            redirect_uris: self.redirect_uris.into_iter().map(RedirectUri::from_stored).collect(),
            application_type: ApplicationType::parse(&self.application_type)?,
            auth_method: ClientAuthMethod::None,
            keys: None,
            id_token_algorithm: IdTokenAlgorithm::parse(&self.id_token_alg)?,
            scopes: self.scopes,
        };
        Some(Registration { id: AppId::from_uuid(self.id), metadata, created_at: self.created_at })
    }
}

/// Inserts a client, unless `limit` clients that are not disabled are registered already; returns
/// whether it did. Registrations run one after the other, so that the limit is exact.
pub async fn insert(db: &mut PgConnection, new: &NewRegistration<'_>, limit: i64) -> Result<bool> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('oauth_registrations', 0))")
        .fetch_one(&mut *db)
        .await?;
    let metadata = new.metadata;
    let inserted = sqlx::query!(
        "insert into oauth_clients (id, client_id, organization_id, kind, name, client_uri,
                                    redirect_uris, application_type, auth_method, scopes,
                                    visibility, registration_digest, registration_pepper_id,
                                    created_at, updated_at, id_token_alg)
         select $1, $2, $3, 'dynamic', $4, $5, $6, $7, 'none', $8, 'public', $9, $10, $11, $11, $13
         where (select count(*) from oauth_clients
                where kind = 'dynamic' and disabled_at is null) < $12",
        new.id.uuid(),
        new.id.to_string(),
        OrganizationId::SYSTEM.0,
        metadata.name,
        metadata.client_uri.as_ref().map(ClientUri::as_str),
        &to_stored(&metadata.redirect_uris),
        metadata.application_type.as_str(),
        &metadata.scopes,
        new.digest.bytes().as_slice(),
        new.pepper_id,
        new.created_at,
        limit,
        metadata.id_token_algorithm.as_str(),
    )
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Returns the client with this id if its token has one of these digests, and the operator has not
/// disabled it. It is locked until the transaction ends.
pub async fn lock(
    db: &mut PgConnection,
    id: AppId,
    candidates: &[Digest],
) -> Result<Option<Registration>> {
    let candidates: Vec<Vec<u8>> = candidates.iter().map(|it| it.bytes().to_vec()).collect();
    let row = sqlx::query_as!(
        Row,
        "select id, name, client_uri, redirect_uris, application_type, id_token_alg, scopes,
                created_at
         from oauth_clients
         where id = $1 and registration_digest = any($2) and kind = 'dynamic'
           and disabled_at is null
         for update",
        id.uuid(),
        &candidates,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(Row::into_registration))
}

/// Replaces what a client says about itself.
pub async fn update(
    db: &mut PgConnection,
    id: AppId,
    metadata: &ClientMetadata,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update oauth_clients
         set name = $2, client_uri = $3, redirect_uris = $4, application_type = $5, scopes = $6,
             id_token_alg = $8,
             -- The request's own time may be before a consent that knew the earlier metadata.
             updated_at = greatest($7, clock_timestamp())
         where id = $1 and kind = 'dynamic'",
        id.uuid(),
        metadata.name,
        metadata.client_uri.as_ref().map(ClientUri::as_str),
        &to_stored(&metadata.redirect_uris),
        metadata.application_type.as_str(),
        &metadata.scopes,
        at,
        metadata.id_token_algorithm.as_str(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes a client with its grants and their tokens.
pub async fn delete(db: &mut PgConnection, id: AppId) -> Result<()> {
    sqlx::query!("delete from oauth_clients where id = $1 and kind = 'dynamic'", id.uuid())
        .execute(db)
        .await?;
    Ok(())
}

/// Removes up to 1,000 clients that registered themselves and had no live grant for 30 days, and as
/// many without grants whose metadata documents expired more than a day ago; returns how many. The
/// client of a document is kept if the operator disabled it or an organization's policy names it:
/// it could come back under the same id. Applies to all organizations.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let registered = sqlx::query!(
        "delete from oauth_clients where id = any(array(
             select c.id from oauth_clients c
             where c.kind = 'dynamic' and c.created_at < now() - interval '30 days'
               and not exists (
                   select from oauth_grants g
                   where g.client_id = c.id
                     and (g.revoked_at is null or g.revoked_at > now() - interval '30 days'))
             limit 1000 for update of c skip locked))",
    )
    .execute(&mut *db)
    .await?;
    let documents = sqlx::query!(
        "delete from oauth_clients where id = any(array(
             select c.id from oauth_clients c
             where c.kind = 'document' and c.document_expires_at < now() - interval '1 day'
               and c.disabled_at is null
               and not exists (select from oauth_grants g where g.client_id = c.id)
               and not exists (select from organization_app_rules r where r.client_id = c.id)
             limit 1000 for update of c skip locked))",
    )
    .execute(db)
    .await?;
    Ok(registered.rows_affected() + documents.rows_affected())
}
