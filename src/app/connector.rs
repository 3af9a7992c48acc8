//! Opens the connections of a pool in the background.
//!
//! Opening one takes seven round trips with TLS and SCRAM: two seconds over a slow link, which is
//! longer than a request waits. So a request waits for the next connection that is opened or
//! released, and an attempt to open one continues for later requests after its request has given
//! up.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::repo::connection_settings::{self, SessionSettings};

/// The timeout of one attempt to open a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The age after which an attempt no longer counts as one that will soon succeed, so that another
/// one may start. Over a link that was cut, an attempt never finishes.
const LATE_AFTER: Duration = Duration::from_secs(1);
/// The wait before connecting again to a database that is starting.
const RETRY_DELAY: Duration = Duration::from_millis(25);
/// The longest wait before connecting again to a database that has reached its connection limit.
/// Each attempt costs it a process.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The time that opening takes over the slowest supported link. After a network outage, attempts
/// that are older, except for the oldest one, are aborted for newer ones, which can succeed once
/// the network is back.
const ABORT_AFTER: Duration = Duration::from_secs(4);
/// The time for which a connection may be unused before it is pinged.
const PING_AFTER: Duration = Duration::from_secs(1);
/// The timeout of a ping, in addition to twice the measured round trip.
const PING_TIMEOUT: Duration = Duration::from_millis(200);
/// The longest supported round trip.
const MAX_ROUND_TRIP: Duration = Duration::from_millis(500);

/// An open connection.
pub struct OpenConnection {
    /// The connection itself.
    pub connection: PgConnection,
    /// When it was opened.
    pub opened_at: Instant,
    _count_guard: CountGuard,
}

/// Counts a connection for as long as it is open.
struct CountGuard(Arc<AtomicUsize>);

impl CountGuard {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens connections; cheap to clone.
#[derive(Clone)]
pub struct Connector(Arc<Shared>);

struct Shared {
    options: PgConnectOptions,
    settings: SessionSettings,
    max_open: usize,
    /// The round trip in microseconds, measured by the newest connection.
    round_trip: AtomicU64,
    open: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The callers that wait for a connection.
    waiting: VecDeque<oneshot::Sender<Result<OpenConnection, sqlx::Error>>>,
    /// Open connections for the next callers, and when each became idle.
    unused: Vec<(OpenConnection, Instant)>,
    /// The running attempts to open a connection, by number: when each started, and a handle to
    /// abort it.
    opening: BTreeMap<u64, (Instant, AbortHandle)>,
    next_number: u64,
}

impl Connector {
    /// Creates a connector that keeps at most `max_open` connections open.
    #[must_use]
    pub fn new(options: PgConnectOptions, settings: SessionSettings, max_open: usize) -> Self {
        let (round_trip, open, state) = (AtomicU64::new(0), Arc::default(), Mutex::default());
        Self(Arc::new(Shared { options, settings, max_open, round_trip, open, state }))
    }

    /// Returns an idle connection, or waits for the next one that is opened or handed over. If the
    /// caller is cancelled, the attempt to open one continues for other callers.
    ///
    /// # Errors
    /// The reason why no connection could be opened.
    pub async fn next(&self) -> Result<OpenConnection, sqlx::Error> {
        while let Some((mut open, since)) = self.unused() {
            if since.elapsed() < PING_AFTER || self.ping(&mut open.connection).await {
                return Ok(open);
            }
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            state.waiting.retain(|waiting| !waiting.is_closed());
            state.waiting.push_back(sender);
            let on_time = state
                .opening
                .values()
                .filter(|(started_at, _)| started_at.elapsed() < LATE_AFTER)
                .count();
            if on_time < state.waiting.len() && state.allows_attempt(2 * self.0.max_open) {
                self.start_attempt(&mut state);
            }
        }
        receiver.await.unwrap_or(Err(sqlx::Error::PoolClosed))
    }

    /// Gives a connection that is no longer needed to a waiting caller, or keeps it for the next.
    pub fn hand_over(&self, open: OpenConnection) {
        let mut state = self.state();
        if let Some(Ok(open)) = state.offer(Ok(open)) {
            state.unused.push((open, Instant::now()));
        }
    }

    /// Returns whether a caller waits for a connection.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.state().waiting.iter().any(|waiting| !waiting.is_closed())
    }

    /// Returns whether the connection responds to a ping in time.
    pub async fn ping(&self, connection: &mut PgConnection) -> bool {
        let max_wait = PING_TIMEOUT + 2 * self.round_trip();
        timeout(max_wait, connection.ping()).await.is_ok_and(|response| response.is_ok())
    }

    /// Returns the round-trip time to the database, as the newest connection measured it.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        Duration::from_micros(self.0.round_trip.load(Ordering::Relaxed))
    }

    /// Returns the number of open connections, and the number of those that wait here for the next
    /// caller.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        (self.0.open.load(Ordering::Relaxed), self.state().unused.len())
    }

    /// Closes connections that have been idle for `idle` or longer.
    pub fn close_unused(&self, idle: Duration) {
        self.state().unused.retain(|(_, since)| since.elapsed() < idle);
    }

    fn unused(&self) -> Option<(OpenConnection, Instant)> {
        self.state().unused.pop()
    }

    fn start_attempt(&self, state: &mut State) {
        let number = state.next_number;
        state.next_number += 1;
        let started_at = Instant::now();
        let attempt = ConnectAttempt { connector: self.clone(), number, started_at };
        let task = tokio::spawn(async move {
            let result = timeout(CONNECT_TIMEOUT, attempt.connector.connect()).await;
            let timed_out = |_| Err(sqlx::Error::Io(io::Error::from(ErrorKind::TimedOut)));
            attempt.finish(result.unwrap_or_else(timed_out));
        });
        state.opening.insert(number, (started_at, task.abort_handle()));
    }

    async fn connect(&self) -> Result<OpenConnection, sqlx::Error> {
        let Shared { options, settings, .. } = &*self.0;
        let mut rejected = 0;
        let mut connection = loop {
            match options.connect().await {
                Err(error) if is_temporary(&error) && self.has_waiters() => {
                    rejected += u32::from(is_too_many_connections(&error));
                    sleep(retry_delay(rejected, rand::random())).await;
                }
                result => break result?,
            }
        };
        connection_settings::configure(&mut connection, *settings).await?;
        let started = Instant::now();
        if !connection_settings::is_configured(&mut connection, *settings).await? {
            let message = "the connection does not keep its session settings: the database is \
                           behind a pooler in transaction mode";
            return Err(sqlx::Error::Protocol(message.to_owned()));
        }
        let elapsed = started.elapsed().min(MAX_ROUND_TRIP).as_micros();
        self.0.round_trip.store(u64::try_from(elapsed).unwrap_or_default(), Ordering::Relaxed);
        let count_guard = CountGuard::new(&self.0.open);
        Ok(OpenConnection { connection, opened_at: Instant::now(), _count_guard: count_guard })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether another attempt may start. If `max` attempts are running, the second oldest
    /// is aborted if it is too old, but only if the newest is late, so that attempts are aborted
    /// one at a time and new ones have time to succeed. The oldest is never aborted: over a slow
    /// link, opening may take that long.
    fn allows_attempt(&mut self, max: usize) -> bool {
        if self.opening.len() < max {
            return true;
        }
        let is_newest_late = self
            .opening
            .last_key_value()
            .is_some_and(|(_, (started_at, _))| started_at.elapsed() > LATE_AFTER);
        let second = self.opening.iter().nth(1);
        let too_old = second.filter(|(_, (started_at, _))| started_at.elapsed() > ABORT_AFTER);
        let Some(number) = too_old.map(|(number, _)| *number).filter(|_| is_newest_late) else {
            return false;
        };
        if let Some((_, handle)) = self.opening.remove(&number) {
            handle.abort();
        }
        true
    }

    /// Gives the result to the first caller that still waits. Returns it if no caller does.
    fn offer(
        &mut self,
        mut result: Result<OpenConnection, sqlx::Error>,
    ) -> Option<Result<OpenConnection, sqlx::Error>> {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(result) {
                Ok(()) => return None,
                Err(unsent) => result = unsent,
            }
        }
        Some(result)
    }
}

/// A running attempt to open a connection. Dropping it removes it from the running attempts.
struct ConnectAttempt {
    connector: Connector,
    number: u64,
    started_at: Instant,
}

impl ConnectAttempt {
    /// Gives the connection to a waiting caller, or keeps it for the next. A failure is reported to
    /// a waiting caller only if the attempt is not late: newer attempts may still succeed.
    fn finish(self, result: Result<OpenConnection, sqlx::Error>) {
        let (shared, is_late) = (&self.connector.0, self.started_at.elapsed() > LATE_AFTER);
        if let Err(error) = &result
            && is_late
        {
            tracing::warn!(%error, "could not open a database connection");
            return;
        }
        let mut state = self.connector.state();
        if let Some(Ok(open)) = state.offer(result)
            && shared.open.load(Ordering::Relaxed) <= shared.max_open
        {
            state.unused.push((open, Instant::now()));
        }
    }
}

impl Drop for ConnectAttempt {
    fn drop(&mut self) {
        self.connector.state().opening.remove(&self.number);
    }
}

/// Returns how long to wait before the next attempt, after `rejected` attempts that failed because
/// the database had no connection left. `jitter`, from 0 to 1, spreads the attempts.
fn retry_delay(rejected: u32, jitter: f64) -> Duration {
    let longest = RETRY_DELAY.saturating_mul(1 << rejected.min(10)).min(MAX_RETRY_DELAY);
    if rejected == 0 { RETRY_DELAY } else { longest.mul_f64(f64::midpoint(1.0, jitter)) }
}

/// Returns whether the database has reached its connection limit (`too_many_connections`).
fn is_too_many_connections(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == "53300")
}

/// Returns whether connecting may succeed soon: the database is starting or at its connection
/// limit.
fn is_temporary(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => error.is_transient_in_connect_phase(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::pin::pin;

    use tokio::net::TcpListener;
    use tokio::time::advance;

    use super::*;

    #[test]
    fn retries_at_the_connection_limit_back_off_with_jitter() {
        assert_eq!(retry_delay(0, 0.5), RETRY_DELAY);
        let delays: Vec<_> = (1..40).map(|rejected| retry_delay(rejected, 0.0)).collect();
        assert!(delays.is_sorted());
        assert_eq!(delays.last(), Some(&(MAX_RETRY_DELAY / 2)));
        assert!((1..40).all(|rejected| retry_delay(rejected, 0.0) < retry_delay(rejected, 0.9)));
        assert_eq!(retry_delay(40, 1.0), MAX_RETRY_DELAY);
    }

    fn connector(address: SocketAddr) -> Connector {
        let options = PgConnectOptions::new_without_pgpass();
        let options = options.host("127.0.0.1").port(address.port()).username("user");
        Connector::new(options, connection_settings::REQUESTS, 1)
    }

    /// Waits for a connection, and gives up when the attempt reaches the listener.
    async fn start_and_give_up(
        connector: &Connector,
        listener: &TcpListener,
    ) -> tokio::net::TcpStream {
        let next = pin!(connector.next());
        tokio::select! {
            biased;
            accepted = listener.accept() => accepted.expect("a connection").0,
            result = next => panic!("{:?}", result.err()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_network_outage_an_old_attempt_is_aborted_for_a_new_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let connector = connector(listener.local_addr().expect("an address"));
        // The listener never sends anything.
        let first = start_and_give_up(&connector, &listener).await;
        advance(LATE_AFTER).await;
        let second = start_and_give_up(&connector, &listener).await;
        assert_eq!(connector.state().opening.len(), 2);
        advance(ABORT_AFTER + LATE_AFTER).await;
        let third = start_and_give_up(&connector, &listener).await;
        // The oldest is not aborted: it may be slow.
        assert_eq!(connector.state().opening.keys().copied().collect::<Vec<_>>(), [0, 2]);
        drop((first, second, third));
    }
}
