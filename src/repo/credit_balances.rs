//! Credits: the units that are left in a balance, without those that servers have taken in advance.

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
) -> Result<()> {
    sqlx::query!(
        "insert into credit_balances as b (id, organization_id, remaining, refill_amount,
                                           refill_interval, refilled_at)
         values ($2, $1, $3, $4, $5, now())
         on conflict on constraint credit_balances_pkey do update
         set remaining = $3, refill_amount = $4, refill_interval = $5, refilled_at = now(),
             version = greatest(b.version + 1, excluded.version)
         where (b.organization_id = $1) is true",
        organization.0,
        id,
        credits.remaining,
        credits.refill.map(|refill| refill.amount),
        credits.refill.map(|refill| refill.every.as_str()),
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

/// Waits for the lock of a balance, which lasts until the transaction ends.
pub async fn lock(db: &mut PgConnection, id: Uuid) -> Result<()> {
    sqlx::query!("select id from credit_balances where id = $1 for no key update", id)
        .fetch_optional(db)
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

/// The result of a withdrawal from a balance.
#[derive(Clone, Copy, Debug)]
pub enum WithdrawalResult {
    /// Units were taken.
    Taken {
        /// What was taken.
        withdrawn: Withdrawn,
        /// The units that are left in the balance.
        remaining: i64,
    },
    /// Another transaction has the balance's lock. Nothing was taken.
    Locked,
}

/// Takes units out of balances, refilling those that are due: what is needed, and at least 1 % of
/// what is left, up to 1,000 units. Returns an answer for each balance; `None` if there is none.
///
/// A balance that is locked is skipped, so that it does not delay the others.
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
               for no key update of b skip locked
           ), taken as (
               select id, available, available > remaining as is_refilled,
                      least(available, greatest(needed, available / 100, 1),
                            greatest(needed, 1000)) as units
               from locked
           ), updated as (
               update credit_balances b
               set remaining = t.available - t.units,
                   refilled_at = case when date_trunc(b.refill_interval, now(), 'UTC')
                                           > b.refilled_at
                                      then now() else b.refilled_at end,
                   version = b.version + t.is_refilled::int
               from taken t
               where b.id = t.id
               returning b.id, t.units, b.version, b.remaining
           )
           select b.id, u.units as "units?", u.version as "version?", u.remaining as "remaining?"
           from credit_balances b left join updated u on u.id = b.id
           where b.id = any($1)"#,
        &ids,
        &needed,
    )
    .fetch_all(db)
    .await?;
    let result = |id| {
        let row = rows.iter().find(|row| row.id == id)?;
        let (Some(units), Some(version)) = (row.units, row.version) else {
            return Some(WithdrawalResult::Locked);
        };
        let withdrawn = Withdrawn { units, version };
        Some(WithdrawalResult::Taken { withdrawn, remaining: row.remaining.unwrap_or(0) })
    };
    Ok(withdrawals.iter().map(|withdrawal| result(withdrawal.id)).collect())
}

/// Returns units to balances that were neither set nor refilled since the units were taken. Returns
/// the balances that are locked, which got nothing back.
pub async fn give_back(db: &mut PgConnection, units: &[(Uuid, Withdrawn)]) -> Result<Vec<Uuid>> {
    let ids: Vec<_> = units.iter().map(|(id, _)| *id).collect();
    let versions: Vec<_> = units.iter().map(|(_, it)| it.version).collect();
    let units: Vec<_> = units.iter().map(|(_, it)| it.units).collect();
    let rows = sqlx::query!(
        r#"with locked as (
               select b.id, b.version
               from credit_balances b
               where b.id = any($1)
               for no key update skip locked
           ), returned as (
               update credit_balances b set remaining = b.remaining + r.units
               from locked l
               join unnest($1::uuid[], $2::bigint[], $3::bigint[]) as r (id, version, units)
                   on r.id = l.id and r.version = l.version
               where b.id = l.id
           )
           select b.id from credit_balances b
           where b.id = any($1) and b.id not in (select id from locked)"#,
        &ids,
        &versions,
        &units,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
