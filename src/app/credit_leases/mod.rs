//! Takes prepaid units out of balances in advance, so that a check seldom waits for a write.
//!
//! Invariant: a unit is either in the balance's row, or in one server's memory, or used. A server
//! that is killed takes its units with it: at most 1 % of what was left, and at most 1,000 units or
//! what its running checks needed.

mod lease;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use sqlx::PgConnection;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::lease::{Granted, Lease, Waiter};
use crate::app::batch_lookup::{BatchLookup, BatchQuery};
use crate::app::database::Database;
use crate::error::{Error, Result};
use crate::model::credits::CreditBalance;
use crate::repo::credit_balances::{self, Withdrawal, WithdrawalResult, Withdrawn};

/// The number of connections for withdrawals.
pub const CONNECTIONS: u32 = 1;

/// How often unused units are returned. Units are returned after one to two intervals.
const RETURN_INTERVAL: Duration = Duration::from_secs(10);

impl BatchQuery for Withdrawal {
    type Answer = WithdrawalResult;
    type Shared = ();
    const NAME: &'static str = "credit_withdrawals";
    /// After a lost connection it is unknown whether the units were taken.
    const MAY_BE_REPEATED: bool = false;

    async fn answer(
        db: &mut PgConnection,
        (): &(),
        queries: &[Self],
    ) -> Result<Vec<Option<WithdrawalResult>>> {
        credit_balances::withdraw(db, queries).await
    }
}

/// The units that one server has taken out of balances; cheap to clone.
#[derive(Clone)]
pub struct CreditLeases(Arc<Inner>);

struct Inner {
    /// The database, to return units and to wait for the lock of a balance.
    db: Database,
    withdrawals: BatchLookup<Withdrawal>,
    leases: Mutex<HashMap<Uuid, Lease>>,
}

/// Units that are reserved for a check. They become available again when it is dropped, unless they
/// were [used](Self::use_up).
pub struct Reservation {
    leases: CreditLeases,
    id: Uuid,
    granted: Granted,
}

impl Reservation {
    /// Returns the units that remain, as far as this server knows.
    #[must_use]
    pub fn remaining(&self) -> i64 {
        self.granted.remaining
    }

    /// Uses the units.
    pub fn use_up(mut self) {
        self.granted.units = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Granted { units, version, .. } = self.granted;
        if units > 0 {
            self.leases.put(self.id, Withdrawn { units, version });
        }
    }
}

impl CreditLeases {
    /// Starts the withdrawals, which use [`CONNECTIONS`] of `checks`. The pool `requests` is used
    /// to return units and to wait for a locked balance, so that no other check waits for that.
    #[must_use]
    pub fn start(checks: &Database, requests: &Database) -> Self {
        let withdrawals = BatchLookup::start(checks, CONNECTIONS, ());
        Self(Arc::new(Inner { db: requests.clone(), withdrawals, leases: Mutex::default() }))
    }

    /// Returns the units of a balance that remain, as far as this server knows: those in its row
    /// and those that this server has taken.
    #[must_use]
    pub fn remaining(&self, balance: &CreditBalance) -> i64 {
        let leases = self.leases();
        let lease = leases.get(&balance.id).filter(|lease| lease.version >= balance.version);
        balance.remaining + lease.map_or(0, |lease| lease.units)
    }

    /// Reserves `cost` units of a balance that was just read; `None` if fewer remain.
    ///
    /// # Errors
    /// Unavailable if units have to be withdrawn and the database does not respond.
    pub async fn reserve(&self, balance: &CreditBalance, cost: i64) -> Result<Option<Reservation>> {
        let receiver = {
            let mut leases = self.leases();
            let lease = leases.entry(balance.id).or_insert_with(|| Lease::new(balance.version));
            lease.update_version(balance.version);
            if lease.waiting.is_empty() && lease.units >= cost {
                lease.units -= cost;
                let granted = Granted {
                    units: cost,
                    version: lease.version,
                    remaining: balance.remaining + lease.units,
                };
                return Ok(Some(self.reservation(balance.id, granted)));
            }
            // A balance that is used up causes no write.
            if balance.remaining.saturating_add(lease.units) < cost {
                return Ok(None);
            }
            let (sender, receiver) = oneshot::channel();
            lease.waiting.push_back(Waiter { cost, sender });
            if !std::mem::replace(&mut lease.is_withdrawing, true) {
                // This is a task, because units that are taken must be stored even if the check is
                // cancelled.
                tokio::spawn(self.clone().withdraw(balance.id));
            }
            receiver
        };
        receiver.await.map_err(Error::unavailable)?
    }

    /// Withdraws units until no check waits for them.
    async fn withdraw(self, id: Uuid) {
        while let Some(demand) = self.with_lease(id, Lease::demand_or_stop) {
            let outcome = self.try_withdraw(id, demand.needed).await;
            let answers = self.with_lease(id, |lease| lease.distribute(&outcome, demand));
            // `leases` must be unlocked here: the reservation of a cancelled check locks it when it
            // is dropped.
            for (sender, answer) in answers {
                let reserve = |granted| self.reservation(id, granted);
                let _ = sender.send(answer.map(|granted| granted.map(reserve)));
            }
        }
    }

    async fn try_withdraw(&self, id: Uuid, needed: i64) -> Result<Option<WithdrawalResult>> {
        let outcome = self.0.withdrawals.query(Withdrawal { id, needed }).await?;
        let Some(WithdrawalResult::Locked) = outcome else { return Ok(outcome) };
        // Waits for the lock alone, without the withdrawals from other balances.
        let waiting = self.0.db.transaction(async |tx| {
            credit_balances::lock(tx, id).await?;
            credit_balances::withdraw(tx, &[Withdrawal { id, needed }]).await
        });
        Ok(waiting.await?.into_iter().next().flatten())
    }

    /// Returns unused units every 10 seconds until `stop` is cancelled, and then all of them.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(RETURN_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.return_unused(RETURN_INTERVAL).await;
        }
        self.return_unused(Duration::ZERO).await;
    }

    /// Returns unused units that were taken at least `min_age` ago.
    pub async fn return_unused(&self, min_age: Duration) {
        let unused = self.take_unused(min_age);
        if unused.is_empty() {
            return;
        }
        let mut is_sent = false;
        let returning = self.0.db.transaction(async |tx| {
            let locked = credit_balances::give_back(tx, &unused).await?;
            is_sent = true;
            Ok(locked)
        });
        let error = match returning.await {
            Ok(locked) => {
                let kept = unused.into_iter().filter(|(id, _)| locked.contains(id));
                kept.for_each(|(id, units)| self.put(id, units));
                return;
            }
            Err(error) => error,
        };
        if is_sent {
            // They may have been returned: using them here, too, could exceed the balance.
            let units: i64 = unused.iter().map(|(_, it)| it.units).sum();
            count_lost(units);
            tracing::error!(units, cause = %error.cause(), "credits may not have been returned");
            return;
        }
        tracing::warn!(cause = %error.cause(), "credits not returned; will retry");
        for (id, units) in unused {
            self.put(id, units);
        }
    }

    fn take_unused(&self, min_age: Duration) -> Vec<(Uuid, Withdrawn)> {
        let mut unused = Vec::new();
        self.leases().retain(|id, lease| {
            let is_old = lease.taken_at.elapsed() >= min_age;
            if lease.is_withdrawing || !is_old {
                return true;
            }
            if lease.units > 0 {
                unused.push((*id, Withdrawn { units: lease.units, version: lease.version }));
            }
            false
        });
        unused
    }

    /// Makes units available that were taken before.
    fn put(&self, id: Uuid, units: Withdrawn) {
        let mut leases = self.leases();
        leases.entry(id).or_insert_with(|| Lease::new(units.version)).add(units);
    }

    fn with_lease<T>(&self, id: Uuid, work: impl FnOnce(&mut Lease) -> T) -> T {
        let mut leases = self.leases();
        work(leases.entry(id).or_insert_with(|| Lease::new(0)))
    }

    fn reservation(&self, id: Uuid, granted: Granted) -> Reservation {
        Reservation { leases: self.clone(), id, granted }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Uuid, Lease>> {
        self.0.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts units that are in no balance any more, and were not used.
fn count_lost(units: i64) {
    counter!("credits_lost_total").increment(units.unsigned_abs());
}
