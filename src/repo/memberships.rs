//! Seats in organizations.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::{AccountId, MembershipId, OrganizationId};
use crate::model::member::NewMembership;
use crate::model::org_handle::OrgHandle;
use crate::model::role::Role;
use crate::repo::MapConstraintViolations;

/// Stores a new seat.
///
/// # Errors
/// Conflict where the handle is taken, which chance makes once in 62^16, or the person has a seat
/// in the organization already.
pub async fn insert(db: &mut PgConnection, seat: &NewMembership<'_>) -> Result<()> {
    sqlx::query!(
        "insert into users (id, organization_id, handle, role, account_id, created_at)
         values ($1, $2, $3, $4, $5, $6)",
        seat.id.0,
        seat.organization.0,
        seat.handle,
        seat.role.as_str(),
        seat.account.map(AccountId::uuid),
        seat.created_at,
    )
    .execute(db)
    .await
    .map_constraint_violations(&[
        ("users_handle_key", "The new seat's id collided with another; try again"),
        ("users_account_id_organization_id_key", "This person is a member already"),
    ])?;
    Ok(())
}

/// The organization with this handle, in whatever case, and its first owner's seat.
pub async fn find_owner(
    db: &mut PgConnection,
    organization: &OrgHandle,
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

/// Holds every seat of the organization until the transaction ends: no person mints or changes
/// anything there meanwhile.
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

/// A person's seat in an organization.
pub struct Membership {
    /// Where it is.
    pub organization: OrganizationId,
    /// The same, as callers see it.
    pub organization_handle: String,
    /// Whether the operator has suspended that.
    pub is_suspended: bool,
    /// The seat.
    pub id: MembershipId,
    /// The seat, as callers see it.
    pub handle: String,
    /// What its person is there.
    pub role: Role,
    /// Whether there is another seat, claimed or not.
    pub is_shared: bool,
    /// Whether there are other people, and this is the only one of them who is an owner.
    pub is_last_owner: bool,
}

/// The account's seats, with their organizations held until the transaction ends: who counts
/// owners takes turns.
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
    let seats = rows.into_iter().filter_map(|row| {
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
    Ok(seats.collect())
}

/// Gives up the account's seats.
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

/// Removes up to 1,000 seats that were given up more than this many days ago and that nothing
/// refers to; how many. No tenant's data is read: what is over is over for all.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let done = sqlx::query!(
        "delete from users where id = any(array(
             select u.id from users u
             where u.removed_at < now() - make_interval(days => $1)
               and not exists (select from api_keys k where k.user_id = u.id)
               and not exists (select from invites i where i.invited_by = u.id)
               and not exists (select from invites i
                               where i.organization_id = u.organization_id
                                 and i.joined_user_id = u.id)
               and not exists (select from projects p where p.created_by = u.id)
               and not exists (select from personal_tokens t
                               where t.pinned_to = u.organization_id and t.pinned_seat = u.id)
             limit 1000 for update of u skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
