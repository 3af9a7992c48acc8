//! Calls of the functions of `repo` for connections to identity providers.

use chrono::Utc;
use sqlx::PgConnection;
use tenantry::error::Result;
use tenantry::model::ids::ConnectionId;
use tenantry::model::outbound::AllowedHosts;
use tenantry::model::secret::{SealedSecret, Secret};
use tenantry::model::sso::client::ProviderClientId;
use tenantry::model::sso::connection::ConnectionStatus;
use tenantry::model::sso::issuer::Issuer;
use tenantry::model::sso::settings::{ConnectionSpec, NewConnection};
use tenantry::repo::{sso_connections, sso_provider_metadata};
use uuid::Uuid;

use super::Tenant;

/// Returns whether a function for connections finds anything.
pub async fn affects_connections(
    tx: &mut PgConnection,
    statement: &str,
    it: &Tenant,
) -> Result<bool> {
    let (organization, connection, now) = (it.organization, &it.connection, Utc::now());
    let id = connection.id;
    let another = SealedSecret { key_id: "s9".to_owned(), bytes: vec![7] };
    Ok(match statement {
        "sso_connections::count" => sso_connections::count(tx, organization).await? > 0,
        "sso_connections::delete" => sso_connections::delete(tx, organization, id).await?,
        "sso_connections::find" => sso_connections::find(tx, organization, id).await?.is_some(),
        "sso_connections::insert" => {
            let new = NewConnection {
                id: ConnectionId::from_uuid(Uuid::from_u128(7)),
                organization,
                spec: &ConnectionSpec {
                    issuer: Issuer::parse(&connection.issuer, &AllowedHosts::default()).unwrap(),
                    client_id: ProviderClientId::parse(&connection.client_id).unwrap(),
                    client_secret: Secret::new("another".to_owned()),
                    jit: connection.jit.clone(),
                    role_mapping: connection.role_mapping.clone(),
                    session_hours: 24,
                },
                client_secret: &another,
                metadata: &connection.metadata,
                created_by: it.owner,
                created_at: now,
            };
            sso_connections::insert(tx, &new).await?;
            false
        }
        "sso_connections::list" => {
            sso_connections::list(tx, organization, None, (0, 100)).await?.1 > 0
        }
        "sso_connections::lock" => sso_connections::lock(tx, organization, id).await?.is_some(),
        "sso_connections::set_status" => {
            let status = ConnectionStatus::Active;
            sso_connections::set_status(tx, organization, id, status, now).await?
        }
        "sso_connections::update" => {
            sso_connections::update(tx, organization, connection, now).await?
        }
        "sso_provider_metadata::record_error" => {
            sso_provider_metadata::record_error(tx, organization, id, "unreachable").await?;
            false
        }
        "sso_provider_metadata::reseal" => {
            let secrets = (&connection.client_secret, &another);
            sso_provider_metadata::reseal(tx, organization, id, secrets).await?
        }
        "sso_provider_metadata::store" => {
            let (of, metadata) = ((id, connection.issuer.as_str()), &connection.metadata);
            sso_provider_metadata::store(tx, organization, of, metadata, now).await?;
            false
        }
        other => panic!("no statement {other}"),
    })
}
