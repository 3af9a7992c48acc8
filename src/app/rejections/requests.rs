//! Rejected requests, for the lists of the organizations that made them.

use std::collections::HashMap;

use metrics::counter;

use crate::app::database::Database;
use crate::app::write_buffer::Batch;
use crate::error::{ErrorKind, Result};
use crate::model::ids::OrganizationId;
use crate::model::rejection::Rejection;
use crate::repo::rejections;

/// The maximum number of pending rejections between two flushes.
const MAX_PENDING: usize = 1_000;
/// The maximum number for one organization, so that its rejections do not displace others'.
const MAX_PER_ORGANIZATION: usize = 50;

/// The rejected requests that are not written yet.
#[derive(Default)]
pub struct RejectedRequests {
    batch: Vec<(OrganizationId, Rejection)>,
    per_organization: HashMap<OrganizationId, usize>,
}

impl RejectedRequests {
    /// Adds a rejected request. A request beyond the bounds is counted in the metrics and dropped.
    pub fn add(&mut self, organization: OrganizationId, rejection: impl FnOnce() -> Rejection) {
        let in_organization = self.per_organization.get(&organization).copied().unwrap_or(0);
        if self.batch.len() >= MAX_PENDING || in_organization >= MAX_PER_ORGANIZATION {
            return count_outcome("left_out", 1);
        }
        self.per_organization.insert(organization, in_organization + 1);
        self.batch.push((organization, rejection()));
    }

    async fn insert(&self, db: &Database) -> Result<()> {
        let organizations: Vec<_> = self.per_organization.keys().copied().collect();
        db.transaction(async |tx| {
            rejections::insert(tx, &self.batch).await?;
            rejections::trim(tx, &organizations).await.map(|_| ())
        })
        .await
    }
}

impl Batch for RejectedRequests {
    fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    fn merge(&mut self, newer: Self) {
        for (organization, rejection) in newer.batch {
            self.add(organization, || rejection);
        }
    }

    async fn write(&mut self, db: &Database) -> Result<()> {
        let written = self.insert(db).await;
        let outcome = match &written {
            Ok(()) => "written",
            Err(error) if *error.kind() == ErrorKind::Unavailable => "kept",
            Err(_) => "lost",
        };
        count_outcome(outcome, self.batch.len());
        if outcome != "kept" {
            *self = Self::default();
        }
        written
    }
}

fn count_outcome(outcome: &'static str, rejections: usize) {
    let rejections = u64::try_from(rejections).unwrap_or(u64::MAX);
    counter!("denials_total", "outcome" => outcome).increment(rejections);
}
