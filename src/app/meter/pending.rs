//! The usage that is counted and not written yet: one entry for each key, organization and hour.

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use foldhash::HashMap;

use crate::model::attribution::{Attribution, MAX_ATTRIBUTIONS_PER_DAY};
use crate::model::ids::{KeyId, OrganizationId, SessionId};
use crate::model::usage::{UsageTally, UsedCredential};

/// The key, token or grant that was used, the organization, and the hour.
pub(super) type UseOfKey = (KeyId, Option<OrganizationId>, DateTime<Utc>);

/// What is counted of the uses of a key in an hour.
pub(super) struct KeyUse {
    pub(super) credential: UsedCredential,
    pub(super) requests: i64,
    pub(super) rejected: i64,
    pub(super) last_used_at: DateTime<Utc>,
    /// The units of an organization by attribution.
    pub(super) attributed: HashMap<Arc<Attribution>, i64>,
}

/// The usage that is not written yet.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) uses: HashMap<UseOfKey, KeyUse>,
    /// The attributions of each organization since the last flush, so that their number is bounded.
    attributions: HashMap<OrganizationId, HashSet<Arc<Attribution>>>,
    /// When each session was last used.
    pub(super) seen: HashMap<SessionId, DateTime<Utc>>,
}

impl KeyUse {
    pub(super) fn new(
        credential: UsedCredential,
        (requests, rejected): (i64, i64),
        last_used_at: DateTime<Utc>,
    ) -> Self {
        Self { credential, requests, rejected, last_used_at, attributed: HashMap::default() }
    }
}

/// Returns the sums of each key, organization and day.
pub(super) fn tallies_by_day(uses: &HashMap<UseOfKey, KeyUse>) -> Vec<UsageTally> {
    let mut tallies: HashMap<(KeyId, Option<OrganizationId>, NaiveDate), UsageTally> =
        HashMap::default();
    for (&(key, organization, hour), used) in uses {
        let day = hour.date_naive();
        let tally = tallies.entry((key, organization, day)).or_insert_with(|| UsageTally {
            organization,
            key,
            credential: used.credential,
            day,
            requests: 0,
            rejected: 0,
            last_used_at: used.last_used_at,
        });
        tally.requests += used.requests;
        tally.rejected += used.rejected;
        tally.last_used_at = tally.last_used_at.max(used.last_used_at);
    }
    tallies.into_values().collect()
}

impl Pending {
    /// Adds a use, whose requests all have this attribution.
    pub(super) fn add(
        &mut self,
        use_of_key: UseOfKey,
        used: KeyUse,
        attribution: &Arc<Attribution>,
    ) {
        let units = used.requests;
        let sum = self.add_sums(use_of_key, used);
        if use_of_key.1.is_none() || units == 0 {
            return;
        }
        match sum.attributed.get_mut(attribution) {
            Some(sum) => *sum += units,
            None => self.attribute(use_of_key, attribution, units),
        }
    }

    /// Adds uses that could not be written.
    pub(super) fn add_again(&mut self, use_of_key: UseOfKey, mut used: KeyUse) {
        let attributed = std::mem::take(&mut used.attributed);
        self.add_sums(use_of_key, used);
        for (attribution, units) in attributed {
            self.attribute(use_of_key, &attribution, units);
        }
    }

    fn add_sums(&mut self, use_of_key: UseOfKey, used: KeyUse) -> &mut KeyUse {
        match self.uses.entry(use_of_key) {
            Entry::Vacant(entry) => entry.insert(used),
            Entry::Occupied(entry) => {
                let sum = entry.into_mut();
                sum.requests += used.requests;
                sum.rejected += used.rejected;
                sum.last_used_at = sum.last_used_at.max(used.last_used_at);
                sum
            }
        }
    }

    /// Adds units. Beyond [`MAX_ATTRIBUTIONS_PER_DAY`] attributions of an organization, their
    /// attribution is [`Attribution::other`].
    fn attribute(&mut self, use_of_key: UseOfKey, attribution: &Arc<Attribution>, units: i64) {
        let (_, Some(organization), _) = use_of_key else { return };
        let known = self.attributions.entry(organization).or_default();
        let attribution = if known.contains(attribution) {
            Arc::clone(attribution)
        } else if known.len() < MAX_ATTRIBUTIONS_PER_DAY {
            known.insert(Arc::clone(attribution));
            Arc::clone(attribution)
        } else {
            Arc::new(Attribution::other())
        };
        if let Some(used) = self.uses.get_mut(&use_of_key) {
            *used.attributed.entry(attribution).or_default() += units;
        }
    }

    pub(super) fn seen_at(&mut self, session: SessionId, at: DateTime<Utc>) {
        let last = self.seen.entry(session).or_insert(at);
        *last = at.max(*last);
    }
}
