//! A pool of database connections with deadlines: no work waits long for the database, and a
//! connection in an unknown state is never reused.
//!
//! Dropping a query's future does not stop the query, and the next user of the connection would
//! wait for it. So work that is interrupted, by its deadline or because its client disconnected,
//! closes its connection.
//!
//! A released connection is not pinged, which would cost one more round trip for each piece of
//! work. It is pinged when it is acquired again after more than a second.

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

/// How long to wait for a connection, besides round trips. An attempt to open one that takes longer
/// continues in the background.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(500);
/// The age after which a connection is not reused.
const MAX_LIFETIME: Duration = Duration::from_mins(30);
/// The time since its last use after which a connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// The deadline of one piece of work, commit included, besides its round trips.
const CALL_DEADLINE: Duration = Duration::from_secs(3);
/// The number of round trips that the deadline allows for. The first use of a statement on a
/// connection prepares it, in a round trip of its own.
const ROUND_TRIPS: u32 = 30;
/// The deadline for the work of an operator's command.
const COMMAND_DEADLINE: Duration = Duration::from_hours(1);
/// The time since its last use after which a connection is pinged before it is reused.
const PING_AFTER: Duration = Duration::from_secs(1);

/// A pool of connections; cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: Pool<Connector>,
    shares: ConnectionShares,
    name: &'static str,
    /// Whether a write failed because the disk was full, until [`Database::clear_disk_full`].
    is_disk_full: Arc<AtomicBool>,
}

impl Database {
    /// Creates a pool of at most `size` connections, which are opened when they are needed. `name`
    /// identifies the pool in the metrics.
    ///
    /// # Errors
    /// Internal if the pool cannot be built, which does not happen with these settings.
    pub fn open(options: PgConnectOptions, size: u32, name: &'static str) -> Result<Self> {
        Self::open_with(options, connection_settings::REQUESTS, size, name)
    }

    /// Creates a pool as [`Database::open`] does, with other session settings.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open_with(
        options: PgConnectOptions,
        settings: SessionSettings,
        size: u32,
        name: &'static str,
    ) -> Result<Self> {
        let connector = Connector::new(options, settings, size as usize);
        // The connection that was used last is reused first, so that the others become idle and
        // are closed under lower load.
        let pool = Pool::builder(connector).max_size(size as usize).queue_mode(QueueMode::Lifo);
        let pool = pool.build().map_err(Error::internal)?;
        Ok(Self { pool, shares: ConnectionShares::of(size), name, is_disk_full: Arc::default() })
    }

    /// Runs `work` on one connection without a transaction.
    ///
    /// # Errors
    /// The error of `work`; unavailable if the database is unreachable or the deadline passed; rate
    /// limited if the caller's other requests use all of its [share](ConnectionShares).
    pub async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let _share = self.shares.acquire(None).await?;
        let mut lease = self.acquire().await?;
        let connection = lease.connection()?;
        let outcome = timeout(self.deadline(), async { Ok(work(connection).await) }).await;
        self.release_or_close(lease, outcome)
    }

    /// Runs `work` in one transaction and commits it; an error rolls it back.
    ///
    /// # Errors
    /// As [`Database::run`]. If the commit fails with unavailable, it may or may not have happened.
    pub async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        self.run_transaction(self.deadline(), None, work).await
    }

    /// Runs `work` in one transaction on behalf of the organization. It uses a restricted database
    /// role, and row-level security hides the rows of other organizations from every statement.
    ///
    /// Invariant: all work on behalf of an organization goes through this or
    /// [`Database::transaction_for`], or calls [`rls::set_tenant`] itself once it knows the
    /// organization. So a statement that does not filter by its organization still sees no other
    /// organization's rows.
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

    /// Runs `work` as [`Database::tenant_transaction`] does if there is a tenant, and otherwise as
    /// [`Database::transaction`] does.
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

    /// Runs `work` in one transaction for an operator's command, with a deadline of 1 hour.
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
        let outcome = timeout(deadline, in_transaction).await;
        self.release_or_close(lease, outcome)
    }

    /// Returns the number of open connections, and the number of idle ones among them.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        let (open, unused) = self.pool.manager().connections();
        (open, (self.pool.status().available + unused).min(open))
    }

    /// Returns whether a write failed because the database's disk was full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.is_disk_full.load(Ordering::Relaxed)
    }

    /// Records that the disk is no longer known to be full.
    pub fn clear_disk_full(&self) {
        self.is_disk_full.store(false, Ordering::Relaxed);
    }

    /// Returns the number of callers that wait for a connection.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.pool.status().waiting
    }

    /// Returns the pool's name in the metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Closes connections that have been idle for more than 10 minutes.
    pub fn close_idle(&self) {
        self.pool.retain(|_, metrics| metrics.last_used() < IDLE_TIMEOUT);
        self.pool.manager().close_unused(IDLE_TIMEOUT);
    }

    /// Closes every connection: idle ones immediately, the others when their work is done.
    pub fn close(&self) {
        self.pool.close();
        self.pool.manager().close_unused(Duration::ZERO);
    }

    /// Returns the deadline of one piece of work.
    fn deadline(&self) -> Duration {
        CALL_DEADLINE + ROUND_TRIPS * self.pool.manager().round_trip()
    }

    /// Releases the connection, unless its state is unknown: after work that passed its deadline,
    /// whose transaction could not begin or end, or that lost the connection. In the last case all
    /// idle connections are closed, because they are most likely lost, too.
    fn release_or_close<T>(
        &self,
        lease: Lease,
        outcome: Result<Result<Result<T>>, Elapsed>,
    ) -> Result<T> {
        let in_time = outcome.map_err(Error::unavailable)?;
        let is_state_known = in_time.is_ok();
        let result = in_time.flatten();
        if result.as_ref().is_err_and(|error| driver_error(error).is_some_and(repo::is_disk_full)) {
            self.is_disk_full.store(true, Ordering::Relaxed);
        }
        if result.as_ref().is_err_and(is_connection_lost) {
            self.pool.retain(|_, _| false);
            self.pool.manager().close_unused(Duration::ZERO);
        } else if is_state_known {
            lease.release();
        }
        result
    }

    /// Waits for a connection for one piece of work.
    async fn acquire(&self) -> Result<Lease> {
        let started = Instant::now();
        let max_wait = ACQUIRE_TIMEOUT + 2 * self.pool.manager().round_trip();
        let acquired = timeout(max_wait, self.pool.get()).await;
        histogram!("db_pool_wait_seconds", "pool" => self.name).record(started.elapsed());
        match acquired {
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

    /// Has no timeout of its own; the caller sets one.
    async fn create(&self) -> Result<OpenConnection, sqlx::Error> {
        // Boxed to keep the futures of all callers small.
        Box::pin(self.next()).await
    }

    async fn recycle(
        &self,
        open: &mut OpenConnection,
        metrics: &Metrics,
    ) -> RecycleResult<sqlx::Error> {
        if open.opened_at.elapsed() > MAX_LIFETIME {
            return Err(RecycleError::message("maximum lifetime exceeded"));
        }
        if metrics.last_used() > PING_AFTER && !Box::pin(self.ping(&mut open.connection)).await {
            return Err(RecycleError::message("no response to a ping"));
        }
        Ok(())
    }
}

/// A connection in use. If it is dropped without [`Lease::release`], its state is unknown and it is
/// closed.
struct Lease(Option<Object<Connector>>);

impl Lease {
    fn connection(&mut self) -> Result<&mut PgConnection> {
        let connection = self.0.as_deref_mut().map(|open| &mut open.connection);
        connection.ok_or_else(|| Error::internal("a connection was released before its work"))
    }

    /// Hands the connection to a waiting caller, or returns it to the pool.
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

/// Returns whether the connection failed, as opposed to the statement or a deadline.
#[must_use]
pub fn is_connection_lost(error: &Error) -> bool {
    driver_error(error).is_some_and(repo::is_database_unreachable)
}

fn driver_error(error: &Error) -> Option<&sqlx::Error> {
    std::error::Error::source(error)?.downcast_ref()
}
