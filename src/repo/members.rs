//! Memberships of an organization, with their accounts.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::email::Email;
use crate::model::ids::{AccountId, MembershipId, OrganizationId};
use crate::model::member::Member;
use crate::model::role::Role;

struct Row {
    id: Uuid,
    handle: String,
    account_id: Option<Uuid>,
    email: Option<String>,
    name: Option<String>,
    role: String,
    created_at: DateTime<Utc>,
}

impl Row {
    fn into_member(self) -> Option<Member> {
        Some(Member {
            id: MembershipId(self.id),
            handle: self.handle,
            account: self.account_id.map(AccountId::from_uuid),
            email: self.email,
            name: self.name,
            role: Role::parse(&self.role)?,
            joined_at: self.created_at,
        })
    }
}

/// Returns a page of the organization's memberships whose names or e-mail addresses contain
/// `search`, oldest first, and their total count.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<Member>, i64)> {
    let rows = sqlx::query_as!(
        Row,
        r#"select u.id, u.handle, u.account_id, a.email as "email?", a.name as "name?", u.role,
                  u.created_at
           from users u left join accounts a on a.id = u.account_id
           where u.organization_id = $1 and u.removed_at is null
             and ($2::text is null or strpos(lower(a.name), lower($2)) > 0
                  or strpos(a.email, lower($2)) > 0)
           order by u.id offset $3 limit $4"#,
        organization.0,
        search,
        offset,
        limit,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!"
           from users u left join accounts a on a.id = u.account_id
           where u.organization_id = $1 and u.removed_at is null
             and ($2::text is null or strpos(lower(a.name), lower($2)) > 0
                  or strpos(a.email, lower($2)) > 0)"#,
        organization.0,
        search,
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().filter_map(Row::into_member).collect(), total))
}

/// Returns the membership of the organization with this public id, if it exists.
pub async fn find(
    db: &mut PgConnection,
    organization: OrganizationId,
    handle: &str,
) -> Result<Option<Member>> {
    let row = sqlx::query_as!(
        Row,
        r#"select u.id, u.handle, u.account_id, a.email as "email?", a.name as "name?", u.role,
                  u.created_at
           from users u left join accounts a on a.id = u.account_id
           where u.handle = $2 and (u.organization_id = $1) is true and u.removed_at is null"#,
        organization.0,
        handle,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(Row::into_member))
}

/// Locks a membership of the organization until the transaction ends.
pub async fn lock(db: &mut PgConnection, organization: OrganizationId, handle: &str) -> Result<()> {
    sqlx::query!(
        "select id from users
         where handle = $2 and (organization_id = $1) is true and removed_at is null
         for no key update",
        organization.0,
        handle,
    )
    .fetch_optional(db)
    .await?;
    Ok(())
}

/// Returns whether the account with this e-mail address has a membership in the organization.
pub async fn has_email(
    db: &mut PgConnection,
    organization: OrganizationId,
    email: &Email,
) -> Result<bool> {
    let exists = sqlx::query_scalar!(
        r#"select exists (
               select from users u join accounts a on a.id = u.account_id
               where a.email = $2 and (u.organization_id = $1) is true and u.removed_at is null
           ) as "found!""#,
        organization.0,
        email.as_str(),
    )
    .fetch_one(db)
    .await?;
    Ok(exists)
}

/// Returns the number of the organization's owners with an account, except this membership. A
/// caller that relies on the number must have the organization's lock.
pub async fn count_other_owners(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: MembershipId,
) -> Result<i64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from users
           where organization_id = $1 and id <> $2 and role = 'owner'
             and account_id is not null and removed_at is null"#,
        organization.0,
        id.0,
    )
    .fetch_one(db)
    .await?;
    Ok(count)
}

/// Returns the number of the organization's memberships that have not ended, claimed or not.
pub async fn count(db: &mut PgConnection, organization: OrganizationId) -> Result<u64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from users
           where organization_id = $1 and removed_at is null"#,
        organization.0,
    )
    .fetch_one(db)
    .await?;
    u64::try_from(count).map_err(Error::internal)
}

/// Returns whether the organization has an unclaimed owner's membership: see [`claim`].
pub async fn has_unclaimed_owner(
    db: &mut PgConnection,
    organization: OrganizationId,
) -> Result<bool> {
    let exists = sqlx::query_scalar!(
        r#"select exists (select from users
                          where organization_id = $1 and account_id is null and role = 'owner'
                            and removed_at is null) as "found!""#,
        organization.0,
    )
    .fetch_one(db)
    .await?;
    Ok(exists)
}

/// Sets the role that a member or a key gives a membership; returns whether the membership exists.
pub async fn set_role(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: MembershipId,
    role: Role,
) -> Result<bool> {
    let result = sqlx::query!(
        "update users set role = $3, role_source = null
         where id = $2 and (organization_id = $1) is true and removed_at is null",
        organization.0,
        id.0,
        role.as_str(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Ends a membership; returns whether it existed.
pub async fn remove(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: MembershipId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update users set removed_at = $3
         where id = $2 and (organization_id = $1) is true and removed_at is null",
        organization.0,
        id.0,
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Returns whether the ownership of this membership needs no more proof: the account's address is
/// proven, the membership is unclaimed, or it has ended.
pub async fn is_proven(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: MembershipId,
) -> Result<bool> {
    let is_proven = sqlx::query_scalar!(
        r#"select (u.account_id is null or u.removed_at is not null
                   or a.proven_at is not null) as "is_proven!"
           from users u left join accounts a on a.id = u.account_id
           where u.id = $2 and (u.organization_id = $1) is true"#,
        organization.0,
        id.0,
    )
    .fetch_optional(db)
    .await?;
    Ok(is_proven.unwrap_or(false))
}

/// Assigns the organization's first unclaimed owner's membership to this account; returns it, if
/// there is one. Open signup, the operator and payments create such memberships.
pub async fn claim(
    db: &mut PgConnection,
    organization: OrganizationId,
    account: AccountId,
) -> Result<Option<MembershipId>> {
    let id = sqlx::query_scalar!(
        "update users set account_id = $2
         where id = (select id from users
                     where organization_id = $1 and account_id is null and role = 'owner'
                       and removed_at is null
                     order by id limit 1 for no key update)
         returning id",
        organization.0,
        account.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(id.map(MembershipId))
}
