//! Paid checkouts that could not be fulfilled. Stripe sends each again for days; the row shows that
//! the event was recorded and the buyer was mailed.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::OrganizationId;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::payment::UnfulfilledReason;

/// A paid checkout that could not be fulfilled.
pub struct UnfulfilledCheckout<'a> {
    /// The id of the event that reported it.
    pub event: &'a str,
    /// The handle that the checkout names.
    pub handle: &'a str,
    /// Stripe's id of the customer who paid; `None` for a guest.
    pub customer: Option<&'a str>,
    /// The reason.
    pub reason: UnfulfilledReason,
}

/// Stores a checkout that could not be fulfilled; false if the same event was stored before. A
/// resolved checkout stays resolved.
pub async fn upsert(
    db: &mut PgConnection,
    checkout: &UnfulfilledCheckout<'_>,
    at: DateTime<Utc>,
) -> Result<bool> {
    let deliveries = sqlx::query_scalar!(
        "insert into unfulfilled_checkouts as c (event_id, organization_id, handle, customer_id,
                                                 reason, created_at, delivered_at)
         values ($1, $2, $3, $4, $5, $6, $6)
         on conflict on constraint unfulfilled_checkouts_pkey do update
         set deliveries = c.deliveries + 1, delivered_at = excluded.delivered_at,
             reason = excluded.reason
         returning deliveries",
        checkout.event,
        OrganizationId::SYSTEM.0,
        checkout.handle,
        checkout.customer,
        checkout.reason.as_str(),
        at,
    )
    .fetch_one(db)
    .await?;
    Ok(deliveries == 1)
}

/// Resolves the checkouts that a fulfilled one replaces: the row of its own event, and those of the
/// same customer, if given, and organization. The rows stay, since Stripe may send their events
/// again.
pub async fn resolve(
    db: &mut PgConnection,
    event: &str,
    handle: &OrganizationHandle,
    customer: Option<&str>,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        r#"update unfulfilled_checkouts set settled_at = $4
           where settled_at is null
             and (event_id = $1
                  or customer_id = $3
                     and lower(handle collate "C") = lower($2 collate "C"))"#,
        event,
        handle.as_str(),
        customer,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the number of unresolved checkouts, and the event, the organization and the reason of
/// the newest.
pub async fn find_newest(db: &mut PgConnection) -> Result<Option<(i64, String, String, String)>> {
    let newest = sqlx::query!(
        r#"select count(*) over () as "count!", event_id, handle, reason
           from unfulfilled_checkouts where settled_at is null
           order by created_at desc, event_id limit 1"#,
    )
    .fetch_optional(db)
    .await?;
    Ok(newest.map(|row| (row.count, row.event_id, row.handle, row.reason)))
}

/// Removes up to 1,000 checkouts that Stripe has not sent for 30 days; returns how many.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from unfulfilled_checkouts where event_id = any(array(
             select event_id from unfulfilled_checkouts
             where delivered_at < now() - interval '30 days'
             limit 1000 for update skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
