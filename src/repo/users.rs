//! Seats in organizations.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::{OrganizationId, UserId};
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
