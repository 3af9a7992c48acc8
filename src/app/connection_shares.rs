//! Bounds the number of connections of a pool that one organization or account may use at a time.
//! Requests that change an organization lock its row, so they wait for each other. Without a bound
//! they would do so on every connection of the pool, and all other requests would fail because no
//! connection is left.
//!
//! Requests beyond the share wait in this process, where they use no connection and no database
//! lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::model::ids::OrganizationId;
use crate::model::rate_limit::LimitSubject;

/// The maximum time that a request waits for connections that its caller's other requests use.
const MAX_WAIT: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// The owner of the share that the running request uses.
    static SHARE_OWNER: LimitSubject;
}

/// Runs a request whose database work uses the share of `owner`.
pub async fn with_share_owner<T>(owner: LimitSubject, request: impl Future<Output = T>) -> T {
    SHARE_OWNER.scope(owner, request).await
}

/// The shares of one pool; cheap to clone.
#[derive(Clone)]
pub struct ConnectionShares(Arc<Inner>);

struct Inner {
    /// The number of connections in one share.
    size: usize,
    in_use: Mutex<HashMap<LimitSubject, Arc<Semaphore>>>,
}

impl ConnectionShares {
    /// Creates shares of a quarter of the connections each, rounded up.
    #[must_use]
    pub fn of(connections: u32) -> Self {
        let size = connections.div_ceil(4).max(1) as usize;
        Self(Arc::new(Inner { size, in_use: Mutex::default() }))
    }

    /// Waits for the permits to use one connection: one from the share of the request's owner and
    /// one from the organization's share. They are valid until dropped. Work without an owner and
    /// without an organization needs none.
    ///
    /// # Errors
    /// Rate limited if no permit becomes free within 10 seconds.
    pub async fn acquire(
        &self,
        organization: Option<OrganizationId>,
    ) -> Result<[Option<SharePermit>; 2]> {
        let owner = SHARE_OWNER.try_with(|owner| *owner).ok();
        let organization =
            organization.map(|it| LimitSubject::from_id(it.0)).filter(|it| Some(*it) != owner);
        // The owner's comes first, so that requests cannot deadlock on each other's permits.
        let permits = async { [self.permit(owner).await, self.permit(organization).await] };
        timeout(MAX_WAIT, permits).await.map_err(|_| {
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
        // Created before it has its permit, so that dropping it while it waits removes the share.
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

/// The permit to use one connection of a share.
pub struct SharePermit {
    shares: ConnectionShares,
    subject: LimitSubject,
    semaphore_permit: Option<OwnedSemaphorePermit>,
}

impl Drop for SharePermit {
    /// Removes the share if no other request uses it or waits for it.
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
    async fn requests_beyond_a_share_are_rejected_after_a_wait_and_others_do_not_wait() {
        let shares = ConnectionShares::of(10);
        let one = Some(organization(1));
        let permits =
            [shares.acquire(one).await, shares.acquire(one).await, shares.acquire(one).await];
        assert!(permits.iter().all(Result::is_ok));
        let error = shares.acquire(one).await.err().expect("a rejection");
        assert_eq!(*error.kind(), ErrorKind::RateLimited);
        assert!(shares.acquire(Some(organization(2))).await.is_ok());
        assert!(shares.acquire(None).await.is_ok());
        drop(permits);
        assert!(shares.acquire(one).await.is_ok());
        assert!(shares.0.in_use().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_has_one_share_across_all_organizations() {
        let shares = ConnectionShares::of(4);
        let account = LimitSubject::from_id(Uuid::from_u128(7));
        let permits = with_share_owner(account, shares.acquire(Some(organization(1))))
            .await
            .expect("permits");
        assert!(permits.iter().all(Option::is_some));
        assert!(with_share_owner(account, shares.acquire(Some(organization(2)))).await.is_err());
        assert!(shares.acquire(Some(organization(1))).await.is_err());
        drop(permits);
        // An organization that is the owner itself needs one permit only.
        let owner = LimitSubject::from_id(organization(1).0);
        let permits =
            with_share_owner(owner, shares.acquire(Some(organization(1)))).await.expect("a permit");
        assert_eq!(permits.iter().flatten().count(), 1);
    }
}
