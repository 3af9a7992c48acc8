//! Bounds the number of requests in flight: in total, so that an overloaded server sheds the costly
//! requests first, and per subject, so that one caller cannot use all of the capacity.
//!
//! A request is not in flight while it waits for its body or for another server: it costs almost
//! nothing, and others decide how long that takes. Such waiting requests are counted separately,
//! per subject.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::rate_limit::LimitSubject;

/// The cost of a request, the costliest first. An overloaded server sheds them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Hashes a password or queues a mail.
    Hashing,
    /// Writes to the database.
    Write,
    /// Reads from the database.
    Read,
    /// Checks a credential.
    Check,
}

impl Cost {
    /// Returns the percentage of the total capacity up to which requests of this cost are accepted.
    const fn share_percent(self) -> usize {
        match self {
            Self::Hashing => 40,
            Self::Write => 60,
            Self::Read => 80,
            Self::Check => 100,
        }
    }
}

/// Counts the requests in flight; cheap to clone.
#[derive(Clone)]
pub struct InFlight(Arc<Counts>);

struct Counts {
    max_total: usize,
    max_per_subject: usize,
    /// The number of requests in flight.
    total: AtomicUsize,
    /// The numbers of requests in flight.
    in_flight: Mutex<CountBySubject>,
    /// The numbers of waiting requests.
    waiting: Mutex<CountBySubject>,
}

type CountBySubject = HashMap<LimitSubject, usize>;

impl InFlight {
    /// Creates the counts, with at most `max_total` requests in flight. Each subject may have
    /// `max_per_subject` of them, and as many others that wait for a body or another server.
    #[must_use]
    pub fn new(max_total: usize, max_per_subject: usize) -> Self {
        let total = AtomicUsize::new(0);
        let (in_flight, waiting) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Counts { max_total, max_per_subject, total, in_flight, waiting }))
    }

    /// Returns a permit for a request, valid until it is dropped; `None` if the capacity for this
    /// cost is in use.
    #[must_use]
    pub fn acquire(&self, cost: Cost) -> Option<RequestPermit> {
        let before = self.0.total.fetch_add(1, Ordering::Relaxed);
        let permit = RequestPermit(self.clone());
        // At least one, even if the total is very small.
        let max = (self.0.max_total * cost.share_percent() / 100).max(1);
        (before < max).then_some(permit)
    }

    /// Returns a permit for a request in flight of the subject, valid until it is dropped; `None`
    /// if the subject has none left.
    #[must_use]
    pub fn acquire_for(&self, subject: LimitSubject) -> Option<SubjectPermit> {
        self.count(subject, |counts| &counts.in_flight)
    }

    /// Returns a permit for a waiting request of the subject: one that waits for its body or
    /// another server. Returns `None` if the subject has none left.
    #[must_use]
    pub fn acquire_waiting_for(&self, subject: LimitSubject) -> Option<SubjectPermit> {
        self.count(subject, |counts| &counts.waiting)
    }

    /// Returns the number of requests that wait for a body or another server.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    fn count(&self, subject: LimitSubject, selector: CountSelector) -> Option<SubjectPermit> {
        let mut counts = selector(&self.0).lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(subject).or_default();
        if *count >= self.0.max_per_subject {
            return None;
        }
        *count += 1;
        Some(SubjectPermit { in_flight: self.clone(), subject, selector })
    }

    /// Returns the number of requests in flight.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.total.load(Ordering::Relaxed)
    }
}

/// Selects one of the counts per subject.
type CountSelector = fn(&Counts) -> &Mutex<CountBySubject>;

/// The permit of a request in flight.
pub struct RequestPermit(InFlight);

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.0.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of a subject's permits, for a request that is in flight or waits.
pub struct SubjectPermit {
    in_flight: InFlight,
    subject: LimitSubject,
    selector: CountSelector,
}

impl Drop for SubjectPermit {
    fn drop(&mut self) {
        let counts = (self.selector)(&self.in_flight.0);
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_costliest_requests_are_shed_first_and_a_dropped_permit_is_released() {
        let all = InFlight::new(10, 10);
        let mut permits = Vec::new();
        for (cost, max) in
            [(Cost::Hashing, 4), (Cost::Write, 6), (Cost::Read, 8), (Cost::Check, 10)]
        {
            while let Some(permit) = all.acquire(cost) {
                permits.push(permit);
            }
            assert_eq!(permits.len(), max, "{cost:?}");
            assert_eq!(all.total(), max);
        }
        permits.clear();
        assert!(all.acquire(Cost::Hashing).is_some());
        assert_eq!(all.total(), 0);
    }

    #[test]
    fn each_subject_has_its_own_permits() {
        let all = InFlight::new(10, 2);
        let [one, other] = [1, 2].map(|id| LimitSubject::from_id(Uuid::from_u128(id)));
        let permits = [all.acquire_for(one), all.acquire_for(one)];
        assert!(permits.iter().all(Option::is_some));
        assert!(all.acquire_for(one).is_none());
        assert!(all.acquire_for(other).is_some());
        drop(permits);
        assert!(all.acquire_for(one).is_some());
        assert!(all.0.in_flight.lock().expect("no panic").is_empty());
    }

    #[test]
    fn requests_whose_bodies_are_arriving_are_counted_separately() {
        let all = InFlight::new(10, 1);
        let subject = LimitSubject::from_id(Uuid::from_u128(1));
        let waiting = all.acquire_waiting_for(subject);
        assert!(waiting.is_some() && all.acquire_waiting_for(subject).is_none());
        assert!(all.acquire_for(subject).is_some());
        drop(waiting);
        assert!(all.acquire_waiting_for(subject).is_some());
    }
}
