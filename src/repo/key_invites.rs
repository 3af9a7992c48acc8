//! Invitations that an organization's keys created or resent, and the memberships that began with
//! them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::ids::{KeyId, OrganizationId};
use crate::model::member::KeyInvitedMembership;
use crate::model::role::Role;

/// Revokes the open invitations that these keys of the organization created or were the last to
/// resend; `None` means all its keys. Returns how many.
pub async fn revoke(
    db: &mut PgConnection,
    organization: OrganizationId,
    keys: Option<&[KeyId]>,
    at: DateTime<Utc>,
) -> Result<u64> {
    let keys = uuids(keys);
    let result = sqlx::query!(
        "update invites set revoked_at = $3 where id = any(array(
             select id from invites
             where organization_id = $1
               and (key_id is not null and ($2::uuid[] is null or key_id = any($2))
                    or resent_key_id is not null
                       and ($2::uuid[] is null or resent_key_id = any($2)))
               and accepted_at is null and revoked_at is null
             order by id
             for no key update))",
        organization.0,
        keys.as_deref(),
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Returns the `limit` newest memberships that have not ended and began with an invitation that
/// these keys created or were the last to resend; `None` means all keys of the organization.
pub async fn list_joined(
    db: &mut PgConnection,
    organization: OrganizationId,
    keys: Option<&[KeyId]>,
    limit: i64,
) -> Result<Vec<KeyInvitedMembership>> {
    let keys = uuids(keys);
    let rows = sqlx::query!(
        r#"select u.handle, u.role, i.accepted_at as "accepted_at!"
           from invites i
           join users u on u.organization_id = i.organization_id and u.id = i.joined_user_id
           where i.organization_id = $1
             and (i.key_id is not null and ($2::uuid[] is null or i.key_id = any($2))
                  or i.resent_key_id is not null
                     and ($2::uuid[] is null or i.resent_key_id = any($2)))
             and i.accepted_at is not null and u.removed_at is null
           order by i.accepted_at desc, i.id desc limit $3"#,
        organization.0,
        keys.as_deref(),
        limit,
    )
    .fetch_all(db)
    .await?;
    let memberships = rows.into_iter().map(|row| {
        let role = Role::parse(&row.role).ok_or_else(|| Error::internal("an unknown role"))?;
        Ok(KeyInvitedMembership { handle: row.handle, role, joined_at: row.accepted_at })
    });
    memberships.collect()
}

fn uuids(keys: Option<&[KeyId]>) -> Option<Vec<Uuid>> {
    keys.map(|keys| keys.iter().map(|key| key.uuid()).collect())
}
