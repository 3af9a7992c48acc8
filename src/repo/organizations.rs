//! Organizations.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::OrganizationId;
use crate::model::org_handle::OrgHandle;
use crate::model::plan::Plan;
use crate::repo::OnConstraints;

/// Stores a new organization.
///
/// # Errors
/// Conflict where the handle is taken, in whatever case.
pub async fn insert(
    db: &mut PgConnection,
    id: OrganizationId,
    handle: &OrgHandle,
    plan: Plan,
    created_at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into organizations (id, handle, plan, created_at) values ($1, $2, $3, $4)",
        id.0,
        handle.as_str(),
        plan.as_str(),
        created_at,
    )
    .execute(db)
    .await
    .on_constraints(&[(
        "organizations_handle_key",
        "An organization with this org_id already exists",
    )])?;
    Ok(())
}
