//! Seats in organizations.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::{OrganizationId, UserId};
use crate::model::org_handle::OrgHandle;
use crate::repo::OnConstraints;

/// Stores the owner's seat of a new organization; nobody has claimed it yet.
///
/// # Errors
/// Conflict where the handle is taken, which chance makes once in 62^16.
pub async fn insert_owner(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: UserId,
    handle: &str,
    created_at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into users (id, organization_id, handle, role, created_at)
         values ($1, $2, $3, 'owner', $4)",
        id.0,
        organization.0,
        handle,
        created_at,
    )
    .execute(db)
    .await
    .on_constraints(&[(
        "users_handle_key",
        "The new seat's id collided with another; try again",
    )])?;
    Ok(())
}

/// The organization with this handle, in whatever case, and its first owner's seat.
///
/// # Errors
/// The database's own.
pub async fn find_owner(
    db: &mut PgConnection,
    organization: &OrgHandle,
) -> Result<Option<(OrganizationId, UserId)>> {
    let row = sqlx::query!(
        r#"select u.organization_id, u.id from users u
         join organizations o on o.id = u.organization_id
         where lower(o.handle collate "C") = lower($1 collate "C") and u.role = 'owner'
         order by u.id limit 1"#,
        organization.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (OrganizationId(row.organization_id), UserId(row.id))))
}
