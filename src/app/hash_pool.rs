//! Turns at hashing: how many hash at once, who waits, and whose memory they use.
//!
//! One hash takes 19 MiB and tens of milliseconds of a core. So a bounded number run at once, a
//! bounded number wait for a bounded time, and whoever comes after that is sent away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::Block;
use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::app::password_hash::new_blocks;
use crate::error::{Error, ErrorKind, Result};

/// How long one waits for a turn.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Gives out turns.
///
/// Invariant: a turn lasts as long as its work does, whether the caller still waits or not.
pub struct HashPool {
    permits: Arc<Semaphore>,
    max_running: usize,
    queue: Arc<Queue>,
}

impl HashPool {
    /// So many turns at once, and so many that may wait for one.
    #[must_use]
    pub fn new(turns: usize, queue: usize) -> Self {
        let room = Queue { capacity: turns + queue, state: Mutex::default() };
        Self { permits: Arc::new(Semaphore::new(turns)), max_running: turns, queue: Arc::new(room) }
    }

    /// Waits for a turn, then does the work on a thread where it holds nobody up.
    ///
    /// # Errors
    /// Unavailable, worth another try after a second, where too many wait or for too long; those
    /// of the work; internal where the work panics.
    pub async fn run<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut [Block]) -> Result<T> + Send + 'static,
    {
        let Some((turn, place)) = self.acquire().await else {
            counter!("password_hashes_total", "outcome" => "refused").increment(1);
            return Err(busy());
        };
        // Turn and place go with the work, so they outlive a caller that goes away.
        tokio::task::spawn_blocking(move || {
            let mut blocks = place.take_blocks();
            let done = work(&mut blocks);
            // Before the turn ends: whoever is next takes these and makes none.
            place.return_blocks(blocks);
            drop(turn);
            counter!("password_hashes_total", "outcome" => "done").increment(1);
            done
        })
        .await
        .map_err(Error::internal)?
    }

    /// How many hash just now, and how many wait for their turn.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let inside = self.queue.state().count;
        let running = self.max_running.saturating_sub(self.permits.available_permits()).min(inside);
        (running, inside - running)
    }

    async fn acquire(&self) -> Option<(OwnedSemaphorePermit, QueuePermit)> {
        let place = Queue::enter(&self.queue)?;
        let turn = timeout(MAX_WAIT, Arc::clone(&self.permits).acquire_owned()).await;
        Some((turn.ok()?.ok()?, place))
    }
}

/// No failure of ours, so without a cause for the log: the metric counts it.
fn busy() -> Error {
    Error::new(ErrorKind::Unavailable, "Too many passwords are being checked just now; try again")
        .with_retry_after(Duration::from_secs(1))
}

/// All who work or wait, and the memory that goes from one to the next.
///
/// Under load blocks are used again and again; the last one out frees them, as 19 MiB a core are
/// too much for an idle process to keep. There are never more than turns, as only one who has a
/// turn and finds none left makes new ones.
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
    /// A place, unless all are taken.
    fn enter(room: &Arc<Self>) -> Option<QueuePermit> {
        let mut inside = room.state();
        if inside.count >= room.capacity {
            return None;
        }
        inside.count += 1;
        Some(QueuePermit(Arc::clone(room)))
    }

    /// Nothing that holds this lock can panic halfway, so poison means nothing.
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the room; dropping it leaves the room.
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
        let mut inside = self.0.state();
        inside.count -= 1;
        if inside.count == 0 {
            inside.spare_blocks = Vec::new();
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

    fn pool(turns: usize, queue: usize) -> Arc<HashPool> {
        Arc::new(HashPool::new(turns, queue))
    }

    /// Work that tells where its blocks are.
    fn wait(turns: &Arc<HashPool>) -> Work {
        let turns = Arc::clone(turns);
        tokio::spawn(async move { turns.run(|blocks| Ok(blocks.as_ptr().addr())).await })
    }

    /// Work that has its turn and goes on until it is told to stop.
    async fn occupy(turns: &Arc<HashPool>) -> (Work, mpsc::Sender<()>) {
        let (stop, stopped) = mpsc::channel();
        let (start, started) = oneshot::channel();
        let turns = Arc::clone(turns);
        let work = move |blocks: &mut [Block]| {
            let _ = start.send(());
            let _ = stopped.recv();
            Ok(blocks.as_ptr().addr())
        };
        let work = tokio::spawn(async move { turns.run(work).await });
        started.await.unwrap();
        (work, stop)
    }

    async fn until_queued(turns: &HashPool, count: usize) {
        while turns.queue.state().count != count {
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn assert_rejected(turns: &HashPool) {
        let error = turns.run(|_| Ok(())).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.retry_after_seconds(), Some(1));
    }

    #[tokio::test]
    async fn more_than_the_queue_holds_are_rejected_and_the_rest_succeed() {
        let turns = pool(2, 3);
        let (one, stop_one) = occupy(&turns).await;
        let (other, stop_other) = occupy(&turns).await;
        let waiting: Vec<_> = (0..3).map(|_| wait(&turns)).collect();
        until_queued(&turns, 5).await;
        assert_rejected(&turns).await;
        stop_one.send(()).unwrap();
        stop_other.send(()).unwrap();
        for work in [one, other].into_iter().chain(waiting) {
            assert!(work.await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_waits_too_long_is_rejected_and_leaves_the_queue() {
        let turns = pool(1, 1);
        let _turn = turns.permits.acquire().await.unwrap();
        let start = Instant::now();
        assert_rejected(&turns).await;
        assert!(start.elapsed() >= MAX_WAIT);
        assert_eq!(turns.queue.state().count, 0);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_while_waiting_leaves_the_queue() {
        let turns = pool(1, 1);
        let (work, stop) = occupy(&turns).await;
        let waiting = wait(&turns);
        until_queued(&turns, 2).await;
        waiting.abort();
        until_queued(&turns, 1).await;
        stop.send(()).unwrap();
        assert!(work.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_frees_its_permit_only_when_the_work_is_done() {
        let turns = pool(1, 0);
        let (work, stop) = occupy(&turns).await;
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
        assert_eq!(turns.permits.available_permits(), 0);
        assert_rejected(&turns).await;
        stop.send(()).unwrap();
        until_queued(&turns, 0).await;
        assert!(turns.run(|_| Ok(())).await.is_ok());
    }

    #[tokio::test]
    async fn blocks_go_to_the_next_in_line_and_none_are_kept_when_idle() {
        let turns = pool(1, 1);
        let (first, stop) = occupy(&turns).await;
        let second = wait(&turns);
        until_queued(&turns, 2).await;
        stop.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
        until_queued(&turns, 0).await;
        assert!(turns.queue.state().spare_blocks.is_empty());
    }

    #[tokio::test]
    async fn work_that_panics_returns_its_permits() {
        let turns = pool(1, 0);
        let panicked = turns.run::<(), _>(|_| panic!("on purpose")).await;
        assert_eq!(*panicked.unwrap_err().kind(), ErrorKind::Internal);
        assert!(turns.run(|_| Ok(())).await.is_ok());
    }
}
