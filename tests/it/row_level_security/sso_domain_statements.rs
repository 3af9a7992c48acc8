//! Calls of the functions of `repo` for domains.

use chrono::Utc;
use sqlx::PgConnection;
use tenantry::error::Result;
use tenantry::model::ids::DomainId;
use tenantry::model::sso::domain::NewSsoDomain;
use tenantry::model::sso::domain_name::DomainName;
use tenantry::repo::sso_domains;
use uuid::Uuid;

use super::Tenant;
use crate::support::TestApp;

/// Inserts a verified domain for every organization without one; returns that of the organization.
pub async fn add_domain(app: &TestApp, organization: Uuid) -> (DomainId, DomainName) {
    app.insert_domains().await;
    let find = "select id, domain from sso_domains where organization_id = $1";
    let find = sqlx::query_as(find).bind(organization);
    let (id, name): (Uuid, String) = find.fetch_one(&mut app.connect().await).await.unwrap();
    (DomainId::from_uuid(id), DomainName::from_stored(name))
}

/// Returns whether a function for domains finds anything.
pub async fn affects_domains(tx: &mut PgConnection, statement: &str, it: &Tenant) -> Result<bool> {
    let (organization, now) = (it.organization, Utc::now());
    let (id, name) = &it.domain;
    Ok(match statement {
        "sso_domains::count" => sso_domains::count(tx, organization).await? > 0,
        "sso_domains::delete" => sso_domains::delete(tx, organization, *id).await?,
        "sso_domains::find" => sso_domains::find(tx, organization, *id).await?.is_some(),
        "sso_domains::has_verified" => sso_domains::has_verified(tx, organization).await?,
        "sso_domains::insert" => {
            let new = NewSsoDomain {
                id: DomainId::from_uuid(Uuid::from_u128(7)),
                organization,
                name: &DomainName::parse("new.example").unwrap(),
                token: "token",
                created_by: it.owner,
                created_at: now,
            };
            sso_domains::insert(tx, &new).await?;
            false
        }
        "sso_domains::is_verified" => sso_domains::is_verified(tx, organization, name).await?,
        "sso_domains::list" => sso_domains::list(tx, organization, None, (0, 100)).await?.1 > 0,
        "sso_domains::lock" => sso_domains::lock(tx, organization, *id).await?.is_some(),
        "sso_domains::set_verified" => {
            sso_domains::set_verified(tx, organization, *id, now).await?
        }
        other => panic!("no statement {other}"),
    })
}
