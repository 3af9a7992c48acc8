//! Which OAuth clients an organization permits its people to grant access to.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::OrganizationId;

/// Returns those of the organizations whose policy permits the client (OAUTH §2). Whether a
/// private client is the organization's own is not considered. Applies to all organizations.
pub async fn filter_permitting(
    db: &mut PgConnection,
    organizations: &[OrganizationId],
    client: Uuid,
) -> Result<Vec<OrganizationId>> {
    let ids: Vec<Uuid> = organizations.iter().map(|organization| organization.0).collect();
    let permitting = sqlx::query_scalar!(
        r#"select o.id
           from unnest($1::uuid[]) as o (id)
           left join organization_app_policies p on p.organization_id = o.id
           left join organization_app_rules r on r.organization_id = o.id and r.client_id = $2
           where r.rule is distinct from 'blocked'
             and case coalesce(p.mode, 'open') when 'open' then true
                      when 'approved' then r.rule = 'allowed' else false end"#,
        &ids,
        client,
    )
    .fetch_all(db)
    .await?;
    Ok(permitting.into_iter().flatten().map(OrganizationId).collect())
}
