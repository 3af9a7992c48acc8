//! How many requests are under way: in all, so that a server with too many sheds the costly ones
//! first, and for each who makes them, so that nobody can take all there is.
//!
//! A request whose body is still arriving is not under way: it costs next to nothing, and how long
//! it takes is its client's choice. Those have a count of their own for each who makes them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::rate_limit::LimitSubject;

/// What a request costs, the costliest first: that is the order in which they are shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Hashes a password, or asks for a mail.
    Hashing,
    /// Changes something.
    Write,
    /// Reads something.
    Read,
    /// Asks whether a credential is good, and whose it is.
    Check,
}

impl Cost {
    /// How many percent of the places those of this cost may fill.
    const fn share_percent(self) -> usize {
        match self {
            Self::Hashing => 40,
            Self::Write => 60,
            Self::Read => 80,
            Self::Check => 100,
        }
    }
}

/// How many requests are under way; cheap to clone.
#[derive(Clone)]
pub struct InFlight(Arc<Counts>);

struct Counts {
    max_total: usize,
    max_per_subject: usize,
    running_total: AtomicUsize,
    running: Mutex<CountBySubject>,
    arriving: Mutex<CountBySubject>,
}

type CountBySubject = HashMap<LimitSubject, usize>;

impl InFlight {
    /// None yet, of at most `most` in all and `most_of_one` of one who makes them, and as many more
    /// of theirs whose bodies are arriving.
    #[must_use]
    pub fn new(most: usize, most_of_one: usize) -> Self {
        let now = AtomicUsize::new(0);
        let (under_way, arriving) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Counts {
            max_total: most,
            max_per_subject: most_of_one,
            running_total: now,
            running: under_way,
            arriving,
        }))
    }

    /// A place for a request until it is dropped; `None` where those of its cost have none left.
    #[must_use]
    pub fn acquire(&self, cost: Cost) -> Option<RequestPermit> {
        let before = self.0.running_total.fetch_add(1, Ordering::Relaxed);
        let place = RequestPermit(self.clone());
        // At least one, however few there are in all.
        let most = (self.0.max_total * cost.share_percent() / 100).max(1);
        (before < most).then_some(place)
    }

    /// A place for a request of the subject's until it is dropped; `None` where it has none left.
    #[must_use]
    pub fn acquire_for(&self, subject: LimitSubject) -> Option<SubjectPermit> {
        self.count(subject, |counts| &counts.running)
    }

    /// The same for a request of the subject's whose body is arriving.
    #[must_use]
    pub fn acquire_body_for(&self, subject: LimitSubject) -> Option<SubjectPermit> {
        self.count(subject, |counts| &counts.arriving)
    }

    /// How many bodies are arriving.
    #[must_use]
    pub fn arriving(&self) -> usize {
        self.0.arriving.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    fn count(&self, subject: LimitSubject, counted: CountSelector) -> Option<SubjectPermit> {
        let mut of_each = counted(&self.0).lock().unwrap_or_else(PoisonError::into_inner);
        let count = of_each.entry(subject).or_default();
        if *count >= self.0.max_per_subject {
            return None;
        }
        *count += 1;
        Some(SubjectPermit { in_flight: self.clone(), subject, selector: counted })
    }

    /// How many are under way.
    #[must_use]
    pub fn running_total(&self) -> usize {
        self.0.running_total.load(Ordering::Relaxed)
    }
}

/// Which of the counts.
type CountSelector = fn(&Counts) -> &Mutex<CountBySubject>;

/// The place of a request that is under way.
pub struct RequestPermit(InFlight);

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.0.0.running_total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of a request among those of its subject.
pub struct SubjectPermit {
    in_flight: InFlight,
    subject: LimitSubject,
    selector: CountSelector,
}

impl Drop for SubjectPermit {
    fn drop(&mut self) {
        let of_each = (self.selector)(&self.in_flight.0);
        let mut of_each = of_each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of_each.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                of_each.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn what_costs_most_is_shed_first_and_a_permit_is_free_again_when_it_is_dropped() {
        let all = InFlight::new(10, 10);
        let mut held = Vec::new();
        for (cost, places) in
            [(Cost::Hashing, 4), (Cost::Write, 6), (Cost::Read, 8), (Cost::Check, 10)]
        {
            while let Some(place) = all.acquire(cost) {
                held.push(place);
            }
            assert_eq!(held.len(), places, "{cost:?}");
            assert_eq!(all.running_total(), places);
        }
        held.clear();
        assert!(all.acquire(Cost::Hashing).is_some());
        assert_eq!(all.running_total(), 0);
    }

    #[test]
    fn each_subject_has_permits_of_its_own() {
        let all = InFlight::new(10, 2);
        let [one, other] = [1, 2].map(|id| LimitSubject::from_id(Uuid::from_u128(id)));
        let held = [all.acquire_for(one), all.acquire_for(one)];
        assert!(held.iter().all(Option::is_some));
        assert!(all.acquire_for(one).is_none());
        assert!(all.acquire_for(other).is_some());
        drop(held);
        assert!(all.acquire_for(one).is_some());
        assert!(all.0.running.lock().expect("no panic").is_empty());
    }

    #[test]
    fn requests_whose_bodies_arrive_are_counted_apart_from_those_under_way() {
        let all = InFlight::new(10, 1);
        let subject = LimitSubject::from_id(Uuid::from_u128(1));
        let waiting = all.acquire_body_for(subject);
        assert!(waiting.is_some() && all.acquire_body_for(subject).is_none());
        assert!(all.acquire_for(subject).is_some());
        drop(waiting);
        assert!(all.acquire_body_for(subject).is_some());
    }
}
