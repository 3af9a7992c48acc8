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

use crate::error::{Error, ErrorKind, Result};
use crate::model::ids::OrganizationId;
use crate::model::rate_limit::LimitSubject;

/// How long a request waits for its caller's other requests.
const MAX_WAIT: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// Whose share the running request uses.
    static SHARE_OWNER: LimitSubject;
}

/// Runs a request whose database work uses the share of `payer`.
pub async fn with_share_owner<T>(payer: LimitSubject, request: impl Future<Output = T>) -> T {
    SHARE_OWNER.scope(payer, request).await
}

/// The shares of one pool; cheap to clone.
#[derive(Clone)]
pub struct ConnectionShares(Arc<Inner>);

struct Inner {
    /// The connections of one share.
    size: usize,
    in_use: Mutex<HashMap<LimitSubject, Arc<Semaphore>>>,
}

impl ConnectionShares {
    /// Shares of a quarter of the connections each, rounded up.
    #[must_use]
    pub fn of(connections: u32) -> Self {
        let size = connections.div_ceil(4).max(1) as usize;
        Self(Arc::new(Inner { size, in_use: Mutex::default() }))
    }

    /// Permits for one connection until they are dropped: of whoever makes the request, and of the
    /// organization that it is made in. Work that nobody in particular asked for needs none.
    ///
    /// # Errors
    /// Rate limited where the share stays used up.
    pub async fn acquire(
        &self,
        organization: Option<OrganizationId>,
    ) -> Result<[Option<SharePermit>; 2]> {
        let payer = SHARE_OWNER.try_with(|payer| *payer).ok();
        let organization =
            organization.map(|it| LimitSubject::from_id(it.0)).filter(|it| Some(*it) != payer);
        // The payer's first, everywhere: nobody who has an organization's waits for a payer's.
        let entering = async { [self.permit(payer).await, self.permit(organization).await] };
        timeout(MAX_WAIT, entering).await.map_err(|_| {
            counter!("rate_limited_total", "limit" => "connections", "mode" => "enforced")
                .increment(1);
            let error = Error::new(ErrorKind::RateLimited, "Too many requests at once");
            error.with_retry_after(Duration::from_secs(1))
        })
    }

    async fn permit(&self, subject: Option<LimitSubject>) -> Option<SharePermit> {
        let subject = subject?;
        let semaphore = {
            let mut in_use = self.0.in_use();
            let share = in_use.entry(subject);
            Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(self.0.size))))
        };
        // Made before it has its permit, so that one that is dropped while it waits is forgotten.
        let mut permit = SharePermit { shares: self.clone(), subject, semaphore_permit: None };
        permit.semaphore_permit = semaphore.acquire_owned().await.ok();
        Some(permit)
    }
}

impl Inner {
    fn in_use(&self) -> MutexGuard<'_, HashMap<LimitSubject, Arc<Semaphore>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of a share.
pub struct SharePermit {
    shares: ConnectionShares,
    subject: LimitSubject,
    semaphore_permit: Option<OwnedSemaphorePermit>,
}

impl Drop for SharePermit {
    /// Forgets shares that nobody uses or waits for.
    fn drop(&mut self) {
        drop(self.semaphore_permit.take());
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
        let shares = ConnectionShares::of(10);
        let one = Some(organization(1));
        let held =
            [shares.acquire(one).await, shares.acquire(one).await, shares.acquire(one).await];
        assert!(held.iter().all(Result::is_ok));
        let refused = shares.acquire(one).await.err().expect("refused");
        assert_eq!(*refused.kind(), ErrorKind::RateLimited);
        assert!(shares.acquire(Some(organization(2))).await.is_ok());
        assert!(shares.acquire(None).await.is_ok());
        drop(held);
        assert!(shares.acquire(one).await.is_ok());
        assert!(shares.0.in_use().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_person_s_share_is_one_whatever_organizations_they_work_in() {
        let shares = ConnectionShares::of(4);
        let person = LimitSubject::from_id(Uuid::from_u128(7));
        let held = with_share_owner(person, shares.acquire(Some(organization(1))))
            .await
            .expect("a permit");
        assert!(held.iter().all(Option::is_some));
        assert!(with_share_owner(person, shares.acquire(Some(organization(2)))).await.is_err());
        assert!(shares.acquire(Some(organization(1))).await.is_err());
        drop(held);
        // Whoever pays for their own organization pays once.
        let own = LimitSubject::from_id(organization(1).0);
        let held =
            with_share_owner(own, shares.acquire(Some(organization(1)))).await.expect("a permit");
        assert_eq!(held.iter().flatten().count(), 1);
    }
}
