//! Organizations.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::{Error, Result};
use crate::model::ids::{AccountId, MembershipId, OrganizationId};
use crate::model::leak::LeakPolicy;
use crate::model::names::OrganizationName;
use crate::model::organization::{
    BusinessDomain, NewOrganization, Organization, OrganizationChanges,
};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::origin::Origin;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::repo::MapConstraintViolations;

/// Inserts an organization and returns it, without a caller's role.
///
/// # Errors
/// Conflict if the handle is taken, ignoring case.
pub async fn insert(db: &mut PgConnection, new: &NewOrganization<'_>) -> Result<Organization> {
    let row = sqlx::query_as!(
        Row,
        r#"insert into organizations (id, handle, name, plan, domain, allowed_origins, created_at,
                                    updated_at, leak_policy)
         values ($1, $2, $3, $4, $5, $6, $7, $7, $8)
         returning handle, name, plan, null::text as role, false as "is_suspended!",
                   allowed_origins, leak_policy, created_at, updated_at"#,
        new.id.0,
        new.handle.as_str(),
        new.name,
        new.plan.as_str(),
        new.domain.map(BusinessDomain::as_str),
        &to_strings(new.allowed_origins),
        new.created_at,
        new.leak_policy.as_str(),
    )
    .fetch_one(db)
    .await
    .map_constraint_violations(&[(
        "organizations_handle_key",
        "An organization with this org_id already exists",
    )])?;
    row.into_organization()
        .ok_or_else(|| Error::internal("an organization has an unknown plan or leak policy"))
}

struct Row {
    handle: String,
    name: String,
    plan: String,
    role: Option<String>,
    is_suspended: bool,
    allowed_origins: Vec<String>,
    leak_policy: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn into_organization(self) -> Option<Organization> {
        Some(Organization {
            handle: self.handle,
            name: self.name,
            plan: Plan::parse(&self.plan)?,
            role: self.role.as_deref().and_then(Role::parse),
            is_suspended: self.is_suspended,
            allowed_origins: self.allowed_origins,
            leak_policy: LeakPolicy::parse(&self.leak_policy)?,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// Returns a page of the organizations in which the account has a membership and whose names or ids
/// contain `search`, in the order of their names, and their total count. With `only`, returns at
/// most this organization.
pub async fn list_for_account(
    db: &mut PgConnection,
    account: AccountId,
    only: Option<OrganizationId>,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<Organization>, i64)> {
    let only = only.map(|organization| organization.0);
    let rows = sqlx::query_as!(
        Row,
        r#"select o.handle, o.name, o.plan, u.role as "role?",
                  o.suspended_at is not null as "is_suspended!", o.allowed_origins,
                  o.leak_policy, o.created_at, o.updated_at
         from users u join organizations o on o.id = u.organization_id
         where u.account_id = $1 and u.removed_at is null and o.deleted_at is null
           and ($2::text is null or strpos(lower(o.name), lower($2)) > 0
                or strpos(lower(o.handle), lower($2)) > 0)
           and ($5::uuid is null or o.id = $5)
         order by lower(o.name), o.id offset $3 limit $4"#,
        account.uuid(),
        search,
        offset,
        limit,
        only,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!"
           from users u join organizations o on o.id = u.organization_id
           where u.account_id = $1 and u.removed_at is null and o.deleted_at is null
             and ($2::text is null or strpos(lower(o.name), lower($2)) > 0
                  or strpos(lower(o.handle), lower($2)) > 0)
             and ($3::uuid is null or o.id = $3)"#,
        account.uuid(),
        search,
        only,
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().filter_map(Row::into_organization).collect(), total))
}

/// A membership of an account, and its organization.
pub struct AccountMembership {
    /// The internal id of the organization.
    pub organization: OrganizationId,
    /// Whether the organization is suspended.
    pub is_suspended: bool,
    /// The internal id of the membership.
    pub id: MembershipId,
}

/// Returns the account's membership in the organization with this handle, ignoring case.
pub async fn find_membership(
    db: &mut PgConnection,
    account: AccountId,
    handle: &OrganizationHandle,
) -> Result<Option<AccountMembership>> {
    let row = sqlx::query!(
        r#"select o.id, o.suspended_at is not null as "is_suspended!", u.id as user_id
           from organizations o
           join users u on u.organization_id = o.id and u.account_id = $1 and u.removed_at is null
           where lower(o.handle collate "C") = lower($2 collate "C") and o.deleted_at is null"#,
        account.uuid(),
        handle.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| AccountMembership {
        organization: OrganizationId(row.id),
        is_suspended: row.is_suspended,
        id: MembershipId(row.user_id),
    }))
}

/// Returns the internal id of the organization with this handle, ignoring case.
pub async fn find_id(
    db: &mut PgConnection,
    handle: &OrganizationHandle,
) -> Result<Option<OrganizationId>> {
    let id = sqlx::query_scalar!(
        r#"select id from organizations
           where lower(handle collate "C") = lower($1 collate "C") and deleted_at is null"#,
        handle.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(id.map(OrganizationId))
}

/// A locked organization.
pub struct LockedOrganization {
    /// Its plan.
    pub plan: Plan,
    /// Whether it is suspended.
    pub is_suspended: bool,
}

/// Locks the organization until the transaction ends, so that transactions that count what a plan
/// limits, or change its memberships, run one after the other. `None` if it was deleted.
///
/// Invariant: everywhere, accounts are locked first, then organizations, then sessions and tokens,
/// then memberships, then keys, so that two transactions cannot deadlock.
pub async fn lock(db: &mut PgConnection, id: OrganizationId) -> Result<Option<LockedOrganization>> {
    let row = sqlx::query!(
        r#"select plan, suspended_at is not null as "is_suspended!" from organizations
           where id = $1 and deleted_at is null for no key update"#,
        id.0,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(|row| {
        Some(LockedOrganization { plan: Plan::parse(&row.plan)?, is_suspended: row.is_suspended })
    }))
}

/// Returns an organization that is not deleted, without a caller's role.
pub async fn find(db: &mut PgConnection, id: OrganizationId) -> Result<Option<Organization>> {
    let row = sqlx::query_as!(
        Row,
        r#"select handle, name, plan, null::text as role,
                  suspended_at is not null as "is_suspended!", allowed_origins, leak_policy,
                  created_at, updated_at
           from organizations where id = $1 and deleted_at is null"#,
        id.0,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(Row::into_organization))
}

/// Updates the settings that are given.
pub async fn update(
    db: &mut PgConnection,
    id: OrganizationId,
    changes: &OrganizationChanges,
    at: DateTime<Utc>,
) -> Result<()> {
    let origins = changes.allowed_origins.as_deref().map(to_strings);
    sqlx::query!(
        "update organizations
         set name = coalesce($2, name), allowed_origins = coalesce($3, allowed_origins),
             updated_at = $4, leak_policy = coalesce($5, leak_policy)
         where id = $1 and deleted_at is null",
        id.0,
        changes.name.as_ref().map(OrganizationName::as_str),
        origins.as_deref(),
        at,
        changes.leak_policy.map(LeakPolicy::as_str),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns those of these browser origins that an active organization lists.
pub async fn filter_listed_origins(
    db: &mut PgConnection,
    origins: &[&str],
) -> Result<HashSet<String>> {
    let listed = sqlx::query_scalar!(
        r#"select asked.origin as "origin!" from unnest($1::text[]) asked (origin)
           where exists (select from organizations
                         where allowed_origins @> array[asked.origin]
                           and deleted_at is null and suspended_at is null)"#,
        origins as &[&str],
    )
    .fetch_all(db)
    .await?;
    Ok(listed.into_iter().collect())
}

fn to_strings(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| origin.as_str().to_owned()).collect()
}

/// Deletes an organization: its keys are rejected from now on, and its handle is never reused. The
/// handle replaces the name, which may be the name of a person.
pub async fn delete(db: &mut PgConnection, id: OrganizationId, at: DateTime<Utc>) -> Result<()> {
    sqlx::query!(
        // Another organization may verify its domains.
        "with domains as (delete from sso_domains where organization_id = $1)
         update organizations set deleted_at = $2, updated_at = $2, name = handle
         where id = $1 and deleted_at is null",
        id.0,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns whether an organization with this handle, ignoring case, was deleted. Deletion is final.
pub async fn is_deleted(db: &mut PgConnection, handle: &OrganizationHandle) -> Result<bool> {
    let deleted = sqlx::query_scalar!(
        r#"select exists (select from organizations
                          where lower(handle collate "C") = lower($1 collate "C")
                            and deleted_at is not null) as "deleted!""#,
        handle.as_str(),
    );
    Ok(deleted.fetch_one(db).await?)
}
