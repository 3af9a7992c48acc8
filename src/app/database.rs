//! A pool of connections with budgets: nothing waits for the database for long, and a connection
//! whose fate is unknown is never used again.
//!
//! Dropping a query's future does not stop the query, and whoever was given such a connection next
//! would wait for it. So work that is cut off, by its deadline or because its client went away,
//! closes its connection.
//!
//! The one thing to know: what is given back is not asked whether it lives, which would be one more
//! message for each piece of work. It is asked when it is taken again, if that is not at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult,
};
use metrics::histogram;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::app::connection_shares::ConnectionShares;
use crate::app::connector::{Connector, OpenConnection};
use crate::error::{Error, Result};
use crate::model::ids::OrganizationId;
use crate::repo;
use crate::repo::connection_settings::SessionSettings;
use crate::repo::{connection_settings, rls};

/// How long to wait for a connection. Opening one may take longer, and is finished all the same.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a connection is used at most.
const MAX_LIFETIME: Duration = Duration::from_mins(30);
/// How long after it was last taken it is closed.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// How long one piece of work may take, commit included, besides its round trips.
const CALL_DEADLINE: Duration = Duration::from_secs(3);
/// How many round trips a piece of work may take: statements are prepared on each new connection.
const ROUND_TRIPS: u32 = 30;
/// How long the work of an operator's command may take.
const COMMAND_DEADLINE: Duration = Duration::from_hours(1);
/// How long after it was taken a connection is asked whether it still lives when it is taken again.
const PING_AFTER: Duration = Duration::from_secs(1);
/// A pool of connections; cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: Pool<Connector>,
    shares: ConnectionShares,
    name: &'static str,
    /// Whether the database's disk was full when something was to be written.
    is_disk_full: Arc<AtomicBool>,
}

impl Database {
    /// A pool of at most `size` connections, opened as they are needed. `name` tells pools apart
    /// in the metrics.
    ///
    /// # Errors
    /// Internal; only where timeouts are asked of a pool that has no clock.
    pub fn open(options: PgConnectOptions, size: u32, name: &'static str) -> Result<Self> {
        Self::open_with(options, connection_settings::REQUESTS, size, name)
    }

    /// The same, with other settings for each connection.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open_with(
        options: PgConnectOptions,
        settings: SessionSettings,
        size: u32,
        name: &'static str,
    ) -> Result<Self> {
        let opener = Connector::new(options, settings, size as usize);
        // The one that was used last: the others may be closed when there is less to do.
        let pool = Pool::builder(opener).max_size(size as usize).queue_mode(QueueMode::Lifo);
        let pool = pool.build().map_err(Error::internal)?;
        Ok(Self { pool, shares: ConnectionShares::of(size), name, is_disk_full: Arc::default() })
    }

    /// Runs `work` on one connection, each statement for itself.
    ///
    /// # Errors
    /// What `work` says, or unavailable where the database is away or the deadline passed; rate
    /// limited where the caller's other requests use all of its [share](ConnectionShares).
    pub async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let _share = self.shares.acquire(None).await?;
        let mut lease = self.acquire().await?;
        let connection = lease.connection()?;
        let done = timeout(self.deadline(), async { Ok(work(connection).await) }).await;
        self.release_or_close(lease, done)
    }

    /// Runs `work` in one transaction and commits it; an error rolls it back.
    ///
    /// # Errors
    /// As [`Database::run`]. After an unavailable commit nobody knows whether it happened.
    pub async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        self.run_transaction(self.deadline(), None, work).await
    }

    /// Runs `work` in one transaction of the organization's: by a lesser role, for which rows of
    /// other organizations are not there, whatever a statement asks.
    ///
    /// Invariant: whatever is done in an organization's name goes through here or
    /// [`Database::transaction_for`], so that a statement that forgets its organization finds
    /// nothing rather than everything.
    ///
    /// # Errors
    /// As [`Database::transaction`].
    pub async fn tenant_transaction<T>(
        &self,
        organization: OrganizationId,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        self.run_transaction(self.deadline(), Some(organization), work).await
    }

    /// Runs `work` in one transaction: of the tenant's, where there is one.
    ///
    /// # Errors
    /// As [`Database::transaction`].
    pub async fn transaction_for<T>(
        &self,
        tenant: Option<OrganizationId>,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        self.run_transaction(self.deadline(), tenant, work).await
    }

    /// Runs `work` in one transaction for a command that an operator waits for: it may take its
    /// time.
    ///
    /// # Errors
    /// As [`Database::transaction`].
    pub async fn long_transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        self.run_transaction(COMMAND_DEADLINE, None, work).await
    }

    async fn run_transaction<T>(
        &self,
        deadline: Duration,
        tenant: Option<OrganizationId>,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let _share = self.shares.acquire(tenant).await?;
        let mut lease = self.acquire().await?;
        let in_transaction = async {
            let mut transaction = lease.connection()?.begin().await?;
            if let Some(organization) = tenant {
                rls::set_tenant(&mut transaction, organization).await?;
            }
            match work(&mut transaction).await {
                Ok(value) => {
                    transaction.commit().await?;
                    Ok(Ok(value))
                }
                Err(error) => {
                    transaction.rollback().await?;
                    Ok(Err(error))
                }
            }
        };
        let done = timeout(deadline, in_transaction).await;
        self.release_or_close(lease, done)
    }

    /// How many connections are open, and how many of them idle.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        let (open, unused) = self.pool.manager().connections();
        (open, (self.pool.status().available + unused).min(open))
    }

    /// Whether the database's disk was full when something was to be written.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.is_disk_full.load(Ordering::Relaxed)
    }

    /// Notes that something could be written again.
    pub fn clear_disk_full(&self) {
        self.is_disk_full.store(false, Ordering::Relaxed);
    }

    /// How many wait for a connection.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.pool.status().waiting
    }

    /// What tells this pool from others in the metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Closes what has lain idle for long.
    pub fn close_idle(&self) {
        self.pool.retain(|_, metrics| metrics.last_used() < IDLE_TIMEOUT);
        self.pool.manager().close_unused(IDLE_TIMEOUT);
    }

    /// Closes every connection: at once what is idle, the others when their work is done.
    pub fn close(&self) {
        self.pool.close();
        self.pool.manager().close_unused(Duration::ZERO);
    }

    /// How long a piece of work may take.
    fn deadline(&self) -> Duration {
        CALL_DEADLINE + ROUND_TRIPS * self.pool.manager().round_trip()
    }

    /// Gives the connection back, unless its fate is unknown: after work that did not end in time,
    /// or whose transaction could not begin or end, or that broke it. What broke one has most
    /// likely broken those that lie idle, too.
    fn release_or_close<T>(
        &self,
        lease: Lease,
        done: Result<Result<Result<T>>, Elapsed>,
    ) -> Result<T> {
        let ended = done.map_err(Error::unavailable)?;
        let is_known = ended.is_ok();
        let result = ended.flatten();
        if result.as_ref().is_err_and(|error| driver_error(error).is_some_and(repo::is_disk_full)) {
            self.is_disk_full.store(true, Ordering::Relaxed);
        }
        if result.as_ref().is_err_and(is_connection_lost) {
            self.pool.retain(|_, _| false);
            self.pool.manager().close_unused(Duration::ZERO);
        } else if is_known {
            lease.release();
        }
        result
    }

    /// A connection for one piece of work.
    async fn acquire(&self) -> Result<Lease> {
        let asked = Instant::now();
        let patience = ACQUIRE_TIMEOUT + 2 * self.pool.manager().round_trip();
        let leased = timeout(patience, self.pool.get()).await;
        histogram!("db_pool_wait_seconds", "pool" => self.name).record(asked.elapsed());
        match leased {
            Ok(Ok(connection)) => Ok(Lease(Some(connection))),
            Ok(Err(PoolError::Backend(error))) => Err(error.into()),
            Ok(Err(error)) => Err(Error::unavailable(error)),
            Err(elapsed) => Err(Error::unavailable(elapsed)),
        }
    }
}

impl Manager for Connector {
    type Type = OpenConnection;
    type Error = sqlx::Error;

    /// Whoever waits for it sets the time.
    async fn create(&self) -> Result<OpenConnection, sqlx::Error> {
        // Boxed, or all that waits for a connection would be as large as asking one is.
        Box::pin(self.next()).await
    }

    async fn recycle(
        &self,
        opened: &mut OpenConnection,
        metrics: &Metrics,
    ) -> RecycleResult<sqlx::Error> {
        if opened.opened_at.elapsed() > MAX_LIFETIME {
            return Err(RecycleError::message("old"));
        }
        if metrics.last_used() > PING_AFTER && !Box::pin(self.ping(&mut opened.connection)).await {
            return Err(RecycleError::message("silent"));
        }
        Ok(())
    }
}

/// A connection at work. Dropped before it is settled, its fate is unknown and it is closed.
struct Lease(Option<Object<Connector>>);

impl Lease {
    fn connection(&mut self) -> Result<&mut PgConnection> {
        let connection = self.0.as_deref_mut().map(|opened| &mut opened.connection);
        connection.ok_or_else(|| Error::internal("a connection was settled before its work"))
    }

    /// Gives the connection to whoever waits for one, or back to the pool.
    fn release(mut self) {
        let Some(object) = self.0.take() else { return };
        if let Some(pool) = Object::pool(&object)
            && pool.manager().has_waiters()
        {
            pool.manager().hand_over(Object::take(object));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

/// Whether the failure is one of the connection, not of what was asked on it or of time.
#[must_use]
pub fn is_connection_lost(error: &Error) -> bool {
    driver_error(error).is_some_and(repo::is_database_unreachable)
}

fn driver_error(error: &Error) -> Option<&sqlx::Error> {
    std::error::Error::source(error)?.downcast_ref()
}
