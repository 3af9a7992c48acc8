//! Grants of accounts to OAuth clients.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{AccountId, GrantId, MembershipId, OrganizationId};
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::model::oauth::grant::{GrantCandidate, GrantedAccess, NewGrant};
use crate::model::role::Role;

/// Returns at most 1,000 organizations in which the account has a membership, in the order of their
/// names, and what the membership has granted to the client.
pub async fn list_candidates(
    db: &mut PgConnection,
    account: AccountId,
    client: Uuid,
) -> Result<Vec<GrantCandidate>> {
    let rows = sqlx::query!(
        r#"select o.id, o.handle, o.name, o.suspended_at is not null as "is_suspended!", u.role,
                  g.scopes as "scopes?", g.resources as "resources?"
           from users u
           join organizations o on o.id = u.organization_id and o.deleted_at is null
           join oauth_clients c on c.id = $2
           -- An unverified app that was changed since the grant is another one to the person.
           left join oauth_grants g on g.account_id = u.account_id and g.client_id = c.id
                                   and g.organization_id = o.id and g.user_id = u.id
                                   and g.revoked_at is null
                                   and (c.published_at is not null
                                        or c.updated_at <= g.updated_at)
           where u.account_id = $1 and u.removed_at is null
           order by lower(o.name), o.id limit 1000"#,
        account.uuid(),
        client,
    )
    .fetch_all(db)
    .await?;
    let candidates = rows.into_iter().filter_map(|row| {
        let granted = row.scopes.zip(row.resources);
        Some(GrantCandidate {
            organization: OrganizationId(row.id),
            handle: row.handle,
            name: row.name,
            is_suspended: row.is_suspended,
            role: Role::parse(&row.role)?,
            granted: granted.map(|(scopes, resources)| GrantedAccess { scopes, resources }),
        })
    });
    Ok(candidates.collect())
}

/// Returns the account's live grant to the client, in an organization or for its own account, and
/// locks it until the transaction ends.
pub async fn lock_live(
    db: &mut PgConnection,
    account: AccountId,
    client: Uuid,
    organization: Option<OrganizationId>,
) -> Result<Option<(GrantId, GrantedAccess)>> {
    let row = sqlx::query!(
        "select id, scopes, resources from oauth_grants
         where account_id = $1 and client_id = $2 and organization_id is not distinct from $3
           and revoked_at is null
         for no key update",
        account.uuid(),
        client,
        organization.map(|it| it.0),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let access = GrantedAccess { scopes: row.scopes, resources: row.resources };
        (GrantId::from_uuid(row.id), access)
    }))
}

/// Inserts a grant. Returns false if the account has a live one already, for the same client and
/// organization.
pub async fn insert(db: &mut PgConnection, new: &NewGrant<'_>) -> Result<bool> {
    let (organization, membership) = new.membership.unzip();
    let result = sqlx::query!(
        "insert into oauth_grants (id, account_id, client_id, organization_id, user_id, scopes,
                                   resources, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
         on conflict do nothing",
        new.id.uuid(),
        new.account.uuid(),
        new.client,
        organization.map(|it| it.0),
        membership.map(|it| it.0),
        &new.access.scopes,
        &new.access.resources,
        new.created_at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Replaces what a grant of the account allows.
pub async fn set_access(
    db: &mut PgConnection,
    (account, id): (AccountId, GrantId),
    access: &GrantedAccess,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update oauth_grants set scopes = $3, resources = $4, updated_at = $5
         where account_id = $1 and id = $2 and revoked_at is null",
        account.uuid(),
        id.uuid(),
        &access.scopes,
        &access.resources,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Revokes the account's live grants in the organization that belong to an earlier membership than
/// `membership`: a new membership must not bring them back.
pub async fn revoke_of_earlier_memberships(
    db: &mut PgConnection,
    account: AccountId,
    (organization, membership): (OrganizationId, MembershipId),
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update oauth_grants set revoked_at = $4, revoked_reason = $5, updated_at = $4
         where account_id = $1 and organization_id = $2 and user_id <> $3 and revoked_at is null",
        account.uuid(),
        organization.0,
        membership.0,
        at,
        GrantRevocationReason::MembershipEnded.as_str(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Revokes every live grant of an account; returns how many.
pub async fn revoke_all(
    db: &mut PgConnection,
    account: AccountId,
    reason: GrantRevocationReason,
    at: DateTime<Utc>,
) -> Result<u64> {
    let result = sqlx::query!(
        "update oauth_grants set revoked_at = $2, revoked_reason = $3, updated_at = $2
         where account_id = $1 and revoked_at is null",
        account.uuid(),
        at,
        reason.as_str(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Removes up to 1,000 grants that were revoked, or whose memberships ended, more than this many
/// days ago, with their tokens; returns how many. Applies to all organizations.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from oauth_grants where id = any(array(
             select g.id from oauth_grants g
             left join users u on u.id = g.user_id
             where g.revoked_at < now() - make_interval(days => $1)
                or u.removed_at < now() - make_interval(days => $1)
             limit 1000 for update of g skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Returns the public id of an organization whose owners must be notified of a grant that was just
/// inserted: the organization has no other grant to the client and did not allow it, the client is
/// another organization's, and the owners were not notified within the last 24 hours. Then they
/// count as notified.
pub async fn claim_notice(
    db: &mut PgConnection,
    organization: OrganizationId,
    client: Uuid,
    at: DateTime<Utc>,
) -> Result<Option<String>> {
    let handle = sqlx::query_scalar!(
        "update organizations o set app_notice_at = $3
         where o.id = $1
           and (o.app_notice_at is null or o.app_notice_at <= $3::timestamptz - interval '24 hours')
           and exists (select from oauth_clients c where c.id = $2 and c.organization_id <> $1)
           and not exists (select from organization_app_rules r
                           where r.organization_id = $1 and r.client_id = $2
                             and r.rule = 'allowed')
           and 1 = (select count(*) from oauth_grants g
                    where g.organization_id = $1 and g.client_id = $2)
         returning o.handle",
        organization.0,
        client,
        at,
    )
    .fetch_optional(db)
    .await?;
    Ok(handle)
}
