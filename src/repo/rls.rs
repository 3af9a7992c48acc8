//! Row-level security: the second isolation layer between tenants, and the role that it applies to.

use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::OrganizationId;

/// From here to the end of the transaction, the connection is the organization's: rows of others
/// are not there. Both settings end with the transaction, however it ends.
///
/// Transactions that begin behind walls are `Database::tenant`'s. In others, this is for when it is
/// found out on the way which organization it is.
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
