//! A pool of connections with budgets: nothing waits for the database for long, and a connection
//! whose fate is unknown is never used again.
//!
//! Dropping a query's future does not stop the query, and a pool that takes such a connection
//! back waits for it, holding the place. So work that is cut off, by its deadline or because its
//! client went away, closes its connection.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection, Postgres};
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::model::ids::OrganizationId;
use crate::repo;
use crate::repo::tenant_walls;

/// How long to wait for a connection.
const ACQUIRE: Duration = Duration::from_millis(500);
/// How long one piece of work may take, commit included.
const CALL: Duration = Duration::from_secs(3);
/// How long the work of an operator's command may take.
const LONG_CALL: Duration = Duration::from_hours(1);
/// How long a connection may lie idle before it is asked whether it still lives.
const STALE: Duration = Duration::from_secs(1);
/// How long it may take to say so.
const PING: Duration = Duration::from_millis(200);
/// How long connections at work are waited for at the end.
const CLOSE: Duration = Duration::from_secs(2);
/// What the database itself holds each connection to, should we be gone.
const BUDGETS: [(&str, &str); 3] = [
    ("statement_timeout", "5s"),
    ("lock_timeout", "1s"),
    ("idle_in_transaction_session_timeout", "10s"),
];

/// A pool of connections; cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: PgPool,
    name: &'static str,
}

impl Database {
    /// A pool of at most `size` connections, opened as they are needed. `name` tells pools apart
    /// in the metrics.
    #[must_use]
    pub fn open(options: PgConnectOptions, size: u32, name: &'static str) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(|connection, idle| {
                Box::pin(async move { Ok(idle.idle_for < STALE || answers(connection).await) })
            })
            .connect_lazy_with(options.options(BUDGETS));
        Self { pool, name }
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
        let done = timeout(CALL, work(lease.connection()?)).await;
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
                    Ok(value)
                }
                Err(error) => {
                    transaction.rollback().await?;
                    Err(error)
                }
            }
        };
        let done = timeout(deadline, in_transaction).await;
        lease.settle(done)
    }

    /// How many connections are open, and how many of them idle.
    #[must_use]
    pub fn connections(&self) -> (u32, usize) {
        (self.pool.size(), self.pool.num_idle())
    }

    /// What tells this pool from others in the metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Closes every connection, waiting a little for those at work.
    pub async fn close(&self) {
        let _ = timeout(CLOSE, self.pool.close()).await;
    }

    /// A connection for one piece of work.
    async fn lease(&self) -> Result<Lease> {
        let connection = self.pool.acquire().await?;
        Ok(Lease(Some(connection)))
    }
}

/// A connection at work. Dropped before it is settled, its fate is unknown and it is closed.
struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    fn connection(&mut self) -> Result<&mut PgConnection> {
        let connection = self.0.as_deref_mut();
        connection.ok_or_else(|| Error::internal("a connection was settled before its work"))
    }

    /// Gives the connection back, unless its fate is unknown. The pool pings what comes back, for
    /// as long as that takes; here it has a deadline, or a silent network would keep the place.
    fn settle<T>(mut self, done: Result<Result<T>, tokio::time::error::Elapsed>) -> Result<T> {
        let result = done.map_err(Error::unavailable)?;
        if !result.as_ref().is_err_and(broke_the_connection)
            && let Some(mut connection) = self.0.take()
        {
            tokio::spawn(timeout(PING, connection.return_to_pool()));
        }
        result
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.close_on_drop();
        }
    }
}

async fn answers(connection: &mut PgConnection) -> bool {
    timeout(PING, connection.ping()).await.is_ok_and(|answer| answer.is_ok())
}

/// Whether the failure is one of the connection, not of what was asked on it or of time.
#[must_use]
pub fn broke_the_connection(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|source| source.downcast_ref::<sqlx::Error>())
        .is_some_and(|source| repo::is_lost(source) && !matches!(source, sqlx::Error::PoolTimedOut))
}
