//! Credits: the units that are left in a balance, without those that servers have taken in advance.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::credits::Credits;
use crate::model::ids::OrganizationId;

/// Sets a balance. Units that servers took before are neither used nor returned any more.
pub async fn set(
    db: &mut PgConnection,
    (organization, id): (OrganizationId, Uuid),
    credits: &Credits,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into credit_balances as b (id, organization_id, remaining, refill_amount,
                                           refill_interval, refilled_at)
         values ($2, $1, $3, $4, $5, $6)
         on conflict on constraint credit_balances_pkey do update
         set remaining = $3, refill_amount = $4, refill_interval = $5, refilled_at = $6,
             version = greatest(b.version + 1, excluded.version)
         where (b.organization_id = $1) is true",
        organization.0,
        id,
        credits.remaining,
        credits.refill.map(|refill| refill.amount),
        credits.refill.map(|refill| refill.every.as_str()),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Adds units to a balance and returns it; `None` if there is none.
pub async fn add(
    db: &mut PgConnection,
    (organization, id): (OrganizationId, Uuid),
    units: i64,
) -> Result<Option<Credits>> {
    let row = sqlx::query!(
        r#"with locked as (
               select id, remaining as before,
                      available_credits(remaining, refill_amount, refill_interval, refilled_at)
                          as available
               from credit_balances
               where id = $2 and (organization_id = $1) is true
               for no key update
           )
           update credit_balances b
           set remaining = least(l.available + $3, 1000000000000000),
               refilled_at = case when date_trunc(b.refill_interval, now(), 'UTC') > b.refilled_at
                                  then now() else b.refilled_at end,
               version = b.version + (l.available > l.before)::int
           from locked l
           where b.id = l.id and (b.organization_id = $1) is true
           returning b.remaining, b.refill_amount, b.refill_interval"#,
        organization.0,
        id,
        units,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        Credits::from_stored(row.remaining, row.refill_amount, row.refill_interval.as_deref())
    }))
}

/// Deletes a balance, if there is one.
pub async fn delete(
    db: &mut PgConnection,
    (organization, id): (OrganizationId, Uuid),
) -> Result<()> {
    sqlx::query!(
        "delete from credit_balances where id = $2 and (organization_id = $1) is true",
        organization.0,
        id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A server's request for units of a balance.
pub struct Withdrawal {
    /// The balance.
    pub id: Uuid,
    /// The units that checks are waiting for.
    pub needed: i64,
}

/// Units that were taken out of a balance.
#[derive(Clone, Copy, Debug)]
pub struct Withdrawn {
    /// The units; fewer than needed if no more are left.
    pub units: i64,
    /// The version of the balance.
    pub version: i64,
}

/// The result of a withdrawal.
#[derive(Clone, Copy, Debug)]
pub struct WithdrawalResult {
    /// What was taken.
    pub withdrawn: Withdrawn,
    /// The units that are left in the balance.
    pub remaining: i64,
}

/// Takes units out of balances, refilling those that are due: what is needed, and at least 1 % of
/// what is left, up to 1,000 units. Returns an answer for each balance; `None` if there is none.
///
/// The rows are locked in the order of their ids, so that two servers cannot deadlock.
pub async fn withdraw(
    db: &mut PgConnection,
    withdrawals: &[Withdrawal],
) -> Result<Vec<Option<WithdrawalResult>>> {
    let ids: Vec<_> = withdrawals.iter().map(|it| it.id).collect();
    let needed: Vec<_> = withdrawals.iter().map(|it| it.needed).collect();
    let rows = sqlx::query!(
        r#"with locked as (
               select b.id, b.remaining, w.needed,
                      available_credits(b.remaining, b.refill_amount, b.refill_interval,
                                        b.refilled_at) as available
               from credit_balances b
               join unnest($1::uuid[], $2::bigint[]) as w (id, needed) on w.id = b.id
               order by b.id
               for no key update of b
           ), taken as (
               select id, available, available > remaining as is_refilled,
                      least(available, greatest(needed, available / 100, 1),
                            greatest(needed, 1000)) as units
               from locked
           )
           update credit_balances b
           set remaining = t.available - t.units,
               refilled_at = case when date_trunc(b.refill_interval, now(), 'UTC') > b.refilled_at
                                  then now() else b.refilled_at end,
               version = b.version + t.is_refilled::int
           from taken t
           where b.id = t.id
           returning b.id, t.units as "units!", b.version, b.remaining"#,
        &ids,
        &needed,
    )
    .fetch_all(db)
    .await?;
    let withdrawn = |id| {
        let row = rows.iter().find(|row| row.id == id)?;
        let withdrawn = Withdrawn { units: row.units, version: row.version };
        Some(WithdrawalResult { withdrawn, remaining: row.remaining })
    };
    Ok(withdrawals.iter().map(|withdrawal| withdrawn(withdrawal.id)).collect())
}

/// Returns units to balances that were neither set nor refilled since the units were taken.
pub async fn give_back(db: &mut PgConnection, units: &[(Uuid, Withdrawn)]) -> Result<()> {
    let ids: Vec<_> = units.iter().map(|(id, _)| *id).collect();
    let versions: Vec<_> = units.iter().map(|(_, it)| it.version).collect();
    let units: Vec<_> = units.iter().map(|(_, it)| it.units).collect();
    sqlx::query!(
        "with locked as (
             select b.id, r.units
             from credit_balances b
             join unnest($1::uuid[], $2::bigint[], $3::bigint[]) as r (id, version, units)
                 on r.id = b.id and r.version = b.version
             order by b.id
             for no key update of b
         )
         update credit_balances b set remaining = b.remaining + l.units
         from locked l where b.id = l.id",
        &ids,
        &versions,
        &units,
    )
    .execute(db)
    .await?;
    Ok(())
}
