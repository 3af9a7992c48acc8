//! Connections of organizations to identity providers. Each is read with its role mappings, in the
//! order in which they were listed.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use url::Url;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::ids::{ConnectionId, OrganizationId};
use crate::model::role::Role;
use crate::model::secret::SealedSecret;
use crate::model::sso::connection::{
    ConnectionStatus, JitSettings, ProviderMetadata, RoleMapping, SsoConnection,
};
use crate::model::sso::settings::NewConnection;

struct Row {
    id: Uuid,
    organization_id: Uuid,
    status: String,
    issuer: String,
    client_id: String,
    sealed_secret: Vec<u8>,
    sealing_key_id: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    takes_secret_in_body: bool,
    discovered_at: DateTime<Utc>,
    jit_enabled: bool,
    jit_default_role: String,
    syncs_role: bool,
    session_hours: i32,
    last_error: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    claims: Vec<String>,
    values: Vec<String>,
    roles: Vec<String>,
}

impl Row {
    /// Returns the connection; `None` only for a URL that no version stores.
    fn into_connection(self) -> Option<SsoConnection> {
        let mappings = self.claims.into_iter().zip(self.values).zip(self.roles);
        let mapping = |((claim, value), role): ((String, String), String)| RoleMapping {
            claim,
            value,
            role: Role::from_stored(&role),
        };
        let userinfo = self.userinfo_endpoint.map(|text| Url::parse(&text)).transpose();
        Some(SsoConnection {
            id: ConnectionId::from_uuid(self.id),
            organization: OrganizationId(self.organization_id),
            status: ConnectionStatus::from_stored(&self.status),
            issuer: self.issuer,
            client_id: self.client_id,
            client_secret: SealedSecret { key_id: self.sealing_key_id, bytes: self.sealed_secret },
            metadata: ProviderMetadata {
                authorization_endpoint: Url::parse(&self.authorization_endpoint).ok()?,
                token_endpoint: Url::parse(&self.token_endpoint).ok()?,
                jwks_uri: Url::parse(&self.jwks_uri).ok()?,
                userinfo_endpoint: userinfo.ok()?,
                takes_secret_in_body: self.takes_secret_in_body,
            },
            jit: JitSettings {
                is_enabled: self.jit_enabled,
                default_role: Role::from_stored(&self.jit_default_role),
                syncs_role: self.syncs_role,
            },
            role_mapping: mappings.map(mapping).collect(),
            session_hours: self.session_hours,
            last_error: self.last_error,
            discovered_at: self.discovered_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// Runs the query of connections with these parts after its `from` clause, in which `c` is the
/// connection.
macro_rules! select_connections {
    ($rest:tt, $($parameters:expr),* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"select c.id, c.organization_id, c.status, c.issuer, c.client_id, c.sealed_secret,
                      c.sealing_key_id, c.authorization_endpoint, c.token_endpoint, c.jwks_uri,
                      c.userinfo_endpoint, c.takes_secret_in_body, c.discovered_at, c.jit_enabled,
                      c.jit_default_role, c.syncs_role, c.session_hours, c.last_error,
                      c.created_at, c.updated_at,
                      array(select m.claim from sso_role_mappings m
                            where m.connection_id = c.id order by m.position) as "claims!",
                      array(select m.value from sso_role_mappings m
                            where m.connection_id = c.id order by m.position) as "values!",
                      array(select m.role from sso_role_mappings m
                            where m.connection_id = c.id order by m.position) as "roles!"
               from sso_connections c "# + $rest,
            $($parameters),*
        )
    };
}

/// Inserts an inactive connection with its role mappings.
pub async fn insert(db: &mut PgConnection, new: &NewConnection<'_>) -> Result<()> {
    let (spec, metadata) = (new.spec, new.metadata);
    sqlx::query!(
        "insert into sso_connections (id, organization_id, kind, status, issuer, client_id,
                                      sealed_secret, sealing_key_id, authorization_endpoint,
                                      token_endpoint, jwks_uri, userinfo_endpoint,
                                      takes_secret_in_body, jit_enabled, jit_default_role,
                                      syncs_role, session_hours, created_by, discovered_at,
                                      checked_at, created_at, updated_at)
         values ($1, $2, 'oidc', 'inactive', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                 $15, $16, $17, $17, $17, $17)",
        new.id.uuid(),
        new.organization.0,
        spec.issuer.as_str(),
        spec.client_id.as_str(),
        new.client_secret.bytes,
        new.client_secret.key_id,
        metadata.authorization_endpoint.as_str(),
        metadata.token_endpoint.as_str(),
        metadata.jwks_uri.as_str(),
        metadata.userinfo_endpoint.as_ref().map(Url::as_str),
        metadata.takes_secret_in_body,
        spec.jit.is_enabled,
        spec.jit.default_role.as_str(),
        spec.jit.syncs_role,
        spec.session_hours,
        new.created_by.0,
        new.created_at,
    )
    .execute(&mut *db)
    .await?;
    replace_role_mapping(db, new.organization, new.id, &spec.role_mapping).await
}

/// Replaces the role mappings of a connection of the organization.
async fn replace_role_mapping(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: ConnectionId,
    mappings: &[RoleMapping],
) -> Result<()> {
    sqlx::query!(
        "delete from sso_role_mappings
         where connection_id = $2 and (organization_id = $1) is true",
        organization.0,
        id.uuid(),
    )
    .execute(&mut *db)
    .await?;
    let column = |text: fn(&RoleMapping) -> &str| -> Vec<String> {
        mappings.iter().map(|mapping| text(mapping).to_owned()).collect()
    };
    sqlx::query!(
        "insert into sso_role_mappings (connection_id, organization_id, position, claim, value,
                                        role)
         select $2, $1, position, claim, value, role
         from unnest($3::text[], $4::text[], $5::text[])
              with ordinality as it (claim, value, role, position)",
        organization.0,
        id.uuid(),
        &column(|mapping| &mapping.claim),
        &column(|mapping| &mapping.value),
        &column(|mapping| mapping.role.as_str()),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns a page of the organization's connections whose issuers contain `search`, newest first,
/// and their total count.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<SsoConnection>, i64)> {
    let rows = select_connections!(
        "where (c.organization_id = $1) is true
           and ($2::text is null or strpos(lower(c.issuer), lower($2)) > 0)
         order by c.id desc offset $3 limit $4",
        organization.0,
        search,
        offset,
        limit,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from sso_connections
           where (organization_id = $1) is true
             and ($2::text is null or strpos(lower(issuer), lower($2)) > 0)"#,
        organization.0,
        search,
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().filter_map(Row::into_connection).collect(), total))
}

/// Returns the number of the organization's connections.
pub async fn count(db: &mut PgConnection, organization: OrganizationId) -> Result<usize> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from sso_connections
           where (organization_id = $1) is true"#,
        organization.0,
    )
    .fetch_one(db)
    .await?;
    usize::try_from(count).map_err(Error::internal)
}

/// Returns a connection of the organization, if it exists.
pub async fn find(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: ConnectionId,
) -> Result<Option<SsoConnection>> {
    let row = select_connections!(
        "where c.id = $2 and (c.organization_id = $1) is true",
        organization.0,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(Row::into_connection))
}

/// Returns a connection of any organization that is not deleted, in any state, for sign-in.
pub async fn find_by_id(db: &mut PgConnection, id: ConnectionId) -> Result<Option<SsoConnection>> {
    let row = select_connections!(
        "join organizations o on o.id = c.organization_id
         where c.id = $1 and o.deleted_at is null",
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(Row::into_connection))
}

/// Returns the active connections of an organization, oldest first; none if it is deleted.
pub async fn find_active_of(
    db: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<SsoConnection>> {
    let rows = select_connections!(
        "join organizations o on o.id = c.organization_id
         where (c.organization_id = $1) is true and c.status = 'active' and o.deleted_at is null
         order by c.id",
        organization.0,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(Row::into_connection).collect())
}

/// Locks a connection of the organization until the transaction ends, and returns it, if it exists.
pub async fn lock(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: ConnectionId,
) -> Result<Option<SsoConnection>> {
    sqlx::query!(
        "select from sso_connections where id = $2 and (organization_id = $1) is true for update",
        organization.0,
        id.uuid(),
    )
    .fetch_optional(&mut *db)
    .await?;
    find(db, organization, id).await
}

/// Updates what the organization chose, and the secret; returns whether the connection exists. Its
/// state and its metadata stay as they are.
pub async fn update(
    db: &mut PgConnection,
    organization: OrganizationId,
    connection: &SsoConnection,
    at: DateTime<Utc>,
) -> Result<bool> {
    let (id, jit) = (connection.id, &connection.jit);
    let result = sqlx::query!(
        "update sso_connections
         set issuer = $3, client_id = $4, sealed_secret = $5, sealing_key_id = $6,
             jit_enabled = $7, jit_default_role = $8, syncs_role = $9, session_hours = $10,
             updated_at = $11
         where id = $2 and (organization_id = $1) is true",
        organization.0,
        id.uuid(),
        connection.issuer,
        connection.client_id,
        connection.client_secret.bytes,
        connection.client_secret.key_id,
        jit.is_enabled,
        jit.default_role.as_str(),
        jit.syncs_role,
        connection.session_hours,
        at,
    )
    .execute(&mut *db)
    .await?;
    if result.rows_affected() == 1 {
        replace_role_mapping(db, organization, id, &connection.role_mapping).await?;
    }
    Ok(result.rows_affected() == 1)
}

/// Sets the state of a connection of the organization; returns whether that changed it.
pub async fn set_status(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: ConnectionId,
    status: ConnectionStatus,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update sso_connections
         set status = $3, updated_at = $4,
             disabled_at = case when $3 = 'disabled' then $4::timestamptz end
         where id = $2 and (organization_id = $1) is true and status <> $3",
        organization.0,
        id.uuid(),
        status.as_str(),
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Deletes a connection of the organization with its role mappings; returns whether it existed.
pub async fn delete(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: ConnectionId,
) -> Result<bool> {
    let result = sqlx::query!(
        "delete from sso_connections where id = $2 and (organization_id = $1) is true",
        organization.0,
        id.uuid(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}
