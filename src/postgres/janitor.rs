//! The janitor: a small detached process that stops Postgres when no process uses it.
//!
//! It needs no message from other processes. The users lock becomes free when the last user ends,
//! in whatever way. The janitor has that lock exclusively while Postgres stops, so that no process
//! can use a Postgres that is stopping.

use std::fs::{File, TryLockError};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::home::ClusterHome;
use super::privileges::clean_command;
use super::{Error, initialize, process};

/// The hidden sub-command that runs [`janitor`].
const SUB_COMMAND: &str = "postgres-janitor";

/// The number of checks for which Postgres must be unused before it is stopped, so that a restarted
/// server finds it running.
const GRACE_CHECKS: u32 = 30;
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the hidden sub-command `postgres-janitor <home>`. Blocks until no process has used the
/// Postgres in `home` for about three seconds, then stops it. Returns immediately if another
/// janitor is running.
///
/// # Errors
///
/// The lock files in `home` cannot be used.
pub fn janitor(home: &Path) -> Result<(), Error> {
    let home = ClusterHome::at(home.to_owned());
    let janitor_lock = home.open_janitor_lock()?;
    let users = home.open_users_lock()?;
    if !try_lock_janitor(&janitor_lock) {
        return Ok(());
    }
    wait_until_unused(&users).map_err(|e| Error::io("lock", home.path(), e))?;
    // If the home was removed and created again, its users have another lock file.
    if home.is_own_users_lock(&users) || !home.path().exists() {
        process::stop(&home);
        process::kill_orphans(&home);
        initialize::remove_unfinished(home.path());
    }
    // In this order, so that the next user finds the janitor's lock free and starts a new janitor.
    drop(janitor_lock);
    drop(users);
    Ok(())
}

/// Returns whether a janitor is running.
pub(super) fn is_running(home: &ClusterHome) -> Result<bool, Error> {
    Ok(home.open_janitor_lock()?.try_lock_shared().is_err())
}

/// Starts a janitor that outlives this process and its terminal.
pub(super) fn spawn(program: &Path, home: &ClusterHome) -> Result<Child, Error> {
    let mut command = clean_command(program);
    command.arg(SUB_COMMAND).arg(home.path()).process_group(0);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|e| Error::io("run", program, e))
}

/// Tries for a second to lock, because [`is_running`] has the lock for an instant.
fn try_lock_janitor(janitor_lock: &File) -> bool {
    (0..10).any(|_| {
        let is_locked = janitor_lock.try_lock().is_ok();
        if !is_locked {
            sleep(CHECK_INTERVAL);
        }
        is_locked
    })
}

/// Waits until Postgres has been unused long enough. The lock is then locked exclusively.
fn wait_until_unused(users: &File) -> std::io::Result<()> {
    loop {
        users.lock()?;
        let mut checks = 0;
        while checks < GRACE_CHECKS {
            users.unlock()?;
            sleep(CHECK_INTERVAL);
            match users.try_lock() {
                Ok(()) => checks += 1,
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        if checks == GRACE_CHECKS {
            return Ok(());
        }
    }
}
