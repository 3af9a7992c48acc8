//! The second wall between tenants: row-level security, and the role that it holds for.

use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::OrganizationId;

/// From here to the end of the transaction, the connection is the organization's: rows of others
/// are not there. Both settings end with the transaction, however it ends.
///
/// # Errors
/// The database's own.
pub async fn raise(db: &mut PgConnection, organization: OrganizationId) -> Result<()> {
    sqlx::query!(
        "select set_config('role', 'tenantry_tenant', true) as role,
                set_config('app.organization_id', $1, true) as organization",
        organization.0.to_string(),
    )
    .fetch_one(db)
    .await?;
    Ok(())
}
