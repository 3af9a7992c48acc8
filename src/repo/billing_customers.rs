//! Who pays for an organization, as Stripe knows them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::OrganizationId;

/// Who pays for an organization.
pub struct BillingCustomer {
    /// The customer; `None` for a guest.
    pub customer: Option<String>,
    /// The subscription, where it is one.
    pub subscription: Option<String>,
    /// Whether it is no subscription, and nothing more is due.
    pub pays_once: bool,
    /// When what last changed whether the organization is suspended happened.
    pub last_event_at: DateTime<Utc>,
    /// When the last checkout happened.
    pub last_checkout_at: Option<DateTime<Utc>>,
}

impl BillingCustomer {
    /// Whether this is the customer who pays, or the subscription that they pay by.
    #[must_use]
    pub fn is_payer_of(&self, customer: &Option<String>, subscription: &Option<String>) -> bool {
        let is_same = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
        is_same(&self.customer, customer) || is_same(&self.subscription, subscription)
    }
}

/// The payer that an event names.
pub struct BillingPayer<'a> {
    /// The customer; `None` for a guest.
    pub customer: Option<&'a str>,
    /// The subscription, where it is one.
    pub subscription: Option<&'a str>,
    /// Whether nothing more is due.
    pub pays_once: bool,
    /// When the event happened.
    pub event_at: DateTime<Utc>,
}

/// The handle of the organization that is paid for by this subscription: the one that last heard of
/// it, where there are several.
pub async fn find_handle_by_subscription(
    db: &mut PgConnection,
    subscription: &str,
) -> Result<Option<String>> {
    let handle = sqlx::query_scalar!(
        "select o.handle from billing_customers b join organizations o on o.id = b.organization_id
         where b.subscription_id = $1 and o.deleted_at is null
         order by b.last_event_at desc limit 1",
        subscription,
    )
    .fetch_optional(db)
    .await?;
    Ok(handle)
}

/// Who pays for the organization, where that is known.
pub async fn find(
    db: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Option<BillingCustomer>> {
    let row = sqlx::query_as!(
        BillingCustomer,
        "select customer_id as customer, subscription_id as subscription, pays_once, last_event_at,
                last_checkout_at
         from billing_customers where organization_id = $1",
        organization.0,
    )
    .fetch_optional(db)
    .await?;
    Ok(row)
}

/// Records who bought the organization, in place of an earlier buyer.
pub async fn upsert_buyer(
    db: &mut PgConnection,
    organization: OrganizationId,
    payer: &BillingPayer<'_>,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into billing_customers as b (organization_id, customer_id, subscription_id,
                                             pays_once, last_event_at, last_checkout_at, created_at)
         values ($1, $2, $3, $4, $5, $5, $6)
         on conflict on constraint billing_customers_pkey do update
         set customer_id = excluded.customer_id, subscription_id = excluded.subscription_id,
             pays_once = excluded.pays_once, last_checkout_at = excluded.last_checkout_at,
             last_event_at = greatest(b.last_event_at, excluded.last_event_at)",
        organization.0,
        payer.customer,
        payer.subscription,
        payer.pays_once,
        payer.event_at,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Records who pays for the organization from now on. Fields that the event lacks are unchanged.
pub async fn upsert_payer(
    db: &mut PgConnection,
    organization: OrganizationId,
    payer: &BillingPayer<'_>,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into billing_customers as b (organization_id, customer_id, subscription_id,
                                             pays_once, last_event_at, created_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict on constraint billing_customers_pkey do update
         set customer_id = coalesce(excluded.customer_id, b.customer_id),
             subscription_id = coalesce(excluded.subscription_id, b.subscription_id),
             last_event_at = greatest(b.last_event_at, excluded.last_event_at)",
        organization.0,
        payer.customer,
        payer.subscription,
        payer.pays_once,
        payer.event_at,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}
