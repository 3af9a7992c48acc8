//! How many of a pool's connections one organization, or one person, may use at a time. Whoever
//! changes something in an organization locks its row, so its requests wait for each other; without
//! a share of its own they would do so on every connection there is, and everybody else's requests
//! would fail for want of one.
//!
//! Requests beyond the share wait in this process, where they cost no connection and no lock of the
//! database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Kind, Result};
use crate::model::ids::OrganizationId;
use crate::model::limit::Subject;

/// How long a request waits for its caller's other requests.
const WAIT: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// Whose share the running request uses.
    static PAYER: Subject;
}

/// Runs a request whose database work uses the share of `payer`.
pub async fn paid_by<T>(payer: Subject, request: impl Future<Output = T>) -> T {
    PAYER.scope(payer, request).await
}

/// The shares of one pool; cheap to clone.
#[derive(Clone)]
pub struct Shares(Arc<Parts>);

struct Parts {
    /// The connections of one share.
    size: usize,
    in_use: Mutex<HashMap<Subject, Arc<Semaphore>>>,
}

impl Shares {
    /// Shares of a quarter of the connections each, rounded up.
    #[must_use]
    pub fn of(connections: u32) -> Self {
        let size = connections.div_ceil(4).max(1) as usize;
        Self(Arc::new(Parts { size, in_use: Mutex::default() }))
    }

    /// Permits for one connection until they are dropped: of whoever makes the request, and of the
    /// organization that it is made in. Work that nobody in particular asked for needs none.
    ///
    /// # Errors
    /// Rate limited where the share stays used up.
    pub async fn enter(&self, organization: Option<OrganizationId>) -> Result<[Option<Permit>; 2]> {
        let payer = PAYER.try_with(|payer| *payer).ok();
        let organization = organization.map(|it| Subject::id(it.0)).filter(|it| Some(*it) != payer);
        // The payer's first, everywhere: nobody who has an organization's waits for a payer's.
        let entering = async { [self.permit(payer).await, self.permit(organization).await] };
        timeout(WAIT, entering).await.map_err(|_| {
            counter!("rate_limited_total", "limit" => "connections", "mode" => "enforced")
                .increment(1);
            let error = Error::new(Kind::RateLimited, "Too many requests at once");
            error.with_retry_after(Duration::from_secs(1))
        })
    }

    async fn permit(&self, subject: Option<Subject>) -> Option<Permit> {
        let subject = subject?;
        let semaphore = {
            let mut in_use = self.0.in_use();
            let share = in_use.entry(subject);
            Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(self.0.size))))
        };
        // Made before it has its permit, so that one that is dropped while it waits is forgotten.
        let mut permit = Permit { shares: self.clone(), subject, held: None };
        permit.held = semaphore.acquire_owned().await.ok();
        Some(permit)
    }
}

impl Parts {
    fn in_use(&self) -> MutexGuard<'_, HashMap<Subject, Arc<Semaphore>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a share.
pub struct Permit {
    shares: Shares,
    subject: Subject,
    held: Option<OwnedSemaphorePermit>,
}

impl Drop for Permit {
    /// Forgets shares that nobody uses or waits for.
    fn drop(&mut self) {
        drop(self.held.take());
        let mut in_use = self.shares.0.in_use();
        if in_use.get(&self.subject).is_some_and(|share| Arc::strong_count(share) == 1) {
            in_use.remove(&self.subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn organization(number: u128) -> OrganizationId {
        OrganizationId(Uuid::from_u128(number))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_beyond_a_share_waits_and_others_do_not() {
        let shares = Shares::of(10);
        let one = Some(organization(1));
        let held = [shares.enter(one).await, shares.enter(one).await, shares.enter(one).await];
        assert!(held.iter().all(Result::is_ok));
        let refused = shares.enter(one).await.err().expect("refused");
        assert_eq!(*refused.kind(), Kind::RateLimited);
        assert!(shares.enter(Some(organization(2))).await.is_ok());
        assert!(shares.enter(None).await.is_ok());
        drop(held);
        assert!(shares.enter(one).await.is_ok());
        assert!(shares.0.in_use().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_s_share_is_one_whatever_organizations_they_work_in() {
        let shares = Shares::of(4);
        let person = Subject::id(Uuid::from_u128(7));
        let held = paid_by(person, shares.enter(Some(organization(1)))).await.expect("a permit");
        assert!(held.iter().all(Option::is_some));
        assert!(paid_by(person, shares.enter(Some(organization(2)))).await.is_err());
        assert!(shares.enter(Some(organization(1))).await.is_err());
        drop(held);
        // Whoever pays for their own organization pays once.
        let own = Subject::id(organization(1).0);
        let held = paid_by(own, shares.enter(Some(organization(1)))).await.expect("a permit");
        assert_eq!(held.iter().flatten().count(), 1);
    }
}
