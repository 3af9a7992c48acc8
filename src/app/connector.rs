//! Opens the connections of a pool in the background.
//!
//! Opening one takes seven round trips with TLS and SCRAM: two seconds over a slow link, which no
//! request waits for. So a request waits for a while for the next connection that is opened or
//! given back, and an attempt whose request has gone away is finished for the next request.

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

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be on its way before it is no reason not to open another one: over a
/// link that was cut it never arrives.
const LATE_AFTER: Duration = Duration::from_secs(1);
/// How long to wait before a database that is just starting is asked again.
const RETRY_DELAY: Duration = Duration::from_millis(25);
/// The longest wait before one that has no connection left is asked again: each question costs it a
/// process.
const LONGEST_AGAIN: Duration = Duration::from_secs(1);
/// How long opening takes over the slowest link that is allowed for. Where the network hung, what
/// is older is given up for a newer one, which finds out whether it is back; all but the oldest.
const HOPELESS: Duration = Duration::from_secs(4);
/// How long one may lie unused before it is asked whether it still lives.
const PING_AFTER: Duration = Duration::from_secs(1);
/// How long it may take to say so, besides the round trip.
const PING_TIMEOUT: Duration = Duration::from_millis(200);
/// The longest round trip that is allowed for.
const MAX_ROUND_TRIP: Duration = Duration::from_millis(500);

/// An open connection.
pub struct OpenConnection {
    /// It.
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
    /// In microseconds, as the newest connection took it.
    round_trip: AtomicU64,
    open: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those who wait for a connection.
    waiting: VecDeque<oneshot::Sender<Result<OpenConnection, sqlx::Error>>>,
    /// Open connections that no request waited for any more, and since when.
    unused: Vec<(OpenConnection, Instant)>,
    /// When each that is being opened was begun, and how to give it up.
    opening: BTreeMap<u64, (Instant, AbortHandle)>,
    next_number: u64,
}

impl Connector {
    /// Opens connections with these settings, and keeps at most `most` open.
    #[must_use]
    pub fn new(options: PgConnectOptions, settings: SessionSettings, most: usize) -> Self {
        let (round_trip, open, state) = (AtomicU64::new(0), Arc::default(), Mutex::default());
        Self(Arc::new(Shared { options, settings, max_open: most, round_trip, open, state }))
    }

    /// The next connection that is opened or handed over. Dropped, it leaves what is being opened
    /// to others.
    ///
    /// # Errors
    /// Why none could be opened.
    pub async fn next(&self) -> Result<OpenConnection, sqlx::Error> {
        while let Some((mut opened, since)) = self.unused() {
            if since.elapsed() < PING_AFTER || self.ping(&mut opened.connection).await {
                return Ok(opened);
            }
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            state.waiting.retain(|waiting| !waiting.is_closed());
            state.waiting.push_back(sender);
            let on_time =
                state.opening.values().filter(|(begun, _)| begun.elapsed() < LATE_AFTER).count();
            if on_time < state.waiting.len() && state.makes_way(2 * self.0.max_open) {
                self.start_attempt(&mut state);
            }
        }
        receiver.await.unwrap_or(Err(sqlx::Error::PoolClosed))
    }

    /// Gives a connection that is not needed any more to a request that waits, or keeps it.
    pub fn hand_over(&self, opened: OpenConnection) {
        let mut state = self.state();
        if let Some(Ok(opened)) = state.offer(Ok(opened)) {
            state.unused.push((opened, Instant::now()));
        }
    }

    /// Whether anybody waits for a connection.
    #[must_use]
    pub fn has_waiters(&self) -> bool {
        self.state().waiting.iter().any(|waiting| !waiting.is_closed())
    }

    /// Whether the connection answers.
    pub async fn ping(&self, connection: &mut PgConnection) -> bool {
        let patience = PING_TIMEOUT + 2 * self.round_trip();
        timeout(patience, connection.ping()).await.is_ok_and(|answered| answered.is_ok())
    }

    /// How long a question to the database and its answer are under way.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        Duration::from_micros(self.0.round_trip.load(Ordering::Relaxed))
    }

    /// How many connections are open, and how many of them were never used.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        (self.0.open.load(Ordering::Relaxed), self.state().unused.len())
    }

    /// Closes what has lain unused for so long.
    pub fn close_unused(&self, idle: Duration) {
        self.state().unused.retain(|(_, since)| since.elapsed() < idle);
    }

    fn unused(&self) -> Option<(OpenConnection, Instant)> {
        self.state().unused.pop()
    }

    fn start_attempt(&self, state: &mut State) {
        let number = state.next_number;
        state.next_number += 1;
        let begun = Instant::now();
        let opening = ConnectAttempt { opener: self.clone(), number, started_at: begun };
        let task = tokio::spawn(async move {
            let opened = timeout(CONNECT_TIMEOUT, opening.opener.connect()).await;
            let late = |_| Err(sqlx::Error::Io(io::Error::from(ErrorKind::TimedOut)));
            opening.finish(opened.unwrap_or_else(late));
        });
        state.opening.insert(number, (begun, task.abort_handle()));
    }

    async fn connect(&self) -> Result<OpenConnection, sqlx::Error> {
        let Shared { options, settings, .. } = &*self.0;
        let mut refused = 0;
        let mut connection = loop {
            match options.connect().await {
                Err(error) if is_starting(&error) && self.has_waiters() => {
                    refused += u32::from(has_no_room(&error));
                    sleep(pause(refused, rand::random())).await;
                }
                opened => break opened?,
            }
        };
        connection_settings::configure(&mut connection, *settings).await?;
        let asked = Instant::now();
        if !connection_settings::is_configured(&mut connection, *settings).await? {
            let why = "the connection does not keep its settings: a pooler in transaction mode \
                       stands before the database";
            return Err(sqlx::Error::Protocol(why.to_owned()));
        }
        let took = asked.elapsed().min(MAX_ROUND_TRIP).as_micros();
        self.0.round_trip.store(u64::try_from(took).unwrap_or_default(), Ordering::Relaxed);
        let counted = CountGuard::new(&self.0.open);
        Ok(OpenConnection { connection, opened_at: Instant::now(), _count_guard: counted })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether another one may be begun besides those that are being opened. At `most` of them the
    /// second oldest is given up, where it is hopeless; but one at a time, so that what is begun
    /// has time. The oldest goes on until it is open or failed: opening may just take that long.
    fn makes_way(&mut self, most: usize) -> bool {
        if self.opening.len() < most {
            return true;
        }
        let is_newest_late = self
            .opening
            .last_key_value()
            .is_some_and(|(_, (begun, _))| begun.elapsed() > LATE_AFTER);
        let second = self.opening.iter().nth(1);
        let hopeless = second.filter(|(_, (begun, _))| begun.elapsed() > HOPELESS);
        let Some(number) = hopeless.map(|(number, _)| *number).filter(|_| is_newest_late) else {
            return false;
        };
        if let Some((_, hopeless)) = self.opening.remove(&number) {
            hopeless.abort();
        }
        true
    }

    /// Gives it to the first who still waits; what nobody took.
    fn offer(
        &mut self,
        mut opened: Result<OpenConnection, sqlx::Error>,
    ) -> Option<Result<OpenConnection, sqlx::Error>> {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(opened) {
                Ok(()) => return None,
                Err(untaken) => opened = untaken,
            }
        }
        Some(opened)
    }
}

/// A connection that is being opened; however that ends, it is not counted any more.
struct ConnectAttempt {
    opener: Connector,
    number: u64,
    started_at: Instant,
}

impl ConnectAttempt {
    /// Gives the connection to a request that waits, or keeps it for the next. A failure goes to
    /// those that waited when it was begun: for others, newer attempts are under way.
    fn finish(self, opened: Result<OpenConnection, sqlx::Error>) {
        let (shared, is_late) = (&self.opener.0, self.started_at.elapsed() > LATE_AFTER);
        if let Err(error) = &opened
            && is_late
        {
            tracing::warn!(%error, "opening a connection to the database failed");
            return;
        }
        let mut state = self.opener.state();
        if let Some(Ok(opened)) = state.offer(opened)
            && shared.open.load(Ordering::Relaxed) <= shared.max_open
        {
            state.unused.push((opened, Instant::now()));
        }
    }
}

impl Drop for ConnectAttempt {
    fn drop(&mut self) {
        self.opener.state().opening.remove(&self.number);
    }
}

/// How long to wait before the next try, after so many that were refused for lack of room; `part`,
/// from 0 to 1, keeps those who wait from asking at once.
fn pause(refused: u32, part: f64) -> Duration {
    let longest = RETRY_DELAY.saturating_mul(1 << refused.min(10)).min(LONGEST_AGAIN);
    if refused == 0 { RETRY_DELAY } else { longest.mul_f64(f64::midpoint(1.0, part)) }
}

/// Whether the database has no connection left: `too_many_connections`.
fn has_no_room(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == "53300")
}

/// Whether the database may well be there in a moment.
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == ErrorKind::ConnectionRefused,
        sqlx::Error::Database(refusal) => refusal.is_transient_in_connect_phase(),
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
    fn a_database_without_room_is_asked_less_and_less_often_and_not_by_all_at_once() {
        assert_eq!(pause(0, 0.5), RETRY_DELAY);
        let pauses: Vec<_> = (1..40).map(|refused| pause(refused, 0.0)).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&(LONGEST_AGAIN / 2)));
        assert!((1..40).all(|refused| pause(refused, 0.0) < pause(refused, 0.9)));
        assert_eq!(pause(40, 1.0), LONGEST_AGAIN);
    }

    fn opener(address: SocketAddr) -> Connector {
        let options = PgConnectOptions::new_without_pgpass();
        let options = options.host("127.0.0.1").port(address.port()).username("u");
        Connector::new(options, connection_settings::REQUESTS, 1)
    }

    /// Asks for a connection and goes away when the next one arrives at the database.
    async fn ask(opener: &Connector, listener: &TcpListener) -> tokio::net::TcpStream {
        let next = pin!(opener.next());
        tokio::select! {
            biased;
            arrived = listener.accept() => arrived.expect("a connection").0,
            ended = next => panic!("{:?}", ended.err()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_hang_of_the_network_a_new_connection_is_begun_for_one_that_is_hopeless() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let opener = opener(listener.local_addr().expect("an address"));
        // Nothing is ever said on them.
        let first = ask(&opener, &listener).await;
        advance(LATE_AFTER).await;
        let second = ask(&opener, &listener).await;
        assert_eq!(opener.state().opening.len(), 2);
        advance(HOPELESS + LATE_AFTER).await;
        let third = ask(&opener, &listener).await;
        // The oldest may be one that just takes long.
        assert_eq!(opener.state().opening.keys().copied().collect::<Vec<_>>(), [0, 2]);
        drop((first, second, third));
    }
}
