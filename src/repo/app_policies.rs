//! Which OAuth clients an organization permits its members to grant access to.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{MembershipId, OrganizationId};
use crate::model::oauth::AppPolicyMode;
use crate::model::oauth::app_policy::{AppPolicy, AppRule};

/// Returns those of the organizations whose policy permits the client. Does not check whether a
/// private client is the organization's own. Applies to all organizations.
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
           where permits_app(p.mode, r.rule)"#,
        &ids,
        client,
    )
    .fetch_all(db)
    .await?;
    Ok(permitting.into_iter().flatten().map(OrganizationId).collect())
}

/// Returns the policy of the organization.
pub async fn find(db: &mut PgConnection, organization: OrganizationId) -> Result<AppPolicy> {
    let mode = sqlx::query_scalar!(
        "select mode from organization_app_policies where (organization_id = $1) is true",
        organization.0,
    )
    .fetch_optional(&mut *db)
    .await?;
    let rules = sqlx::query!(
        "select c.client_id, r.rule from organization_app_rules r
         join oauth_clients c on c.id = r.client_id
         where (r.organization_id = $1) is true order by c.client_id",
        organization.0,
    )
    .fetch_all(db)
    .await?;
    let mode = mode.as_deref().and_then(AppPolicyMode::parse);
    let mut policy = AppPolicy { mode: mode.unwrap_or(AppPolicyMode::Open), ..AppPolicy::OPEN };
    for row in rules {
        let is_blocked = row.rule == "blocked";
        let clients = if is_blocked { &mut policy.blocked } else { &mut policy.allowed };
        clients.push(row.client_id);
    }
    Ok(policy)
}

/// Sets the mode of the organization's policy.
pub async fn set_mode(
    db: &mut PgConnection,
    organization: OrganizationId,
    mode: AppPolicyMode,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into organization_app_policies (organization_id, mode, updated_at)
         values ($1, $2, $3)
         on conflict on constraint organization_app_policies_pkey
             do update set mode = excluded.mode, updated_at = excluded.updated_at
             where (organization_app_policies.organization_id = $1) is true",
        organization.0,
        mode.as_str(),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Replaces the clients that the organization's policy names.
pub async fn replace_rules(
    db: &mut PgConnection,
    organization: OrganizationId,
    rules: &[AppRule],
    set_by: MembershipId,
    at: DateTime<Utc>,
) -> Result<()> {
    let clients: Vec<Uuid> = rules.iter().map(|rule| rule.client).collect();
    let words: Vec<String> = rules.iter().map(|rule| rule.word().to_owned()).collect();
    sqlx::query!(
        "delete from organization_app_rules
         where (organization_id = $1) is true and client_id <> all($2)",
        organization.0,
        &clients,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "insert into organization_app_rules (organization_id, client_id, rule, created_by,
                                             created_at)
         select $1, client, rule, $4, $5 from unnest($2::uuid[], $3::text[]) as it (client, rule)
         on conflict on constraint organization_app_rules_pkey
             do update set rule = excluded.rule, created_by = excluded.created_by,
                           created_at = excluded.created_at
             where (organization_app_rules.organization_id = $1) is true
               and organization_app_rules.rule <> excluded.rule",
        organization.0,
        &clients,
        &words,
        set_by.0,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}
