//! The units of one balance that this server may use, and the checks that wait for more.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Reservation;
use crate::error::{Error, Result};
use crate::repo::credit_balances::{WithdrawalResult, Withdrawn};

/// The units of one balance that this server may use.
pub struct Lease {
    /// The units.
    pub units: i64,
    /// The version of the balance.
    pub version: i64,
    /// When the first of the units was taken.
    pub taken_at: Instant,
    /// The checks that wait for a withdrawal, in the order of their arrival.
    pub waiting: VecDeque<Waiter>,
    /// Whether a withdrawal is running.
    pub is_withdrawing: bool,
    /// Whether the last withdrawal had a lower version than the lease.
    was_outdated: bool,
}

/// A check that waits for a withdrawal.
pub struct Waiter {
    /// The units that it needs.
    pub cost: i64,
    /// Sends the check its answer.
    pub sender: oneshot::Sender<Result<Option<Reservation>>>,
}

/// What a check gets from a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its units.
    pub units: i64,
    /// The version of the balance.
    pub version: i64,
    /// The units of the balance that remain after the check, including those that this server has
    /// taken.
    pub remaining: i64,
}

/// The sender to a waiting check, and what the check gets; `None` if too few units remain.
pub type Answer = (oneshot::Sender<Result<Option<Reservation>>>, Result<Option<Granted>>);

/// What the checks that wait for a withdrawal need.
#[derive(Clone, Copy)]
pub struct Demand {
    /// The units that they lack.
    pub needed: i64,
    /// The number of these checks.
    pub waiting: usize,
}

impl Lease {
    /// Returns a lease without units.
    #[must_use]
    pub fn new(version: i64) -> Self {
        Self {
            units: 0,
            version,
            taken_at: Instant::now(),
            waiting: VecDeque::new(),
            is_withdrawing: false,
            was_outdated: false,
        }
    }

    /// Drops the units if the balance was set or refilled since they were taken.
    pub fn update_version(&mut self, version: i64) {
        if version > self.version {
            (self.units, self.version) = (0, version);
        }
    }

    /// Adds units, unless they are of an earlier version.
    pub fn add(&mut self, Withdrawn { units, version }: Withdrawn) {
        self.update_version(version);
        if version == self.version {
            self.units += units;
        }
    }

    /// Returns what the waiting checks need; `None` if no check waits, which ends the withdrawals.
    pub fn demand_or_stop(&mut self) -> Option<Demand> {
        self.waiting.retain(|waiter| !waiter.sender.is_closed());
        self.is_withdrawing = !self.waiting.is_empty();
        self.is_withdrawing.then(|| self.demand())
    }

    fn demand(&self) -> Demand {
        let costs: i64 = self.waiting.iter().map(|waiter| waiter.cost).sum();
        Demand { needed: (costs - self.units).max(0), waiting: self.waiting.len() }
    }

    /// Distributes withdrawn units to the waiting checks in order. If fewer were withdrawn than
    /// needed, no more remain, and the checks that were counted in `demand` and cost more than is
    /// left are rejected. The others continue to wait.
    pub fn distribute(
        &mut self,
        outcome: &Result<Option<WithdrawalResult>>,
        demand: Demand,
    ) -> Vec<Answer> {
        let (withdrawn, remaining) = match outcome {
            Ok(Some(WithdrawalResult::Taken { withdrawn, remaining })) => (*withdrawn, *remaining),
            // Does not happen: after this result, `CreditLeases` waited for the lock.
            Ok(Some(WithdrawalResult::Locked)) => return Vec::new(),
            // The balance was removed meanwhile: nothing limits the checks.
            Ok(None) => {
                let free = Granted { units: 0, version: self.version, remaining: 0 };
                let waiting = std::mem::take(&mut self.waiting);
                return waiting.into_iter().map(|it| (it.sender, Ok(Some(free)))).collect();
            }
            Err(_) => {
                let failure = || Err(Error::unavailable("credits could not be withdrawn"));
                let waiting = std::mem::take(&mut self.waiting);
                return waiting.into_iter().map(|it| (it.sender, failure())).collect();
            }
        };
        let is_outdated = self.store(withdrawn);
        let is_used_up = withdrawn.units < demand.needed && !is_outdated;
        let mut answers = Vec::new();
        for (index, waiter) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            if self.units >= waiter.cost {
                self.units -= waiter.cost;
                let (units, version) = (waiter.cost, self.version);
                let remaining = remaining + self.units;
                answers.push((waiter.sender, Ok(Some(Granted { units, version, remaining }))));
            } else if is_used_up && index < demand.waiting {
                answers.push((waiter.sender, Ok(None)));
            } else {
                self.waiting.push_back(waiter);
            }
        }
        answers
    }

    /// Stores withdrawn units, and returns whether they are of an earlier version and are lost. A
    /// second withdrawal in a row of an earlier version means that the database went back to an
    /// earlier state: then its version applies.
    fn store(&mut self, withdrawn: Withdrawn) -> bool {
        let is_outdated = withdrawn.version < self.version;
        if is_outdated && !self.was_outdated {
            super::count_lost(withdrawn.units);
            self.was_outdated = true;
            return true;
        }
        if is_outdated {
            (self.units, self.version) = (0, withdrawn.version);
        }
        self.was_outdated = false;
        if self.units == 0 {
            self.taken_at = Instant::now();
        }
        self.add(withdrawn);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a lease with waiting checks of these costs, and their receivers.
    fn lease_with_waiting(costs: &[i64]) -> (Lease, Vec<impl Sized>) {
        let (mut lease, mut receivers) = (Lease::new(1), Vec::new());
        for &cost in costs {
            let (sender, receiver) = oneshot::channel();
            lease.waiting.push_back(Waiter { cost, sender });
            receivers.push(receiver);
        }
        (lease, receivers)
    }

    fn distribute(lease: &mut Lease, units: i64, demand: Demand) -> Vec<Option<i64>> {
        distribute_version(lease, (units, 1), demand)
    }

    fn distribute_version(
        lease: &mut Lease,
        (units, version): (i64, i64),
        demand: Demand,
    ) -> Vec<Option<i64>> {
        let withdrawn = Withdrawn { units, version };
        let result = WithdrawalResult::Taken { withdrawn, remaining: 0 };
        let answers = lease.distribute(&Ok(Some(result)), demand);
        let units = |(_, answer): Answer| answer.expect("an answer").map(|it| it.units);
        answers.into_iter().map(units).collect()
    }

    #[test]
    fn waiting_checks_get_what_was_withdrawn_in_order_and_no_unit_twice() {
        let (mut lease, _receivers) = lease_with_waiting(&[1, 5, 2]);
        let demand = lease.demand();
        assert_eq!(demand.needed, 8);
        assert_eq!(distribute(&mut lease, 4, demand), [Some(1), None, Some(2)]);
        assert_eq!((lease.units, lease.waiting.len()), (1, 0));
    }

    #[test]
    fn checks_that_arrived_during_a_withdrawal_wait_for_the_next_one() {
        let (mut lease, _receivers) = lease_with_waiting(&[1, 1, 1]);
        let before_the_last = Demand { needed: 2, waiting: 2 };
        assert_eq!(distribute(&mut lease, 2, before_the_last), [Some(1), Some(1)]);
        assert_eq!(lease.demand().needed, 1);
        // Also if the balance was used up before they arrived.
        let (mut lease, _receivers) = lease_with_waiting(&[1, 1]);
        let before_the_last = Demand { needed: 1, waiting: 1 };
        assert_eq!(distribute(&mut lease, 0, before_the_last), [None]);
        assert_eq!(lease.waiting.len(), 1);
    }

    #[test]
    fn nothing_is_withdrawn_for_checks_that_were_cancelled() {
        let (mut lease, receivers) = lease_with_waiting(&[1, 1]);
        drop(receivers);
        assert!(lease.demand_or_stop().is_none());
        assert!(!lease.is_withdrawing);
    }

    #[test]
    fn units_of_an_earlier_version_are_not_used() {
        let (mut lease, _receivers) = lease_with_waiting(&[1]);
        lease.add(Withdrawn { units: 3, version: 1 });
        lease.update_version(2);
        assert_eq!(lease.units, 0);
        lease.add(Withdrawn { units: 3, version: 1 });
        assert_eq!(lease.units, 0);
        lease.add(Withdrawn { units: 3, version: 2 });
        assert_eq!(lease.units, 3);
    }

    #[test]
    fn the_version_of_a_database_that_was_restored_applies_after_one_lost_withdrawal() {
        let (mut lease, _receivers) = lease_with_waiting(&[1]);
        lease.update_version(9);
        let demand = lease.demand();
        assert_eq!(distribute_version(&mut lease, (5, 3), demand), [] as [Option<i64>; 0]);
        assert_eq!(distribute_version(&mut lease, (5, 3), demand), [Some(1)]);
        assert_eq!((lease.units, lease.version), (4, 3));
    }
}
