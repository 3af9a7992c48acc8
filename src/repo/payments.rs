//! Payments, as Stripe reported them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{OrganizationId, PaymentId};
use crate::model::payment::{NewPayment, Payment, PaymentStatus};

/// Inserts a payment; does nothing if it is already stored.
pub async fn insert(db: &mut PgConnection, payment: &NewPayment<'_>) -> Result<()> {
    sqlx::query!(
        "insert into payments (id, organization_id, event_id, reference, amount, currency, status,
                               description, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict do nothing",
        payment.id.uuid(),
        payment.organization.0,
        payment.event,
        payment.charge.reference,
        payment.charge.amount,
        payment.charge.currency,
        payment.status.as_str(),
        payment.charge.description,
        payment.created_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

struct Row {
    id: Uuid,
    amount: i64,
    currency: String,
    status: String,
    description: Option<String>,
    created_at: DateTime<Utc>,
}

/// Returns a page of the organization's payments whose descriptions contain `search`, newest first,
/// and their total count.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<Payment>, i64)> {
    let rows = sqlx::query_as!(
        Row,
        "select id, amount, currency, status, description, created_at from payments
         where organization_id = $1
           and ($2::text is null or strpos(lower(description), lower($2)) > 0)
         order by created_at desc, id desc offset $3 limit $4",
        organization.0,
        search,
        offset,
        limit,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from payments
           where organization_id = $1
             and ($2::text is null or strpos(lower(description), lower($2)) > 0)"#,
        organization.0,
        search,
    )
    .fetch_one(db)
    .await?;
    let payments = rows.into_iter().filter_map(|row| {
        Some(Payment {
            id: PaymentId::from_uuid(row.id),
            amount: row.amount,
            currency: row.currency,
            status: PaymentStatus::parse(&row.status)?,
            description: row.description,
            created_at: row.created_at,
        })
    });
    Ok((payments.collect(), total))
}

/// Removes up to 1,000 payments that are older than this many days; returns how many. Applies to
/// all organizations.
pub async fn sweep(db: &mut PgConnection, days: i32) -> Result<u64> {
    let result = sqlx::query!(
        "delete from payments where id = any(array(
             select id from payments where created_at < now() - make_interval(days => $1)
             limit 1000 for update skip locked))",
        days,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
