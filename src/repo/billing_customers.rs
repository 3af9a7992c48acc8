//! The customers who pay for organizations, as Stripe knows them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::OrganizationId;

/// The customer who pays for an organization.
pub struct BillingCustomer {
    /// Stripe's id of the customer; `None` for a guest.
    pub customer: Option<String>,
    /// Stripe's id of the subscription, if there is one.
    pub subscription: Option<String>,
    /// Whether the organization was bought with a single payment, so that nothing more is due.
    pub pays_once: bool,
    /// The time of the last event that can decide whether the organization is suspended.
    pub last_event_at: DateTime<Utc>,
    /// The time of the last checkout.
    pub last_checkout_at: Option<DateTime<Utc>>,
}

impl BillingCustomer {
    /// Returns whether the organization is paid for by this customer or with this subscription.
    #[must_use]
    pub fn is_payer_of(&self, customer: &Option<String>, subscription: &Option<String>) -> bool {
        let is_same = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
        is_same(&self.customer, customer) || is_same(&self.subscription, subscription)
    }
}

/// The payer that an event names.
pub struct BillingPayer<'a> {
    /// Stripe's id of the customer; `None` for a guest.
    pub customer: Option<&'a str>,
    /// Stripe's id of the subscription, if there is one.
    pub subscription: Option<&'a str>,
    /// Whether the organization was bought with a single payment, so that nothing more is due.
    pub pays_once: bool,
    /// The time of the event.
    pub event_at: DateTime<Utc>,
}

/// Returns the handle of the organization that is paid for with this subscription; if there are
/// several, of the one with the latest event.
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

/// Returns the customer who pays for the organization, if known.
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

/// Stores the buyer of the organization in place of an earlier one.
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

/// Stores the customer who pays for the organization from now on. If a customer is stored
/// already, `pays_once` and the fields that the event lacks stay unchanged.
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
