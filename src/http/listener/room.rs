//! Which connections are open, and which one makes room for the next.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Gauge, counter};

use super::Limits;
use super::pace::Pace;
use crate::model::limit::Subject;

/// All open connections.
pub(super) struct Room {
    limits: Limits,
    seats: Mutex<Seats>,
    open: Gauge,
}

#[derive(Default)]
struct Seats {
    of_each: HashMap<Subject, HashMap<u64, Arc<Pace>>>,
    taken: usize,
    /// How many of them were told to make room and have not ended yet.
    leaving: usize,
    next: u64,
}

impl Room {
    pub(super) fn new(limits: Limits) -> Self {
        let open = metrics::gauge!("http_connections");
        Self { limits, seats: Mutex::default(), open }
    }

    /// Enters a connection, until the seat is dropped. Where there are too many of its address or
    /// in all, those that have waited longest for their clients make room; `None` where its address
    /// has too many and none of them waits.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, pace: &Arc<Pace>) -> Option<Seat> {
        let subject = Subject::address(Some(address));
        let most = self.limits.connections_per_address;
        let mut guard = self.lock();
        let seats = &mut *guard;
        if let Some(own) = seats.of_each.get(&subject).filter(|own| own.len() >= most) {
            let staying = own.values().filter(|pace| !pace.is_evicted()).count();
            if staying >= most {
                let evicted = evict(own.values(), most / 128 + 1);
                if evicted == 0 {
                    counter!("http_connections_rejected_total").increment(1);
                    return None;
                }
                seats.leaving += evicted;
            }
        }
        if seats.taken - seats.leaving >= self.limits.connections {
            seats.leaving += evict(seats.all(), self.limits.spare());
        }
        let id = seats.next;
        seats.next += 1;
        seats.taken += 1;
        seats.of_each.entry(subject).or_default().insert(id, Arc::clone(pace));
        drop(guard);
        self.open.increment(1.0);
        Some(Seat { room: Arc::clone(self), subject, id })
    }

    /// Has connections beyond the cap make room, where any has come to wait meanwhile.
    pub(super) fn evict_excess(&self) {
        let mut seats = self.lock();
        let excess = (seats.taken - seats.leaving).saturating_sub(self.limits.connections);
        if excess > 0 {
            let evicted = evict(seats.all(), excess);
            seats.leaving += evicted;
        }
    }

    /// Closes idle connections, and the others after the request that they are at.
    pub(super) fn close_idle(&self) {
        self.lock().all().for_each(|pace| pace.end.cancel());
    }

    /// How many connections are at a request.
    pub(super) fn under_way(&self) -> usize {
        self.lock().all().filter(|pace| pace.is_at_a_request()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn all(&self) -> impl Iterator<Item = &Arc<Pace>> {
        self.of_each.values().flat_map(HashMap::values)
    }
}

/// Has up to `count` connections make room, those that have waited longest; how many there were.
fn evict<'a>(paces: impl Iterator<Item = &'a Arc<Pace>>, count: usize) -> usize {
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
pub(super) struct Seat {
    room: Arc<Room>,
    subject: Subject,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.open.decrement(1.0);
        let mut seats = self.room.lock();
        let Some(own) = seats.of_each.get_mut(&self.subject) else { return };
        let Some(pace) = own.remove(&self.id) else { return };
        if own.is_empty() {
            seats.of_each.remove(&self.subject);
        }
        seats.taken -= 1;
        seats.leaving -= usize::from(pace.is_evicted());
    }
}
