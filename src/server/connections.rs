//! Which connections are open, and which one makes room for the next.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Gauge, counter};

use super::ConnectionLimits;
use super::timer::ConnectionTimer;
use crate::model::rate_limit::LimitSubject;

/// All open connections.
pub(super) struct ConnectionLimiter {
    limits: ConnectionLimits,
    connections: Mutex<OpenConnections>,
    open_gauge: Gauge,
}

#[derive(Default)]
struct OpenConnections {
    by_subject: HashMap<LimitSubject, HashMap<u64, Arc<ConnectionTimer>>>,
    total: usize,
    /// How many of them were told to make room and have not ended yet.
    evicting: usize,
    next_id: u64,
}

impl ConnectionLimiter {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        let open = metrics::gauge!("http_connections");
        Self { limits, connections: Mutex::default(), open_gauge: open }
    }

    /// Enters a connection, until the seat is dropped. Where there are too many of its address or
    /// in all, those that have waited longest for their clients make room; `None` where its address
    /// has too many and none of them waits.
    pub(super) fn acquire(
        self: &Arc<Self>,
        address: IpAddr,
        pace: &Arc<ConnectionTimer>,
    ) -> Option<ConnectionPermit> {
        let subject = LimitSubject::from_address(Some(address));
        let most = self.limits.connections_per_address;
        let mut guard = self.lock();
        let seats = &mut *guard;
        if let Some(own) = seats.by_subject.get(&subject).filter(|own| own.len() >= most) {
            let staying = own.values().filter(|pace| !pace.is_evicted()).count();
            if staying >= most {
                let evicted = evict(own.values(), most / 128 + 1);
                if evicted == 0 {
                    counter!("http_connections_rejected_total").increment(1);
                    return None;
                }
                seats.evicting += evicted;
            }
        }
        if seats.total - seats.evicting >= self.limits.connections {
            seats.evicting += evict(seats.all(), self.limits.spare());
        }
        let id = seats.next_id;
        seats.next_id += 1;
        seats.total += 1;
        seats.by_subject.entry(subject).or_default().insert(id, Arc::clone(pace));
        drop(guard);
        self.open_gauge.increment(1.0);
        Some(ConnectionPermit { room: Arc::clone(self), subject, id })
    }

    /// Has connections beyond the cap make room, where any has come to wait meanwhile.
    pub(super) fn evict_excess(&self) {
        let mut seats = self.lock();
        let excess = (seats.total - seats.evicting).saturating_sub(self.limits.connections);
        if excess > 0 {
            let evicted = evict(seats.all(), excess);
            seats.evicting += evicted;
        }
    }

    /// Closes idle connections, and the others after the request that they are at.
    pub(super) fn close_idle(&self) {
        self.lock().all().for_each(|pace| pace.shutdown.cancel());
    }

    /// How many connections are at a request.
    pub(super) fn active_requests(&self) -> usize {
        self.lock().all().filter(|pace| pace.has_active_request()).count()
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

/// Has up to `count` connections make room, those that have waited longest; how many there were.
fn evict<'a>(paces: impl Iterator<Item = &'a Arc<ConnectionTimer>>, count: usize) -> usize {
    let staying = paces.filter(|pace| !pace.is_evicted());
    let mut waiting: Vec<_> =
        staying.filter_map(|pace| Some((pace.waiting_since()?, pace))).collect();
    let count = count.min(waiting.len());
    if count > 0 {
        waiting.select_nth_unstable_by_key(count - 1, |(since, _)| *since);
    }
    for (_, pace) in &waiting[..count] {
        pace.evict();
    }
    counter!("http_connections_evicted_total").increment(count as u64);
    count
}

/// One open connection, also in the gauge; a guard, so that a panic or an abort counts down too.
pub(super) struct ConnectionPermit {
    room: Arc<ConnectionLimiter>,
    subject: LimitSubject,
    id: u64,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.room.open_gauge.decrement(1.0);
        let mut seats = self.room.lock();
        let Some(own) = seats.by_subject.get_mut(&self.subject) else { return };
        let Some(pace) = own.remove(&self.id) else { return };
        if own.is_empty() {
            seats.by_subject.remove(&self.subject);
        }
        seats.total -= 1;
        seats.evicting -= usize::from(pace.is_evicted());
    }
}
