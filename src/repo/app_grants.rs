//! Grants to OAuth clients: the lists for accounts and organizations, and revocation.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::account_reach::AccountReach;
use crate::model::ids::{AccountId, AppId, GrantId, OrganizationId};
use crate::model::oauth::ClientKind;
use crate::model::oauth::app_grant::{
    EndedGrants, GrantCount, GrantFilter, GrantRevocationReason, ListedGrant, RevokedGrant,
};
use crate::model::role::Role;

struct Row {
    id: Uuid,
    client_id: String,
    client_name: String,
    client_kind: String,
    is_public: bool,
    account_id: Uuid,
    email: Option<String>,
    organization_handle: Option<String>,
    role: Option<String>,
    scopes: Vec<String>,
    resources: Vec<String>,
    created_at: DateTime<Utc>,
    last_used_at: Option<DateTime<Utc>>,
}

impl Row {
    /// Returns the grant; `None` only for a word that a constraint of a table excludes.
    fn into_grant(self) -> Option<ListedGrant> {
        let kind = ClientKind::parse(&self.client_kind)?;
        Some(ListedGrant {
            id: GrantId::from_uuid(self.id),
            client_id: self.client_id,
            client_name: self.client_name,
            client_kind: kind,
            is_verified: self.is_public && kind == ClientKind::Registered,
            account: AccountId::from_uuid(self.account_id),
            email: self.email,
            organization_handle: self.organization_handle,
            role: self.role.as_deref().map(Role::from_stored),
            scopes: self.scopes,
            resources: self.resources,
            created_at: self.created_at,
            last_used_at: self.last_used_at,
        })
    }
}

struct RevokedRow {
    id: Uuid,
    client_id: String,
    client_name: String,
    account_id: Uuid,
    organization_id: Option<Uuid>,
}

impl From<RevokedRow> for RevokedGrant {
    fn from(row: RevokedRow) -> Self {
        Self {
            id: GrantId::from_uuid(row.id),
            client_id: row.client_id,
            client_name: row.client_name,
            account: AccountId::from_uuid(row.account_id),
            organization: row.organization_id.map(OrganizationId),
        }
    }
}

/// Returns a page of the organization's live grants, newest first, and their total count. `search`
/// must be in the name of the client or in the person's address.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    filter: &GrantFilter,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<ListedGrant>, i64)> {
    let rows = sqlx::query_as!(
        Row,
        r#"select g.id, c.client_id, c.name as client_name, c.kind as client_kind,
                  c.visibility = 'public' as "is_public!", g.account_id, a.email as "email?",
                  o.handle as "organization_handle?", u.role as "role?", g.scopes, g.resources,
                  g.created_at, g.last_used_at
           from oauth_grants g
           join oauth_clients c on c.id = g.client_id
           join organizations o on o.id = g.organization_id
           join users u on u.organization_id = g.organization_id and u.id = g.user_id
                       and u.removed_at is null
           join accounts a on a.id = g.account_id
           where (g.organization_id = $1) is true and g.revoked_at is null
             and ($2::text is null or c.client_id = $2)
             and ($3::uuid is null or g.account_id = $3)
             and ($4::text is null or strpos(lower(c.name), lower($4)) > 0
                  or strpos(lower(a.email), lower($4)) > 0)
           order by g.id desc offset $5 limit $6"#,
        organization.0,
        filter.client_id,
        filter.account.map(AccountId::uuid),
        search,
        offset,
        limit,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!"
           from oauth_grants g
           join oauth_clients c on c.id = g.client_id
           join users u on u.organization_id = g.organization_id and u.id = g.user_id
                       and u.removed_at is null
           join accounts a on a.id = g.account_id
           where (g.organization_id = $1) is true and g.revoked_at is null
             and ($2::text is null or c.client_id = $2)
             and ($3::uuid is null or g.account_id = $3)
             and ($4::text is null or strpos(lower(c.name), lower($4)) > 0
                  or strpos(lower(a.email), lower($4)) > 0)"#,
        organization.0,
        filter.client_id,
        filter.account.map(AccountId::uuid),
        search,
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().filter_map(Row::into_grant).collect(), total))
}

/// Returns whether the organization has or had the grant.
pub async fn exists(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: GrantId,
) -> Result<bool> {
    let exists = sqlx::query_scalar!(
        r#"select exists (select from oauth_grants
                          where id = $2 and (organization_id = $1) is true) as "exists!""#,
        organization.0,
        id.uuid(),
    )
    .fetch_one(db)
    .await?;
    Ok(exists)
}

/// Revokes a grant of the organization, unless it is revoked.
pub async fn revoke(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: GrantId,
    at: DateTime<Utc>,
) -> Result<Option<RevokedGrant>> {
    let row = sqlx::query_as!(
        RevokedRow,
        "update oauth_grants g set revoked_at = $3, updated_at = $3, revoked_reason = $4
         from oauth_clients c
         where g.id = $2 and (g.organization_id = $1) is true and g.revoked_at is null
           and c.id = g.client_id
         returning g.id, c.client_id, c.name as client_name, g.account_id, g.organization_id",
        organization.0,
        id.uuid(),
        at,
        GrantRevocationReason::Organization.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(RevokedGrant::from))
}

/// Revokes all grants of a client in the organization.
pub async fn revoke_of_client(
    db: &mut PgConnection,
    organization: OrganizationId,
    client_id: &str,
    at: DateTime<Utc>,
) -> Result<Vec<RevokedGrant>> {
    let rows = sqlx::query_as!(
        RevokedRow,
        "update oauth_grants g set revoked_at = $3, updated_at = $3, revoked_reason = $4
         from oauth_clients c
         where (g.organization_id = $1) is true and g.revoked_at is null
           and c.id = g.client_id and c.client_id = $2
         returning g.id, c.client_id, c.name as client_name, g.account_id, g.organization_id",
        organization.0,
        client_id,
        at,
        GrantRevocationReason::Organization.as_str(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(RevokedGrant::from).collect())
}

/// Revokes the grants in the organization that its policy does not permit.
pub async fn revoke_forbidden(
    db: &mut PgConnection,
    organization: OrganizationId,
    at: DateTime<Utc>,
) -> Result<Vec<RevokedGrant>> {
    let rows = sqlx::query_as!(
        RevokedRow,
        "update oauth_grants g set revoked_at = $2, updated_at = $2, revoked_reason = $3
         from oauth_clients c
         left join organization_app_rules r on r.client_id = c.id and r.organization_id = $1
         left join organization_app_policies p on p.organization_id = $1
         where (g.organization_id = $1) is true and g.revoked_at is null and c.id = g.client_id
           and not permits_app(p.mode, r.rule)
         returning g.id, c.client_id, c.name as client_name, g.account_id, g.organization_id",
        organization.0,
        at,
        GrantRevocationReason::Policy.as_str(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(RevokedGrant::from).collect())
}

/// Returns the account's live grants within this reach, newest first.
pub async fn list_of_account(
    db: &mut PgConnection,
    reach: AccountReach,
) -> Result<Vec<ListedGrant>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select g.id, c.client_id, c.name as client_name, c.kind as client_kind,
                  c.visibility = 'public' as "is_public!", g.account_id, null::text as "email?",
                  o.handle as "organization_handle?", u.role as "role?", g.scopes, g.resources,
                  g.created_at, g.last_used_at
           from oauth_grants g
           join oauth_clients c on c.id = g.client_id
           left join organizations o on o.id = g.organization_id
           left join users u on u.organization_id = g.organization_id and u.id = g.user_id
           where g.account_id = $1 and g.revoked_at is null
             and (g.organization_id is null
                  or (o.deleted_at is null and u.removed_at is null))
             and ($2::uuid is null or g.organization_id = $2)
           order by g.id desc"#,
        reach.account.uuid(),
        reach.only.map(|organization| organization.0),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(Row::into_grant).collect())
}

/// Returns whether the account has or had the grant, within this reach.
pub async fn exists_of_account(
    db: &mut PgConnection,
    reach: AccountReach,
    id: GrantId,
) -> Result<bool> {
    let exists = sqlx::query_scalar!(
        r#"select exists (select from oauth_grants
                          where id = $2 and account_id = $1
                            and ($3::uuid is null or organization_id = $3)) as "exists!""#,
        reach.account.uuid(),
        id.uuid(),
        reach.only.map(|organization| organization.0),
    )
    .fetch_one(db)
    .await?;
    Ok(exists)
}

/// Revokes a grant of the account within this reach, unless it is revoked.
pub async fn revoke_of_account(
    db: &mut PgConnection,
    reach: AccountReach,
    id: GrantId,
    at: DateTime<Utc>,
) -> Result<Option<RevokedGrant>> {
    let row = sqlx::query_as!(
        RevokedRow,
        "update oauth_grants g set revoked_at = $3, updated_at = $3, revoked_reason = $4
         from oauth_clients c
         where g.id = $2 and g.account_id = $1 and g.revoked_at is null and c.id = g.client_id
           and ($5::uuid is null or g.organization_id = $5)
         returning g.id, c.client_id, c.name as client_name, g.account_id, g.organization_id",
        reach.account.uuid(),
        id.uuid(),
        at,
        GrantRevocationReason::Person.as_str(),
        reach.only.map(|organization| organization.0),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(RevokedGrant::from))
}

/// Revokes all grants of these apps, which the caller has locked, in all organizations. Returns
/// their numbers for each audit log that records them, in the order of the organizations' ids. The
/// audit log of an account is that of its home organization while the account is a member there.
pub async fn end_all(
    db: &mut PgConnection,
    apps: &[AppId],
    reason: GrantRevocationReason,
    at: DateTime<Utc>,
) -> Result<Vec<EndedGrants>> {
    let apps: Vec<Uuid> = apps.iter().map(|app| app.uuid()).collect();
    let rows = sqlx::query!(
        r#"with ended as (
               update oauth_grants g set revoked_at = $2, updated_at = $2, revoked_reason = $3
               from oauth_clients c
               where g.client_id = any($1) and g.revoked_at is null and c.id = g.client_id
               returning g.client_id, c.name, g.account_id, g.organization_id)
           select e.client_id as "app!", e.name as "name!",
                  coalesce(e.organization_id, o.id, $4::uuid) as "organization!",
                  count(*) as "count!"
           from ended e
           left join accounts a on a.id = e.account_id and e.organization_id is null
           left join (organizations o
                      join users u on u.organization_id = o.id and u.removed_at is null)
               on o.id = a.home_organization_id and o.deleted_at is null and u.account_id = a.id
           group by 3, 1, 2 order by 3, 1"#,
        &apps,
        at,
        reason.as_str(),
        OrganizationId::SYSTEM.0,
    )
    .fetch_all(db)
    .await?;
    let ended = rows.into_iter().map(|row| EndedGrants {
        app: AppId::from_uuid(row.app),
        name: row.name,
        organization: OrganizationId(row.organization),
        count: row.count,
    });
    Ok(ended.collect())
}

/// Returns the numbers of live grants of these apps, in all organizations. An app without one is
/// left out.
pub async fn count_live(db: &mut PgConnection, apps: &[AppId]) -> Result<Vec<GrantCount>> {
    let apps: Vec<Uuid> = apps.iter().map(|app| app.uuid()).collect();
    let counts = sqlx::query_as!(
        GrantCount,
        r#"select g.client_id as client, count(*) as "count!"
           from oauth_grants g
           left join organizations o on o.id = g.organization_id
           left join users u on u.organization_id = g.organization_id and u.id = g.user_id
           where g.client_id = any($1) and g.revoked_at is null
             and (g.organization_id is null
                  or (o.deleted_at is null and u.removed_at is null))
           group by 1"#,
        &apps,
    )
    .fetch_all(db)
    .await?;
    Ok(counts)
}
