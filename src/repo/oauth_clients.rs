//! OAuth clients, as the authorization server looks them up.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::OrganizationId;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::redirect_uri::RedirectUri;
use crate::model::oauth::{
    ApplicationType, ClientAuthMethod, ClientKind, ClientVisibility, IdTokenAlgorithm,
};
use crate::repo::oauth_client_keys::StoredKeys;

struct Row {
    id: Uuid,
    client_id: String,
    kind: String,
    organization_id: Uuid,
    organization_name: String,
    name: String,
    redirect_uris: Vec<String>,
    application_type: String,
    auth_method: String,
    jwks: Option<Value>,
    jwks_uri: Option<String>,
    id_token_alg: String,
    scopes: Vec<String>,
    visibility: String,
    is_published: bool,
}

impl Row {
    /// Returns the client; `None` only for a word that a constraint of the table excludes.
    fn into_client(self) -> Option<OauthClient> {
        Some(OauthClient {
            id: self.id,
            client_id: self.client_id,
            kind: ClientKind::parse(&self.kind)?,
            organization: OrganizationId(self.organization_id),
            organization_name: self.organization_name,
            name: self.name,
            redirect_uris: self.redirect_uris.into_iter().map(RedirectUri::from_stored).collect(),
            application_type: ApplicationType::parse(&self.application_type)?,
            auth_method: ClientAuthMethod::parse(&self.auth_method)?,
            keys: StoredKeys(self.jwks, self.jwks_uri).into_keys(),
            id_token_algorithm: IdTokenAlgorithm::parse(&self.id_token_alg)?,
            scopes: self.scopes,
            visibility: ClientVisibility::parse(&self.visibility)?,
            is_published: self.is_published,
        })
    }
}

/// Returns the client with this public id; `None` if there is none, it is disabled, or its
/// organization is suspended or deleted. Applies to all organizations.
pub async fn find(db: &mut PgConnection, client_id: &str) -> Result<Option<OauthClient>> {
    let row = sqlx::query_as!(
        Row,
        r#"select c.id, c.client_id, c.kind, c.organization_id, o.name as organization_name,
                  c.name, c.redirect_uris, c.application_type, c.auth_method, c.jwks, c.jwks_uri,
                  c.id_token_alg, c.scopes, c.visibility,
                  c.published_at is not null as "is_published!"
           from oauth_clients c
           join organizations o on o.id = c.organization_id
           where c.client_id = $1 and c.disabled_at is null
             and o.deleted_at is null and o.suspended_at is null"#,
        client_id,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(Row::into_client))
}

/// Locks the client with this public id against changes until the transaction ends. Applies to all
/// organizations.
pub async fn lock_for_share(db: &mut PgConnection, client_id: &str) -> Result<()> {
    sqlx::query!("select id from oauth_clients where client_id = $1 for share", client_id)
        .fetch_optional(db)
        .await?;
    Ok(())
}

/// Returns the internal ids of those of the clients that the organization may know, with their
/// public ids: its own, public ones, and those that its policy names. Applies to all organizations.
pub async fn find_known(
    db: &mut PgConnection,
    organization: OrganizationId,
    client_ids: &[String],
) -> Result<Vec<(String, Uuid)>> {
    let rows = sqlx::query!(
        "select c.client_id, c.id from oauth_clients c
         where c.client_id = any($2)
           and (c.organization_id = $1 or c.visibility = 'public'
                or exists (select from organization_app_rules r
                           where r.client_id = c.id and r.organization_id = $1))",
        organization.0,
        client_ids,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.client_id, row.id)).collect())
}
