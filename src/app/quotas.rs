//! How many of a month's requests organizations have used, as this server knows it: what the
//! database held when it last wrote there, and what it let in since. So whoever has spent their
//! quota is refused without a question to the database.
//!
//! Invariant: a request is let in and counted under one lock, so that no two have the last place.
//! One server lets in no more than the limit. What others let in is in the database within one
//! interval of the meter's after it was answered, and known here with the next batch that has
//! requests of the organization. So of several servers, each lets in what reaches it within two
//! intervals after the quota was spent, at most; and one that has just started, or that the
//! organization has not asked for a while, what reaches it before its next batch.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::NaiveDate;

use crate::model::ids::OrganizationId;

/// An organization in a month, which is named by its first day.
pub type Month = (OrganizationId, NaiveDate);

/// What organizations have used; kept for the months that are still written to.
#[derive(Default)]
pub struct Quotas(Mutex<HashMap<Month, MonthUsage>>);

#[derive(Clone, Copy, Default)]
struct MonthUsage {
    /// In the database.
    written: u64,
    /// Let in or counted here, and not in the database yet.
    unwritten: u64,
}

impl Quotas {
    fn usage(&self) -> MutexGuard<'_, HashMap<Month, MonthUsage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one request in and counts it.
    ///
    /// # Errors
    /// How many were used, where that is as many as there may be.
    pub fn admit(&self, month: Month, limit: u64) -> Result<(), u64> {
        let mut used = self.usage();
        let used = used.entry(month).or_default();
        let sum = used.written.saturating_add(used.unwritten);
        if sum >= limit {
            return Err(sum);
        }
        used.unwritten += 1;
        Ok(())
    }

    /// Corrects the count when a request was answered: one that counts though nobody had to let it
    /// in, or that was let in and then does not count.
    pub fn adjust(&self, month: Month, was_admitted: bool, counts: bool) {
        if was_admitted == counts {
            return;
        }
        let mut used = self.usage();
        let open = &mut used.entry(month).or_default().unwritten;
        *open = if counts { *open + 1 } else { open.saturating_sub(1) };
    }

    /// Takes note of a batch that is in the database now.
    pub fn record_written(&self, batch: &HashMap<Month, u64>) {
        let mut used = self.usage();
        for (month, requests) in batch {
            let used = used.entry(*month).or_default();
            used.written += requests;
            used.unwritten = used.unwritten.saturating_sub(*requests);
        }
    }

    /// Takes over what the database holds for the months of the last batch, other servers' requests
    /// included, and forgets the months before.
    pub fn set_totals(&self, totals: &[(Month, u64)]) {
        let mut used = self.usage();
        for (month, requests) in totals {
            used.entry(*month).or_default().written = *requests;
        }
        if let Some(oldest) = totals.iter().map(|((_, start), _)| *start).min() {
            used.retain(|(_, start), _| *start >= oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn month(number: u32) -> Month {
        (OrganizationId(Uuid::nil()), NaiveDate::from_ymd_opt(2026, number, 1).expect("a day"))
    }

    #[test]
    fn no_more_are_let_in_than_the_limit_whatever_was_written_meanwhile() {
        let (quotas, may) = (Quotas::default(), month(5));
        assert_eq!([(); 3].map(|()| quotas.admit(may, 3)), [Ok(()); 3]);
        assert_eq!(quotas.admit(may, 3), Err(3));
        quotas.record_written(&HashMap::from([(may, 2)]));
        assert_eq!(quotas.admit(may, 3), Err(3));
        quotas.set_totals(&[(may, 7)]);
        assert_eq!(quotas.admit(may, 8), Err(8));
        assert_eq!(quotas.admit(may, 9), Ok(()));
        assert_eq!(quotas.admit(month(6), 1), Ok(()));
    }

    #[test]
    fn what_does_not_count_after_all_makes_room_again() {
        let (quotas, may) = (Quotas::default(), month(5));
        assert_eq!(quotas.admit(may, 1), Ok(()));
        quotas.adjust(may, true, false);
        assert_eq!(quotas.admit(may, 1), Ok(()));
        quotas.adjust(may, true, true);
        quotas.adjust(may, false, false);
        assert_eq!(quotas.admit(may, 2), Ok(()));
        quotas.adjust(may, false, true);
        assert_eq!(quotas.admit(may, 3), Err(3));
    }

    #[test]
    fn months_that_are_over_are_forgotten() {
        let quotas = Quotas::default();
        quotas.set_totals(&[(month(5), 1)]);
        quotas.set_totals(&[(month(6), 1)]);
        assert_eq!(quotas.usage().keys().copied().collect::<Vec<_>>(), [month(6)]);
    }
}
