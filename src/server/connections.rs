//! Tracks open connections, and evicts those that have waited longest when a limit is reached.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Gauge, counter};

use super::ConnectionLimits;
use super::timer::ConnectionTimer;
use crate::model::rate_limit::LimitSubject;

/// Limits the number of open connections, in total and for each address.
pub(super) struct ConnectionLimiter {
    limits: ConnectionLimits,
    connections: Mutex<OpenConnections>,
    open_gauge: Gauge,
}

#[derive(Default)]
struct OpenConnections {
    by_subject: HashMap<LimitSubject, HashMap<u64, Arc<ConnectionTimer>>>,
    total: usize,
    /// The number of evicted connections that have not ended yet.
    evicting: usize,
    next_id: u64,
}

impl ConnectionLimiter {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        let open_gauge = metrics::gauge!("http_connections");
        Self { limits, connections: Mutex::default(), open_gauge }
    }

    /// Registers a connection until the permit is dropped. If its address or the server has too
    /// many connections, those that have waited longest for their clients are evicted. Returns
    /// `None` if its address has too many and none of them waits for its client.
    pub(super) fn acquire(
        self: &Arc<Self>,
        address: IpAddr,
        timer: &Arc<ConnectionTimer>,
    ) -> Option<ConnectionPermit> {
        let subject = LimitSubject::from_address(Some(address));
        let max = self.limits.connections_per_address;
        let mut guard = self.lock();
        let open = &mut *guard;
        let same_subject = open.by_subject.get(&subject).filter(|it| it.len() >= max);
        if let Some(same_subject) = same_subject {
            let not_evicted = same_subject.values().filter(|timer| !timer.is_evicted()).count();
            if not_evicted >= max {
                let evicted = evict(same_subject.values(), max / 128 + 1);
                if evicted == 0 {
                    counter!("http_connections_rejected_total").increment(1);
                    return None;
                }
                open.evicting += evicted;
            }
        }
        if open.total - open.evicting >= self.limits.connections {
            open.evicting += evict(open.all(), self.limits.spare());
        }
        let id = open.next_id;
        open.next_id += 1;
        open.total += 1;
        open.by_subject.entry(subject).or_default().insert(id, Arc::clone(timer));
        drop(guard);
        self.open_gauge.increment(1.0);
        Some(ConnectionPermit { limiter: Arc::clone(self), subject, id })
    }

    /// Evicts connections beyond the total limit, as far as they wait for their clients now.
    pub(super) fn evict_excess(&self) {
        let mut open = self.lock();
        let excess = (open.total - open.evicting).saturating_sub(self.limits.connections);
        if excess > 0 {
            let evicted = evict(open.all(), excess);
            open.evicting += evicted;
        }
    }

    /// Closes idle connections immediately, and the others after their current request.
    pub(super) fn close_idle(&self) {
        self.lock().all().for_each(|timer| timer.shutdown.cancel());
    }

    /// Returns the number of connections that have an active request.
    pub(super) fn active_requests(&self) -> usize {
        self.lock().all().filter(|timer| timer.has_active_request()).count()
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    fn all(&self) -> impl Iterator<Item = &Arc<ConnectionTimer>> {
        self.by_subject.values().flat_map(HashMap::values)
    }
}

/// Evicts up to `count` connections, those that have waited longest for their clients. Returns how
/// many it evicted.
fn evict<'a>(timers: impl Iterator<Item = &'a Arc<ConnectionTimer>>, count: usize) -> usize {
    let not_evicted = timers.filter(|timer| !timer.is_evicted());
    let mut waiting: Vec<_> =
        not_evicted.filter_map(|timer| Some((timer.waiting_since()?, timer))).collect();
    let count = count.min(waiting.len());
    if count > 0 {
        waiting.select_nth_unstable_by_key(count - 1, |(since, _)| *since);
    }
    for (_, timer) in &waiting[..count] {
        timer.evict();
    }
    counter!("http_connections_evicted_total").increment(count as u64);
    count
}

/// The registration of an open connection. Dropping it, even after a panic or an abort, removes the
/// connection from the counts and the gauge.
pub(super) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    subject: LimitSubject,
    id: u64,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limiter.open_gauge.decrement(1.0);
        let mut open = self.limiter.lock();
        let Some(same_subject) = open.by_subject.get_mut(&self.subject) else { return };
        let Some(timer) = same_subject.remove(&self.id) else { return };
        if same_subject.is_empty() {
            open.by_subject.remove(&self.subject);
        }
        open.total -= 1;
        open.evicting -= usize::from(timer.is_evicted());
    }
}
