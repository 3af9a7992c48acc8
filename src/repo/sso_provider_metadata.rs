//! What the server keeps up to date of connections to identity providers: the providers' metadata,
//! and the keys that seal the client secrets.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use url::Url;

use crate::error::Result;
use crate::model::ids::{ConnectionId, OrganizationId};
use crate::model::secret::SealedSecret;
use crate::model::sso::connection::ProviderMetadata;

/// An active connection whose metadata is to be fetched again.
pub struct DueConnection {
    /// Its id.
    pub id: ConnectionId,
    /// The organization.
    pub organization: OrganizationId,
    /// The provider's issuer identifier.
    pub issuer: String,
}

/// Claims at most `limit` active connections of all organizations whose metadata was not fetched
/// for the time `age` before `now`: no other call returns them until that time has passed again.
pub async fn claim_due(
    db: &mut PgConnection,
    now: DateTime<Utc>,
    age: TimeDelta,
    limit: i64,
) -> Result<Vec<DueConnection>> {
    let rows = sqlx::query!(
        "update sso_connections c set checked_at = $1
         where c.id = any(array(
             select d.id from sso_connections d
             join organizations o on o.id = d.organization_id
             where d.status = 'active' and d.checked_at <= $2 and o.deleted_at is null
             order by d.checked_at limit $3 for update of d skip locked))
         returning c.id, c.organization_id, c.issuer",
        now,
        now - age,
        limit,
    )
    .fetch_all(db)
    .await?;
    let due = rows.into_iter().map(|row| DueConnection {
        id: ConnectionId::from_uuid(row.id),
        organization: OrganizationId(row.organization_id),
        issuer: row.issuer,
    });
    Ok(due.collect())
}

/// Stores the metadata of a connection's provider, and that nothing is wrong with it. Does nothing
/// if the connection has another issuer by now.
pub async fn store(
    db: &mut PgConnection,
    organization: OrganizationId,
    (id, issuer): (ConnectionId, &str),
    metadata: &ProviderMetadata,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update sso_connections
         set authorization_endpoint = $4, token_endpoint = $5, jwks_uri = $6,
             userinfo_endpoint = $7, takes_secret_in_body = $8, discovered_at = $9,
             checked_at = $9, last_error = null
         where id = $2 and (organization_id = $1) is true and issuer = $3",
        organization.0,
        id.uuid(),
        issuer,
        metadata.authorization_endpoint.as_str(),
        metadata.token_endpoint.as_str(),
        metadata.jwks_uri.as_str(),
        metadata.userinfo_endpoint.as_ref().map(Url::as_str),
        metadata.takes_secret_in_body,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores what was wrong with a connection's provider. The metadata stays as it is.
pub async fn record_error(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: ConnectionId,
    error: &str,
) -> Result<()> {
    sqlx::query!(
        "update sso_connections set last_error = $3
         where id = $2 and (organization_id = $1) is true",
        organization.0,
        id.uuid(),
        error,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns at most 100 secrets of all organizations that another key than this one sealed, after
/// the connection `after`, in the order of the connections' ids.
pub async fn list_sealed_with_other_keys(
    db: &mut PgConnection,
    key_id: &str,
    after: Option<ConnectionId>,
) -> Result<Vec<(ConnectionId, OrganizationId, SealedSecret)>> {
    let rows = sqlx::query!(
        "select id, organization_id, sealed_secret, sealing_key_id from sso_connections
         where sealing_key_id <> $1 and ($2::uuid is null or id > $2) order by id limit 100",
        key_id,
        after.map(ConnectionId::uuid),
    )
    .fetch_all(db)
    .await?;
    let secrets = rows.into_iter().map(|row| {
        let sealed = SealedSecret { key_id: row.sealing_key_id, bytes: row.sealed_secret };
        (ConnectionId::from_uuid(row.id), OrganizationId(row.organization_id), sealed)
    });
    Ok(secrets.collect())
}

/// Replaces a sealed secret by the same one, sealed with another key. Does nothing if the
/// connection has another secret by now. Returns whether it was replaced.
pub async fn reseal(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: ConnectionId,
    (before, after): (&SealedSecret, &SealedSecret),
) -> Result<bool> {
    let result = sqlx::query!(
        "update sso_connections set sealed_secret = $4, sealing_key_id = $5
         where id = $2 and (organization_id = $1) is true and sealed_secret = $3",
        organization.0,
        id.uuid(),
        before.bytes,
        after.bytes,
        after.key_id,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Returns the number of secrets that each sealing key sealed. Applies to all organizations.
pub async fn count_per_sealing_key(db: &mut PgConnection) -> Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"select sealing_key_id, count(*) as "count!" from sso_connections
           group by sealing_key_id order by sealing_key_id"#,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.sealing_key_id, row.count)).collect())
}
