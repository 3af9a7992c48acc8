//! Takes prepaid units out of balances in advance, so that a check seldom waits for a write.
//!
//! Invariant: a unit is either in the balance's row, or in one server's memory, or used. A server
//! that is killed takes its units with it: at most 1 % of what was left, and at most 1,000 units or
//! what its running checks needed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;
use sqlx::PgConnection;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

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
    const NAME: &'static str = "credit_withdrawals";
    /// After a lost connection it is unknown whether the units were taken.
    const MAY_BE_REPEATED: bool = false;

    async fn answer(
        db: &mut PgConnection,
        queries: &[Self],
    ) -> Result<Vec<Option<WithdrawalResult>>> {
        credit_balances::withdraw(db, queries).await
    }
}

/// The units that one server has taken out of balances; cheap to clone.
#[derive(Clone)]
pub struct CreditLeases(Arc<Inner>);

struct Inner {
    db: Database,
    withdrawals: BatchLookup<Withdrawal>,
    leases: Mutex<HashMap<Uuid, Lease>>,
}

/// The units of one balance that this server may use.
struct Lease {
    units: i64,
    version: i64,
    taken_at: Instant,
    /// The checks that wait for a withdrawal, in the order of their arrival.
    waiting: VecDeque<Waiter>,
    is_withdrawing: bool,
}

struct Waiter {
    cost: i64,
    sender: oneshot::Sender<Result<Option<Reservation>>>,
}

/// Units that are reserved for a check. They become available again when it is dropped, unless they
/// were [used](Self::use_up).
pub struct Reservation {
    leases: CreditLeases,
    id: Uuid,
    granted: Granted,
}

/// What a check gets of a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Granted {
    units: i64,
    version: i64,
    /// The units that remain after it, those of this server included.
    remaining: i64,
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
    /// Starts the withdrawals, which use [`CONNECTIONS`] of `db`.
    #[must_use]
    pub fn start(db: &Database) -> Self {
        let withdrawals = BatchLookup::start(db, CONNECTIONS);
        Self(Arc::new(Inner { db: db.clone(), withdrawals, leases: Mutex::default() }))
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
            // No write for a balance that is used up.
            if balance.remaining.saturating_add(lease.units) < cost {
                return Ok(None);
            }
            let (sender, receiver) = oneshot::channel();
            lease.waiting.push_back(Waiter { cost, sender });
            if !std::mem::replace(&mut lease.is_withdrawing, true) {
                // A task of its own: units that are taken must be stored even if the check is
                // cancelled.
                tokio::spawn(self.clone().withdraw(balance.id));
            }
            receiver
        };
        receiver.await.map_err(Error::unavailable)?
    }

    /// Withdraws units until no check waits for them.
    async fn withdraw(self, id: Uuid) {
        loop {
            let needed = self.with_lease(id, |lease| lease.needed());
            let outcome = self.0.withdrawals.query(Withdrawal { id, needed }).await;
            let (answers, is_done) = self.with_lease(id, |lease| {
                let answers = lease.distribute(&outcome, needed);
                lease.is_withdrawing = !lease.waiting.is_empty();
                (answers, lease.waiting.is_empty())
            });
            // After the lock is released: a reservation whose check was cancelled takes it.
            for (sender, answer) in answers {
                let reserve = |granted| self.reservation(id, granted);
                let _ = sender.send(answer.map(|granted| granted.map(reserve)));
            }
            if is_done {
                return;
            }
        }
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
            credit_balances::give_back(tx, &unused).await?;
            is_sent = true;
            Ok(())
        });
        let Err(error) = returning.await else { return };
        if is_sent {
            // They may have been returned: using them here, too, could exceed the balance.
            let units: i64 = unused.iter().map(|(_, it)| it.units).sum();
            counter!("credits_lost_total").increment(units.unsigned_abs());
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
        match leases.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert(Lease { units: units.units, ..Lease::new(units.version) });
            }
            Entry::Occupied(entry) => entry.into_mut().add(units),
        }
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

/// What a waiting check gets; `None` if too few units remain.
type Answer = (oneshot::Sender<Result<Option<Reservation>>>, Result<Option<Granted>>);

impl Lease {
    fn new(version: i64) -> Self {
        let (waiting, taken_at) = (VecDeque::new(), Instant::now());
        Self { units: 0, version, taken_at, waiting, is_withdrawing: false }
    }

    /// Drops the units if the balance was set or refilled since they were taken.
    fn update_version(&mut self, version: i64) {
        if version > self.version {
            (self.units, self.version) = (0, version);
        }
    }

    fn add(&mut self, Withdrawn { units, version }: Withdrawn) {
        self.update_version(version);
        if version == self.version {
            self.units += units;
        }
    }

    /// The units that the waiting checks lack.
    fn needed(&self) -> i64 {
        let costs: i64 = self.waiting.iter().map(|waiter| waiter.cost).sum();
        (costs - self.units).max(0)
    }

    /// Distributes withdrawn units to the waiting checks in order. If fewer were withdrawn than
    /// `needed`, no more remain, and checks that cost more than is left are rejected. Otherwise
    /// those that arrived meanwhile continue to wait.
    fn distribute(
        &mut self,
        outcome: &Result<Option<WithdrawalResult>>,
        needed: i64,
    ) -> Vec<Answer> {
        let waiting = std::mem::take(&mut self.waiting);
        let WithdrawalResult { withdrawn, remaining } = match outcome {
            Ok(Some(result)) => *result,
            // The balance was removed meanwhile: nothing limits the checks.
            Ok(None) => {
                let free = Granted { units: 0, version: self.version, remaining: 0 };
                return waiting.into_iter().map(|it| (it.sender, Ok(Some(free)))).collect();
            }
            Err(_) => {
                let failure = || Err(Error::unavailable("credits could not be withdrawn"));
                return waiting.into_iter().map(|it| (it.sender, failure())).collect();
            }
        };
        if self.units == 0 {
            self.taken_at = Instant::now();
        }
        self.add(withdrawn);
        let mut answers = Vec::new();
        for waiter in waiting {
            if self.units >= waiter.cost {
                self.units -= waiter.cost;
                let granted = Granted {
                    units: waiter.cost,
                    version: self.version,
                    remaining: remaining + self.units,
                };
                answers.push((waiter.sender, Ok(Some(granted))));
            } else if withdrawn.units < needed {
                answers.push((waiter.sender, Ok(None)));
            } else {
                self.waiting.push_back(waiter);
            }
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease_with_waiting(costs: &[i64]) -> Lease {
        let mut lease = Lease::new(1);
        for &cost in costs {
            lease.waiting.push_back(Waiter { cost, sender: oneshot::channel().0 });
        }
        lease
    }

    fn distribute(lease: &mut Lease, units: i64, needed: i64) -> Vec<Option<i64>> {
        let withdrawn = Withdrawn { units, version: 1 };
        let result = WithdrawalResult { withdrawn, remaining: 0 };
        let answers = lease.distribute(&Ok(Some(result)), needed);
        let units = |(_, answer): Answer| answer.expect("an answer").map(|it| it.units);
        answers.into_iter().map(units).collect()
    }

    #[test]
    fn waiting_checks_get_what_was_withdrawn_in_order_and_no_unit_twice() {
        let mut lease = lease_with_waiting(&[1, 5, 2]);
        assert_eq!(lease.needed(), 8);
        assert_eq!(distribute(&mut lease, 4, 8), [Some(1), None, Some(2)]);
        assert_eq!((lease.units, lease.waiting.len()), (1, 0));
    }

    #[test]
    fn checks_that_arrived_during_a_withdrawal_wait_for_the_next_one() {
        let mut lease = lease_with_waiting(&[1, 1, 1]);
        assert_eq!(distribute(&mut lease, 2, 2), [Some(1), Some(1)]);
        assert_eq!(lease.needed(), 1);
    }

    #[test]
    fn units_of_an_earlier_version_are_not_used() {
        let mut lease = lease_with_waiting(&[1]);
        lease.add(Withdrawn { units: 3, version: 1 });
        lease.update_version(2);
        assert_eq!(lease.units, 0);
        lease.add(Withdrawn { units: 3, version: 1 });
        assert_eq!(lease.units, 0);
        lease.add(Withdrawn { units: 3, version: 2 });
        assert_eq!(lease.units, 3);
    }
}
