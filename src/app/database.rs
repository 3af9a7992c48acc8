//! A pool of connections with budgets: nothing waits for the database for long, and a connection
//! whose fate is unknown is never used again.
//!
//! Dropping a query's future does not stop the query, and whoever was given such a connection next
//! would wait for it. So work that is cut off, by its deadline or because its client went away,
//! closes its connection.
//!
//! The one thing to know: what is given back is not asked whether it lives, which would be one more
//! message for each piece of work. It is asked when it is taken again, if that is not at once.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult,
};
use metrics::histogram;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};

use crate::error::{Error, Result};
use crate::model::ids::OrganizationId;
use crate::repo;
use crate::repo::tenant_walls;

/// How long to wait for a connection.
const ACQUIRE: Duration = Duration::from_millis(500);
/// How long to wait before a database that is just starting is asked again.
const AGAIN: Duration = Duration::from_millis(25);
/// How long a connection is used at most.
const LIFETIME: Duration = Duration::from_mins(30);
/// How long after it was last taken it is closed.
const IDLE: Duration = Duration::from_mins(10);
/// How long one piece of work may take, commit included.
const CALL: Duration = Duration::from_secs(3);
/// How long the work of an operator's command may take.
const LONG_CALL: Duration = Duration::from_hours(1);
/// How long after it was taken a connection is asked whether it still lives when it is taken again.
const STALE: Duration = Duration::from_secs(1);
/// How long it may take to say so.
const PING: Duration = Duration::from_millis(200);
/// What the database itself holds each connection to, should we be gone.
const BUDGETS: [(&str, &str); 3] = [
    ("statement_timeout", "5s"),
    ("lock_timeout", "1s"),
    ("idle_in_transaction_session_timeout", "10s"),
];

/// A pool of connections; cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: Pool<Opener>,
    name: &'static str,
}

impl Database {
    /// A pool of at most `size` connections, opened as they are needed. `name` tells pools apart
    /// in the metrics.
    ///
    /// # Errors
    /// Internal; only where timeouts are asked of a pool that has no clock.
    pub fn open(options: PgConnectOptions, size: u32, name: &'static str) -> Result<Self> {
        let opener = Opener(options.options(BUDGETS));
        // The one that was used last: the others may be closed when there is less to do.
        let pool = Pool::builder(opener).max_size(size as usize).queue_mode(QueueMode::Lifo);
        let pool = pool.build().map_err(Error::internal)?;
        Ok(Self { pool, name })
    }

    /// Runs `work` on one connection, each statement for itself.
    ///
    /// # Errors
    /// What `work` says, or unavailable where the database is away or the deadline passed.
    pub async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let mut lease = self.lease().await?;
        let connection = lease.connection()?;
        let done = timeout(CALL, async { Ok(work(connection).await) }).await;
        lease.settle(done)
    }

    /// Runs `work` in one transaction and commits it; an error rolls it back.
    ///
    /// # Errors
    /// What `work` says, or unavailable where the database is away or the deadline passed. After
    /// an unavailable commit nobody knows whether it happened.
    pub async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        self.transact(CALL, None, work).await
    }

    /// Runs `work` in one transaction of the organization's: by a lesser role, for which rows of
    /// other organizations are not there, whatever a statement asks.
    ///
    /// Invariant: whatever is done in an organization's name goes through here or
    /// [`Database::transaction_of`], so that a statement that forgets its organization finds
    /// nothing rather than everything.
    ///
    /// # Errors
    /// As [`Database::transaction`].
    pub async fn tenant<T>(
        &self,
        organization: OrganizationId,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        self.transact(CALL, Some(organization), work).await
    }

    /// Runs `work` in one transaction: of the tenant's, where there is one.
    ///
    /// # Errors
    /// As [`Database::transaction`].
    pub async fn transaction_of<T>(
        &self,
        tenant: Option<OrganizationId>,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        self.transact(CALL, tenant, work).await
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
        self.transact(LONG_CALL, None, work).await
    }

    async fn transact<T>(
        &self,
        deadline: Duration,
        tenant: Option<OrganizationId>,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let mut lease = self.lease().await?;
        let in_transaction = async {
            let mut transaction = lease.connection()?.begin().await?;
            if let Some(organization) = tenant {
                tenant_walls::raise(&mut transaction, organization).await?;
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
        lease.settle(done)
    }

    /// How many connections are open, and how many of them idle.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        let status = self.pool.status();
        (status.size, status.available)
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
        self.pool.retain(|_, metrics| metrics.last_used() < IDLE);
    }

    /// Closes every connection: at once what is idle, the others when their work is done.
    pub fn close(&self) {
        self.pool.close();
    }

    /// A connection for one piece of work.
    async fn lease(&self) -> Result<Lease> {
        let asked = Instant::now();
        let leased = timeout(ACQUIRE, self.pool.get()).await;
        histogram!("db_pool_wait_seconds", "pool" => self.name).record(asked.elapsed());
        match leased {
            Ok(Ok(connection)) => Ok(Lease(Some(connection))),
            Ok(Err(PoolError::Backend(error))) => Err(error.into()),
            Ok(Err(error)) => Err(Error::unavailable(error)),
            Err(elapsed) => Err(Error::unavailable(elapsed)),
        }
    }
}

/// Opens connections, and looks after those that were used before.
struct Opener(PgConnectOptions);

impl Manager for Opener {
    type Type = PgConnection;
    type Error = sqlx::Error;

    /// Whoever waits for it sets the time. A database that is just starting is asked until then.
    async fn create(&self) -> Result<PgConnection, sqlx::Error> {
        loop {
            // Boxed, or all that waits for a connection would be as large as opening one is.
            match Box::pin(self.0.connect()).await {
                Err(error) if is_starting(&error) => sleep(AGAIN).await,
                opened => return opened,
            }
        }
    }

    async fn recycle(
        &self,
        connection: &mut PgConnection,
        metrics: &Metrics,
    ) -> RecycleResult<sqlx::Error> {
        if metrics.age() > LIFETIME {
            return Err(RecycleError::message("old"));
        }
        if metrics.last_used() > STALE {
            timeout(PING, connection.ping())
                .await
                .map_err(|_| RecycleError::message("silent"))??;
        }
        Ok(())
    }
}

/// Whether the database may well be there in a moment.
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == ErrorKind::ConnectionRefused,
        sqlx::Error::Database(refusal) => refusal.is_transient_in_connect_phase(),
        _ => false,
    }
}

/// A connection at work. Dropped before it is settled, its fate is unknown and it is closed.
struct Lease(Option<Object<Opener>>);

impl Lease {
    fn connection(&mut self) -> Result<&mut PgConnection> {
        let connection = self.0.as_deref_mut();
        connection.ok_or_else(|| Error::internal("a connection was settled before its work"))
    }

    /// Gives the connection back, unless its fate is unknown: after work that did not end in time,
    /// or whose transaction could not begin or end, or that broke it. What broke one has most
    /// likely broken those that lie idle, too.
    fn settle<T>(mut self, done: Result<Result<Result<T>>, Elapsed>) -> Result<T> {
        let ended = done.map_err(Error::unavailable)?;
        let is_known = ended.is_ok();
        let result = ended.flatten();
        if result.as_ref().is_err_and(broke_the_connection) {
            let pool = self.0.as_ref().and_then(Object::pool);
            pool.inspect(|pool| drop(pool.retain(|_, _| false)));
        } else if is_known {
            drop(self.0.take());
        }
        result
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
pub fn broke_the_connection(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    source.and_then(|source| source.downcast_ref::<sqlx::Error>()).is_some_and(repo::is_lost)
}
