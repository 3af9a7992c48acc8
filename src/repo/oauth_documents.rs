//! OAuth clients that are known by their metadata documents. They belong to the deployment.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::{AppId, OrganizationId};
use crate::model::oauth::app::ClientUri;
use crate::model::oauth::client_metadata::ClientMetadata;
use crate::model::oauth::redirect_uri::to_stored;
use crate::repo::oauth_client_keys::StoredKeys;

/// What is stored about a document beside the client itself.
pub struct StoredDocument {
    /// Until when it may be used.
    pub expires_at: DateTime<Utc>,
    /// Its validator.
    pub etag: Option<String>,
    /// Whether the operator disabled the client.
    pub is_disabled: bool,
}

/// A document to store.
pub struct NewDocument<'a> {
    /// The id of the client, if it is not stored yet.
    pub id: AppId,
    /// The URL of the document.
    pub client_id: &'a str,
    /// What it says.
    pub metadata: &'a ClientMetadata,
    /// Its validator.
    pub etag: Option<String>,
    /// Until when it may be used.
    pub expires_at: DateTime<Utc>,
    /// When it was fetched.
    pub fetched_at: DateTime<Utc>,
}

/// Returns what is stored about the document with this URL. Applies to all organizations.
pub async fn find(db: &mut PgConnection, client_id: &str) -> Result<Option<StoredDocument>> {
    let row = sqlx::query_as!(
        StoredDocument,
        r#"select document_expires_at as "expires_at!", document_etag as etag,
                  disabled_at is not null as "is_disabled!"
           from oauth_clients where client_id = $1 and kind = 'document'"#,
        client_id,
    )
    .fetch_optional(db)
    .await?;
    Ok(row)
}

/// Stores a document. The client stays the same: whether it is disabled, what organizations decided
/// about it and the grants to it do not change. `updated_at` changes only if what accounts see of
/// the document has changed, so that they are asked again.
pub async fn upsert(db: &mut PgConnection, new: &NewDocument<'_>) -> Result<()> {
    let metadata = new.metadata;
    let keys = StoredKeys::from(metadata.keys.as_ref());
    sqlx::query!(
        "insert into oauth_clients as c (id, client_id, organization_id, kind, name, client_uri,
                                         redirect_uris, application_type, auth_method, scopes,
                                         visibility, document_etag, document_expires_at,
                                         created_at, updated_at, jwks, jwks_uri, id_token_alg)
         values ($1, $2, $3, 'document', $4, $5, $6, $7, $12, $8, 'public', $9, $10, $11, $11,
                 $13, $14, $15)
         on conflict (client_id) do update
         set name = excluded.name, client_uri = excluded.client_uri,
             redirect_uris = excluded.redirect_uris,
             application_type = excluded.application_type, scopes = excluded.scopes,
             auth_method = excluded.auth_method, jwks = excluded.jwks,
             jwks_uri = excluded.jwks_uri, id_token_alg = excluded.id_token_alg,
             document_etag = excluded.document_etag,
             document_expires_at = excluded.document_expires_at,
             updated_at = case
                 when (c.name, c.client_uri, c.redirect_uris, c.application_type, c.scopes)
                      is distinct from (excluded.name, excluded.client_uri, excluded.redirect_uris,
                                        excluded.application_type, excluded.scopes)
                 then greatest(excluded.updated_at, clock_timestamp()) else c.updated_at end
         where c.kind = 'document'",
        new.id.uuid(),
        new.client_id,
        OrganizationId::SYSTEM.0,
        metadata.name,
        metadata.client_uri.as_ref().map(ClientUri::as_str),
        &to_stored(&metadata.redirect_uris),
        metadata.application_type.as_str(),
        &metadata.scopes,
        new.etag,
        new.expires_at,
        new.fetched_at,
        metadata.auth_method.as_str(),
        keys.0,
        keys.1,
        metadata.id_token_algorithm.as_str(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Extends the time for which the stored document may be used. A client that was removed meanwhile
/// stays unknown.
pub async fn extend(
    db: &mut PgConnection,
    client_id: &str,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update oauth_clients set document_expires_at = $2
         where client_id = $1 and kind = 'document'",
        client_id,
        expires_at,
    )
    .execute(db)
    .await?;
    Ok(())
}
