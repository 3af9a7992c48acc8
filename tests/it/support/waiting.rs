//! Waits for conditions that send no notification, such as the state of another process. Tests poll
//! with these functions, so that each ends as soon as its condition holds and otherwise fails with
//! a description of it.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition is waited for.
const DEADLINE: Duration = Duration::from_secs(30);
/// The pause between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(10);

/// Blocks the thread until the condition holds.
///
/// # Panics
/// With the description if it does not hold within 30 seconds.
#[track_caller]
pub fn wait_until(description: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(DEADLINE, condition), "not within {DEADLINE:?}: {description}");
}

/// Blocks the thread until the condition holds or the time is over; returns whether it holds.
pub fn holds_within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > time {
            return false;
        }
        thread::sleep(INTERVAL);
    }
}

/// Waits as [`wait_until`] does, and lets other tasks run meanwhile.
///
/// # Panics
/// With the description if the condition does not hold within 30 seconds.
pub async fn wait_until_async(description: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {description}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Pauses as a client that neither sends nor reads for this long. Only for tests of what the server
/// does meanwhile.
pub async fn pause_of_a_slow_client(duration: Duration) {
    tokio::time::sleep(duration).await;
}
