//! The monthly requests of organizations as this server knows them: the total in the database at
//! the last write, plus the requests admitted since. So a request beyond the quota is rejected
//! without a database query.
//!
//! Invariant: a request is admitted and counted under one lock, so that two requests cannot both
//! be the last one. One server admits no more than the limit. Requests that other servers admit are
//! in the database at most one interval of the meter after they were answered, and this server
//! reads them after its next batch with requests of the organization. So after the quota is used
//! up, each server admits at most the requests that reach it within two intervals. A server that
//! has just started, or that had no requests of the organization for a while, admits those that
//! reach it before its next batch.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::NaiveDate;
use foldhash::HashMap;

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

    /// Admits `units` requests and counts them. Returns the number of requests used, these
    /// included.
    ///
    /// # Errors
    /// The number of requests used, if `units` more would exceed `limit`.
    pub fn admit(&self, month: Month, units: u64, limit: u64) -> Result<u64, u64> {
        let mut used = self.usage();
        let used = used.entry(month).or_default();
        let after = check(used, units, limit)?;
        used.unwritten += units;
        Ok(after)
    }

    /// Returns the result that [`Self::admit`] would have, and counts nothing.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub fn peek(&self, month: Month, units: u64, limit: u64) -> Result<u64, u64> {
        check(self.usage().get(&month).unwrap_or(&MonthUsage::default()), units, limit)
    }

    /// Corrects the count after a request was answered: `counted` units replace the `admitted`.
    pub fn adjust(&self, month: Month, admitted: u64, counted: u64) {
        if admitted == counted {
            return;
        }
        let mut used = self.usage();
        let open = &mut used.entry(month).or_default().unwritten;
        *open = open.saturating_add(counted).saturating_sub(admitted);
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

fn check(used: &MonthUsage, units: u64, limit: u64) -> Result<u64, u64> {
    let sum = used.written.saturating_add(used.unwritten);
    let after = sum.saturating_add(units);
    if after > limit && units > 0 { Err(sum) } else { Ok(after) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn month(number: u32) -> Month {
        (OrganizationId(Uuid::nil()), NaiveDate::from_ymd_opt(2026, number, 1).expect("a day"))
    }

    #[test]
    fn no_more_requests_than_the_limit_are_admitted_before_and_after_writes() {
        let (quotas, may) = (Quotas::default(), month(5));
        assert_eq!([(); 3].map(|()| quotas.admit(may, 1, 3)), [Ok(1), Ok(2), Ok(3)]);
        assert_eq!(quotas.admit(may, 1, 3), Err(3));
        quotas.record_written(&HashMap::from_iter([(may, 2)]));
        assert_eq!(quotas.admit(may, 1, 3), Err(3));
        quotas.set_totals(&[(may, 7)]);
        assert_eq!(quotas.admit(may, 1, 8), Err(8));
        assert_eq!(quotas.admit(may, 1, 9), Ok(9));
        assert_eq!(quotas.admit(month(6), 1, 1), Ok(1));
        assert_eq!(quotas.peek(month(6), 1, 2), Ok(2));
        assert_eq!(quotas.admit(month(6), 2, 2), Err(1));
        assert_eq!(quotas.admit(month(6), 0, 1), Ok(1));
    }

    #[test]
    fn an_admitted_request_that_does_not_count_can_be_used_again() {
        let (quotas, may) = (Quotas::default(), month(5));
        assert_eq!(quotas.admit(may, 1, 1), Ok(1));
        quotas.adjust(may, 1, 0);
        assert_eq!(quotas.admit(may, 1, 1), Ok(1));
        quotas.adjust(may, 1, 1);
        quotas.adjust(may, 0, 0);
        assert_eq!(quotas.admit(may, 1, 2), Ok(2));
        quotas.adjust(may, 0, 1);
        assert_eq!(quotas.admit(may, 1, 3), Err(3));
    }

    #[test]
    fn past_months_are_removed() {
        let quotas = Quotas::default();
        quotas.set_totals(&[(month(5), 1)]);
        quotas.set_totals(&[(month(6), 1)]);
        assert_eq!(quotas.usage().keys().copied().collect::<Vec<_>>(), [month(6)]);
    }
}
