//! Subscriptions that have ended, as Stripe reported.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::OrganizationId;

/// Records that a subscription of the organization ended. A later record of the same subscription
/// is ignored.
pub async fn record(
    db: &mut PgConnection,
    organization: OrganizationId,
    subscription: &str,
    ended_at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into ended_subscriptions (organization_id, subscription_id, ended_at)
         values ($1, $2, $3) on conflict do nothing",
        organization.0,
        subscription,
        ended_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns when this subscription ended, if it did: as one of the organization, or as one of no
/// known organization.
pub async fn find(
    db: &mut PgConnection,
    organization: OrganizationId,
    subscription: Option<&str>,
) -> Result<Option<DateTime<Utc>>> {
    let ended_at = sqlx::query_scalar!(
        "select min(ended_at) from ended_subscriptions
         where organization_id in ($1, $3) and subscription_id = $2",
        organization.0,
        subscription,
        OrganizationId::SYSTEM.0,
    )
    .fetch_one(db)
    .await?;
    Ok(ended_at)
}

/// Removes up to 1,000 subscriptions of no known organization that ended more than 30 days ago;
/// returns how many.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from ended_subscriptions
         where organization_id = $1 and subscription_id = any(array(
             select subscription_id from ended_subscriptions
             where organization_id = $1 and ended_at < now() - interval '30 days'
             limit 1000 for update skip locked))",
        OrganizationId::SYSTEM.0,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
