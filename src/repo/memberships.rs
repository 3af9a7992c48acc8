//! Memberships in organizations.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::{AccountId, MembershipId, OrganizationId};
use crate::model::member::NewMembership;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::role::Role;
use crate::repo::MapConstraintViolations;

/// Inserts a membership.
///
/// # Errors
/// Conflict if the random handle is taken, or the account has a membership in the organization
/// already.
pub async fn insert(db: &mut PgConnection, membership: &NewMembership<'_>) -> Result<()> {
    sqlx::query!(
        "insert into users (id, organization_id, handle, role, account_id, created_at)
         values ($1, $2, $3, $4, $5, $6)",
        membership.id.0,
        membership.organization.0,
        membership.handle,
        membership.role.as_str(),
        membership.account.map(AccountId::uuid),
        membership.created_at,
    )
    .execute(db)
    .await
    .map_constraint_violations(&[
        ("users_handle_key", "The new membership's id collided with another; try again"),
        ("users_account_id_organization_id_key", "This person is a member already"),
    ])?;
    Ok(())
}

/// Returns the organization with this handle, ignoring case, and its first owner's membership.
pub async fn find_owner(
    db: &mut PgConnection,
    organization: &OrganizationHandle,
) -> Result<Option<(OrganizationId, MembershipId)>> {
    let row = sqlx::query!(
        r#"select u.organization_id, u.id from users u
         join organizations o on o.id = u.organization_id
         where lower(o.handle collate "C") = lower($1 collate "C") and u.role = 'owner'
           and u.removed_at is null and o.deleted_at is null
         order by u.id limit 1"#,
        organization.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (OrganizationId(row.organization_id), MembershipId(row.id))))
}

/// Locks every membership of the organization until the transaction ends, so that no member creates
/// or updates anything there.
pub async fn lock_all(db: &mut PgConnection, organization: OrganizationId) -> Result<()> {
    sqlx::query!(
        "select id from users where organization_id = $1 and removed_at is null
         order by id for no key update",
        organization.0,
    )
    .fetch_all(db)
    .await?;
    Ok(())
}

/// An account's membership in an organization.
pub struct Membership {
    /// The internal id of the organization.
    pub organization: OrganizationId,
    /// The public id of the organization.
    pub organization_handle: String,
    /// Whether the organization is suspended.
    pub is_suspended: bool,
    /// The internal id of the membership.
    pub id: MembershipId,
    /// The public id of the membership.
    pub handle: String,
    /// The role of the membership.
    pub role: Role,
    /// Whether the organization has another membership, claimed or not.
    pub is_shared: bool,
    /// Whether this is the only owner with an account, and other memberships have accounts.
    pub is_last_owner: bool,
}

/// Returns the account's memberships, and locks their organizations until the transaction ends, so
/// that transactions that count owners run one after the other.
pub async fn lock_of_account(db: &mut PgConnection, account: AccountId) -> Result<Vec<Membership>> {
    sqlx::query!(
        "select o.id from organizations o
         where o.id = any(array(select organization_id from users
                                where account_id = $1 and removed_at is null))
         order by o.id for no key update",
        account.uuid(),
    )
    .fetch_all(&mut *db)
    .await?;
    let rows = sqlx::query!(
        r#"select u.organization_id, o.handle as organization_handle,
                  o.suspended_at is not null as "is_suspended!", u.id, u.handle, u.role,
                  exists (select from users x where x.organization_id = u.organization_id
                            and x.id <> u.id and x.removed_at is null) as "is_shared!",
                  u.role = 'owner' and exists (
                      select from users x where x.organization_id = u.organization_id
                        and x.id <> u.id and x.removed_at is null and x.account_id is not null
                      having not bool_or(x.role = 'owner')) as "is_last_owner!"
           from users u join organizations o on o.id = u.organization_id
           where u.account_id = $1 and u.removed_at is null and o.deleted_at is null
           order by u.organization_id"#,
        account.uuid(),
    )
    .fetch_all(db)
    .await?;
    let memberships = rows.into_iter().filter_map(|row| {
        Some(Membership {
            organization: OrganizationId(row.organization_id),
            organization_handle: row.organization_handle,
            is_suspended: row.is_suspended,
            id: MembershipId(row.id),
            handle: row.handle,
            role: Role::parse(&row.role)?,
            is_shared: row.is_shared,
            is_last_owner: row.is_last_owner,
        })
    });
    Ok(memberships.collect())
}

/// Ends the account's memberships.
pub async fn remove_of_account(
    db: &mut PgConnection,
    account: AccountId,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update users set removed_at = $2 where account_id = $1 and removed_at is null",
        account.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes up to 1,000 memberships that ended more than this many days ago and that nothing
/// references; returns how many. Applies to all organizations.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from users where id = any(array(
             select u.id from users u
             where u.removed_at < now() - make_interval(days => $1)
               and not exists (select from api_keys k where k.user_id = u.id)
               and not exists (select from invites i where i.invited_by = u.id)
               and not exists (select from invites i
                               where i.organization_id = u.organization_id
                                 and i.joined_user_id = u.id)
               and not exists (select from projects p where p.created_by = u.id)
               and not exists (select from oauth_clients c where c.created_by = u.id)
               and not exists (select from sso_connections c
                               where c.organization_id = u.organization_id
                                 and c.created_by = u.id)
               and not exists (select from oauth_grants g
                               where g.organization_id = u.organization_id and g.user_id = u.id)
               and not exists (select from organization_app_rules r
                               where r.organization_id = u.organization_id
                                 and r.created_by = u.id)
               and not exists (select from sso_domains d
                               where d.organization_id = u.organization_id
                                 and d.created_by = u.id)
               and not exists (select from personal_tokens t
                               where t.pinned_to = u.organization_id and t.pinned_seat = u.id)
             limit 1000 for update of u skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
