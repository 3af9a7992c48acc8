//! The monthly requests of organizations as this server knows them: the total in the database at
//! the last write, plus the requests admitted since. So a request beyond the quota is rejected
//! without a database query.
//!
//! Invariant: a request is admitted and counted under one lock, so that two requests can not both
//! be the last one. One server admits no more than the limit. Requests that other servers admit are
//! in the database at most one interval of the meter after they were answered, and this server
//! reads them after its next batch with requests of the organization. So after the quota is used
//! up, each server admits at most the requests that reach it within two intervals. A server that
//! has just started, or that had no requests of the organization for a while, admits those that
//! reach it before its next batch.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::NaiveDate;

use crate::model::ids::OrganizationId;

/// An organization and the first day of a month.
pub type Month = (OrganizationId, NaiveDate);

/// The usage of organizations in the months that are still written to.
#[derive(Default)]
pub struct Quotas(Mutex<HashMap<Month, MonthUsage>>);

#[derive(Clone, Copy, Default)]
struct MonthUsage {
    /// The requests in the database.
    written: u64,
    /// The requests that were admitted or counted here and are not in the database yet.
    unwritten: u64,
}

impl Quotas {
    fn usage(&self) -> MutexGuard<'_, HashMap<Month, MonthUsage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits one request and counts it.
    ///
    /// # Errors
    /// The number of requests used, if that is `limit` or more.
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

    /// Corrects the count after a request was answered: adds one that counts and was not admitted
    /// before, and subtracts one that was admitted and does not count.
    pub fn adjust(&self, month: Month, was_admitted: bool, counts: bool) {
        if was_admitted == counts {
            return;
        }
        let mut used = self.usage();
        let open = &mut used.entry(month).or_default().unwritten;
        *open = if counts { *open + 1 } else { open.saturating_sub(1) };
    }

    /// Records that a batch was written to the database.
    pub fn record_written(&self, batch: &HashMap<Month, u64>) {
        let mut used = self.usage();
        for (month, requests) in batch {
            let used = used.entry(*month).or_default();
            used.written += requests;
            used.unwritten = used.unwritten.saturating_sub(*requests);
        }
    }

    /// Sets the totals in the database, other servers' requests included, for the months of the
    /// last batch, and removes earlier months.
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
    fn no_more_than_the_limit_are_admitted_whatever_was_written_meanwhile() {
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
    fn a_request_that_does_not_count_after_all_can_be_used_again() {
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
    fn past_months_are_removed() {
        let quotas = Quotas::default();
        quotas.set_totals(&[(month(5), 1)]);
        quotas.set_totals(&[(month(6), 1)]);
        assert_eq!(quotas.usage().keys().copied().collect::<Vec<_>>(), [month(6)]);
    }
}
