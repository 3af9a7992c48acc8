//! The pool that hashes passwords.
//!
//! One hash takes 19 MiB and tens of milliseconds of a core. So a bounded number of hashes run at
//! once, a bounded number of callers wait for a bounded time, and further callers are rejected.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::Block;
use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::app::password_hash::new_blocks;
use crate::error::{Error, ErrorKind, Result};

/// The maximum time that a caller waits for a permit.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Runs hashing work with bounded concurrency.
///
/// Invariant: a permit is in use as long as its work runs, even if the caller no longer waits.
pub struct HashPool {
    permits: Arc<Semaphore>,
    max_running: usize,
    queue: Arc<Queue>,
}

impl HashPool {
    /// Creates a pool that runs at most `max_running` hashes at once, while at most `max_waiting`
    /// callers wait for a permit.
    #[must_use]
    pub fn new(max_running: usize, max_waiting: usize) -> Self {
        let queue = Queue { capacity: max_running + max_waiting, state: Mutex::default() };
        Self { permits: Arc::new(Semaphore::new(max_running)), max_running, queue: Arc::new(queue) }
    }

    /// Waits for a permit, then runs the work on a thread that may block.
    ///
    /// # Errors
    /// Unavailable, with a retry after 1 second, if the queue is full or the wait takes too long;
    /// the errors of the work; internal if the work panics.
    pub async fn run<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut [Block]) -> Result<T> + Send + 'static,
    {
        let Some((permit, queue_permit)) = self.acquire().await else {
            counter!("password_hashes_total", "outcome" => "refused").increment(1);
            return Err(busy());
        };
        // The work owns both permits, so they outlive a cancelled caller.
        tokio::task::spawn_blocking(move || {
            let mut blocks = queue_permit.take_blocks();
            let result = work(&mut blocks);
            // Before the permit is released, so that the next work reuses these blocks.
            queue_permit.return_blocks(blocks);
            drop(permit);
            counter!("password_hashes_total", "outcome" => "done").increment(1);
            result
        })
        .await
        .map_err(Error::internal)?
    }

    /// Returns the number of running hashes, and the number of callers that wait for a permit.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let count = self.queue.state().count;
        let running = self.max_running.saturating_sub(self.permits.available_permits()).min(count);
        (running, count - running)
    }

    async fn acquire(&self) -> Option<(OwnedSemaphorePermit, QueuePermit)> {
        let queue_permit = Queue::enter(&self.queue)?;
        let permit = timeout(MAX_WAIT, Arc::clone(&self.permits).acquire_owned()).await;
        Some((permit.ok()?.ok()?, queue_permit))
    }
}

/// Returns the error for a full pool. It has no source to log: the metric counts it.
fn busy() -> Error {
    Error::new(ErrorKind::Unavailable, "Too many passwords are being checked; try again")
        .with_retry_after(Duration::from_secs(1))
}

/// The number of callers that run or wait, and the memory that they reuse.
///
/// Under load, blocks are reused. The last caller to leave frees them, because 19 MiB per core are
/// too much for an idle process. There are never more allocations than permits, because new blocks
/// are allocated only by work that has a permit and finds no spare ones.
struct Queue {
    capacity: usize,
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    count: usize,
    spare_blocks: Vec<Vec<Block>>,
}

impl Queue {
    /// Returns a permit to run or wait, unless all are in use.
    fn enter(queue: &Arc<Self>) -> Option<QueuePermit> {
        let mut state = queue.state();
        if state.count >= queue.capacity {
            return None;
        }
        state.count += 1;
        Some(QueuePermit(Arc::clone(queue)))
    }

    /// Ignores poisoning: no code panics halfway through a change under this lock.
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit to run or wait; dropping it leaves the queue.
struct QueuePermit(Arc<Queue>);

impl QueuePermit {
    fn take_blocks(&self) -> Vec<Block> {
        let spare = self.0.state().spare_blocks.pop();
        spare.unwrap_or_else(new_blocks)
    }

    fn return_blocks(&self, blocks: Vec<Block>) {
        self.0.state().spare_blocks.push(blocks);
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.count -= 1;
        if state.count == 0 {
            state.spare_blocks = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};

    use super::*;

    type Work = JoinHandle<Result<usize>>;

    fn new_pool(max_running: usize, max_waiting: usize) -> Arc<HashPool> {
        Arc::new(HashPool::new(max_running, max_waiting))
    }

    /// Starts work that returns the address of its blocks.
    fn start_work(pool: &Arc<HashPool>) -> Work {
        let pool = Arc::clone(pool);
        tokio::spawn(async move { pool.run(|blocks| Ok(blocks.as_ptr().addr())).await })
    }

    /// Starts work that runs until it receives a stop signal.
    async fn occupy(pool: &Arc<HashPool>) -> (Work, mpsc::Sender<()>) {
        let (stop, stopped) = mpsc::channel();
        let (start, started) = oneshot::channel();
        let pool = Arc::clone(pool);
        let work = move |blocks: &mut [Block]| {
            let _ = start.send(());
            let _ = stopped.recv();
            Ok(blocks.as_ptr().addr())
        };
        let work = tokio::spawn(async move { pool.run(work).await });
        started.await.unwrap();
        (work, stop)
    }

    async fn until_queued(pool: &HashPool, count: usize) {
        while pool.queue.state().count != count {
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn assert_rejected(pool: &HashPool) {
        let error = pool.run(|_| Ok(())).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.retry_after_seconds(), Some(1));
    }

    #[tokio::test]
    async fn callers_beyond_the_queue_are_rejected_and_the_others_succeed() {
        let pool = new_pool(2, 3);
        let (one, stop_one) = occupy(&pool).await;
        let (other, stop_other) = occupy(&pool).await;
        let waiting: Vec<_> = (0..3).map(|_| start_work(&pool)).collect();
        until_queued(&pool, 5).await;
        assert_rejected(&pool).await;
        stop_one.send(()).unwrap();
        stop_other.send(()).unwrap();
        for work in [one, other].into_iter().chain(waiting) {
            assert!(work.await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_waits_too_long_is_rejected_and_leaves_the_queue() {
        let pool = new_pool(1, 1);
        let _permit = pool.permits.acquire().await.unwrap();
        let start = Instant::now();
        assert_rejected(&pool).await;
        assert!(start.elapsed() >= MAX_WAIT);
        assert_eq!(pool.queue.state().count, 0);
    }

    #[tokio::test]
    async fn a_caller_that_is_cancelled_while_waiting_leaves_the_queue() {
        let pool = new_pool(1, 1);
        let (work, stop) = occupy(&pool).await;
        let waiting = start_work(&pool);
        until_queued(&pool, 2).await;
        waiting.abort();
        until_queued(&pool, 1).await;
        stop.send(()).unwrap();
        assert!(work.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn the_permit_of_a_cancelled_caller_is_released_only_when_the_work_is_done() {
        let pool = new_pool(1, 0);
        let (work, stop) = occupy(&pool).await;
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
        assert_eq!(pool.permits.available_permits(), 0);
        assert_rejected(&pool).await;
        stop.send(()).unwrap();
        until_queued(&pool, 0).await;
        assert!(pool.run(|_| Ok(())).await.is_ok());
    }

    #[tokio::test]
    async fn blocks_are_reused_by_the_next_caller_and_freed_when_idle() {
        let pool = new_pool(1, 1);
        let (first, stop) = occupy(&pool).await;
        let second = start_work(&pool);
        until_queued(&pool, 2).await;
        stop.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
        until_queued(&pool, 0).await;
        assert!(pool.queue.state().spare_blocks.is_empty());
    }

    #[tokio::test]
    async fn work_that_panics_returns_its_permits() {
        let pool = new_pool(1, 0);
        let panicked = pool.run::<(), _>(|_| panic!("on purpose")).await;
        assert_eq!(*panicked.unwrap_err().kind(), ErrorKind::Internal);
        assert!(pool.run(|_| Ok(())).await.is_ok());
    }
}
