//! Row-level security: the second isolation layer between tenants, and the role that it applies to.

use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::OrganizationId;

/// Applies row-level security for the organization: rows of other organizations are not visible.
/// The role and the organization are set until the transaction ends, however it ends.
///
/// `Database::tenant_transaction` sets the tenant at the start. Call this function if the
/// organization is only known later.
pub async fn set_tenant(db: &mut PgConnection, organization: OrganizationId) -> Result<()> {
    sqlx::query!(
        "select set_config('role', 'tenantry_tenant', true) as role,
                set_config('app.organization_id', $1, true) as organization",
        organization.0.to_string(),
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// Clears the tenant for the rest of the transaction.
pub async fn clear_tenant(db: &mut PgConnection) -> Result<()> {
    sqlx::query!(
        "select set_config('role', 'none', true) as role,
                set_config('app.organization_id', '', true) as organization",
    )
    .fetch_one(db)
    .await?;
    Ok(())
}
