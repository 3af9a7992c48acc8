//! Invitations. They expire by the database's clock when they are read; no job changes a status.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::ids::{AccountId, InviteId, KeyId, MembershipId, OrganizationId};
use crate::model::invite::{INVITE_LIFETIME, Invite, InviteStatus, NewInvite};
use crate::model::role::Role;
use crate::model::secret::Digest;

/// Inserts an invitation and returns it. Revokes an open one for the same address.
pub async fn insert(db: &mut PgConnection, invite: &NewInvite<'_>) -> Result<Invite> {
    sqlx::query!(
        "update invites set revoked_at = $3
         where organization_id = $1 and email = $2
           and accepted_at is null and revoked_at is null",
        invite.organization.0,
        invite.email.as_str(),
        invite.created_at,
    )
    .execute(&mut *db)
    .await?;
    let row = sqlx::query_as!(
        Row,
        r#"insert into invites (id, organization_id, email, role, invited_by, created_at,
                                expires_at, key_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         returning id, email, role, expires_at,
                   (select handle from users
                    where organization_id = invites.organization_id and id = invited_by)
                       as "invited_by!",
                   created_at,
                   case when expires_at <= now() then 'expired' else 'pending' end as "status!""#,
        invite.id.uuid(),
        invite.organization.0,
        invite.email.as_str(),
        invite.role.as_str(),
        invite.invited_by.0,
        invite.created_at,
        invite.created_at + INVITE_LIFETIME,
        invite.key.map(KeyId::uuid),
    )
    .fetch_one(db)
    .await?;
    row.into_invite().ok_or_else(|| Error::internal("an invitation has an unknown role"))
}

struct Row {
    id: Uuid,
    email: String,
    role: String,
    status: String,
    expires_at: DateTime<Utc>,
    invited_by: String,
    created_at: DateTime<Utc>,
}

impl Row {
    fn into_invite(self) -> Option<Invite> {
        Some(Invite {
            id: InviteId::from_uuid(self.id),
            email: self.email,
            role: Role::parse(&self.role)?,
            status: InviteStatus::parse(&self.status)?,
            expires_at: self.expires_at,
            invited_by: self.invited_by,
            created_at: self.created_at,
        })
    }
}

/// Returns a page of the organization's invitations whose addresses contain `search`, the newest
/// first, and their total count.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<Invite>, i64)> {
    let rows = sqlx::query_as!(
        Row,
        r#"select i.id, i.email, i.role, i.expires_at, u.handle as invited_by, i.created_at,
                  case when i.accepted_at is not null then 'accepted'
                       when i.revoked_at is not null then 'revoked'
                       when i.expires_at <= now() then 'expired'
                       else 'pending' end as "status!"
           from invites i
           join users u on u.organization_id = i.organization_id and u.id = i.invited_by
           where i.organization_id = $1
             and ($2::text is null or strpos(i.email, lower($2)) > 0)
           order by i.id desc offset $3 limit $4"#,
        organization.0,
        search,
        offset,
        limit,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from invites
           where organization_id = $1 and ($2::text is null or strpos(email, lower($2)) > 0)"#,
        organization.0,
        search,
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().filter_map(Row::into_invite).collect(), total))
}

/// Returns an invitation of the organization, if it exists.
pub async fn find(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: InviteId,
) -> Result<Option<Invite>> {
    let row = sqlx::query_as!(
        Row,
        r#"select i.id, i.email, i.role, i.expires_at, u.handle as invited_by, i.created_at,
                  case when i.accepted_at is not null then 'accepted'
                       when i.revoked_at is not null then 'revoked'
                       when i.expires_at <= now() then 'expired'
                       else 'pending' end as "status!"
           from invites i
           join users u on u.organization_id = i.organization_id and u.id = i.invited_by
           where i.id = $2 and (i.organization_id = $1) is true"#,
        organization.0,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(Row::into_invite))
}

/// Extends an invitation that was neither accepted nor revoked, and invalidates the links mailed
/// for it. Returns it, `None` if there is none. `key` is recorded as the key that resent it.
pub async fn extend(
    db: &mut PgConnection,
    organization: OrganizationId,
    (id, key): (InviteId, Option<KeyId>),
    at: DateTime<Utc>,
) -> Result<Option<Invite>> {
    let row = sqlx::query_as!(
        Row,
        r#"update invites set expires_at = $3, digest = null, resent_key_id = $4
         where id = $2 and (organization_id = $1) is true
           and accepted_at is null and revoked_at is null
         returning id, email, role, expires_at,
                   (select handle from users
                    where organization_id = invites.organization_id and id = invited_by)
                       as "invited_by!",
                   created_at,
                   case when expires_at <= now() then 'expired' else 'pending' end as "status!""#,
        organization.0,
        id.uuid(),
        at + INVITE_LIFETIME,
        key.map(KeyId::uuid),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(Row::into_invite))
}

/// Revokes an invitation; false if it was accepted or revoked before.
pub async fn revoke(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: InviteId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update invites set revoked_at = $3
         where id = $2 and (organization_id = $1) is true
           and accepted_at is null and revoked_at is null",
        organization.0,
        id.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Revokes the open invitations of a membership, or only those to become an owner; returns how
/// many.
pub async fn revoke_by_inviter(
    db: &mut PgConnection,
    organization: OrganizationId,
    membership: MembershipId,
    only_owner_role: bool,
    at: DateTime<Utc>,
) -> Result<u64> {
    let result = sqlx::query!(
        "update invites set revoked_at = $4 where id = any(array(
             select id from invites
             where invited_by = $2 and (organization_id = $1) is true and (role = 'owner' or not $3)
               and accepted_at is null and revoked_at is null
             order by id
             for no key update))",
        organization.0,
        membership.0,
        only_owner_role,
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Revokes every open invitation of the organization; returns how many.
pub async fn revoke_all(
    db: &mut PgConnection,
    organization: OrganizationId,
    at: DateTime<Utc>,
) -> Result<u64> {
    let result = sqlx::query!(
        "update invites set revoked_at = $2 where id = any(array(
             select id from invites
             where organization_id = $1 and accepted_at is null and revoked_at is null
             order by id
             for no key update))",
        organization.0,
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Stores the token of the next mail in place of an older one, and returns the organization's
/// handle, `None` if the invitation is not open or the organization was deleted.
pub async fn set_token(
    db: &mut PgConnection,
    id: InviteId,
    digest: Digest,
) -> Result<Option<String>> {
    let handle = sqlx::query_scalar!(
        "update invites i set digest = $2 from organizations o
         where i.id = $1 and o.id = i.organization_id and o.deleted_at is null
           and i.accepted_at is null and i.revoked_at is null and i.expires_at > now()
         returning o.handle",
        id.uuid(),
        digest.bytes().as_slice(),
    )
    .fetch_optional(db)
    .await?;
    Ok(handle)
}

/// An invitation whose token was presented.
pub struct PresentedInvite {
    /// The invitation.
    pub id: InviteId,
    /// The organization to join.
    pub organization: OrganizationId,
    /// The invited address.
    pub email: String,
    /// The role in the organization.
    pub role: Role,
}

/// Returns the open invitation whose token has one of these digests. Locks nothing.
pub async fn find_presented(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<Option<PresentedInvite>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let row = sqlx::query!(
        "select i.id, i.organization_id, i.email, i.role
         from invites i join organizations o on o.id = i.organization_id
         where i.digest = any($1) and i.accepted_at is null and i.revoked_at is null
           and i.expires_at > now() and o.deleted_at is null",
        &digests,
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let role = Role::parse(&row.role)
        .ok_or_else(|| Error::internal("an invitation has an unknown role"))?;
    Ok(Some(PresentedInvite {
        id: InviteId::from_uuid(row.id),
        organization: OrganizationId(row.organization_id),
        email: row.email,
        role,
    }))
}

/// Returns the organization's open invitation of an address. Locks nothing.
pub async fn find_open(
    db: &mut PgConnection,
    organization: OrganizationId,
    email: &str,
) -> Result<Option<PresentedInvite>> {
    let row = sqlx::query!(
        "select id, role from invites
         where organization_id = $1 and email = $2
           and accepted_at is null and revoked_at is null and expires_at > now()",
        organization.0,
        email,
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let role = Role::parse(&row.role)
        .ok_or_else(|| Error::internal("an invitation has an unknown role"))?;
    let (id, email) = (InviteId::from_uuid(row.id), email.to_owned());
    Ok(Some(PresentedInvite { id, organization, email, role }))
}

/// Marks an invitation as accepted; false if it is not open. Of several concurrent calls, one
/// succeeds.
pub async fn accept(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: InviteId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let result = sqlx::query!(
        "update invites set accepted_at = $3
         where id = $2 and (organization_id = $1) is true
           and accepted_at is null and revoked_at is null
           and expires_at > now()",
        organization.0,
        id.uuid(),
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Removes up to 1,000 invitations that expired more than this many days ago, and returns how many.
/// Applies to all organizations.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from invites where id = any(array(
             select i.id from invites i
             where i.expires_at < now() - make_interval(days => $1)
               and not exists (select from outbox m where m.invite_id = i.id)
             limit 1000 for update of i skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Records the membership that accepting an invitation created.
pub async fn record_membership(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: InviteId,
    membership: MembershipId,
) -> Result<()> {
    sqlx::query!(
        "update invites set joined_user_id = $3
         where id = $2 and (organization_id = $1) is true and accepted_at is not null",
        organization.0,
        id.uuid(),
        membership.0,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Removes the invitations that the account accepted, and their mails: they contain its address.
pub async fn remove_accepted_by(
    db: &mut PgConnection,
    account: AccountId,
    email: &str,
) -> Result<()> {
    sqlx::query!(
        "with accepted as materialized (
             select i.id from users u
             join invites i on i.organization_id = u.organization_id
             where u.account_id = $1 and i.accepted_at is not null
               and (i.joined_user_id = u.id or i.email = $2)
         ), mails as (
             delete from outbox where invite_id = any(array(select id from accepted))
         )
         delete from invites where id = any(array(select id from accepted))",
        account.uuid(),
        email,
    )
    .execute(db)
    .await?;
    Ok(())
}
