//! The janitor: a small detached process that stops Postgres when no process uses it.
//!
//! It needs no message from another process. The users lock becomes free when the last process that
//! has it ends, however it ends, and the janitor has that lock exclusively while it stops Postgres,
//! so no process can start using it meanwhile.

use std::fs::{File, TryLockError};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::home::ClusterHome;
use super::privileges::clean_command;
use super::{Error, initialise, process};

/// The hidden sub-command that runs [`janitor`].
const SUB_COMMAND: &str = "postgres-janitor";

/// How long Postgres stays unused before it is stopped: a restarted server finds it running.
const GRACE_CHECKS: u32 = 30;
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The hidden command `postgres-janitor <home>`. Blocks until no process has used the Postgres in
/// `home` for some three seconds, then stops it. Returns at once if another janitor is active.
///
/// # Errors
///
/// The lock files in `home` can not be used.
pub fn janitor(home: &Path) -> Result<(), Error> {
    let home = ClusterHome::at(home.to_owned());
    let janitor_lock = home.open_janitor_lock()?;
    let users = home.open_users_lock()?;
    if !try_lock_janitor(&janitor_lock) {
        return Ok(());
    }
    wait_until_unused(&users).map_err(|e| Error::io("lock", home.path(), e))?;
    // A home that was removed and created again has users that this lock does not cover.
    if home.is_own_users_lock(&users) || !home.path().exists() {
        process::stop(&home);
        process::kill_orphans(&home);
        initialise::remove_unfinished(home.path());
    }
    // In this order: a process that gets the users lock must find the janitor lock free and start a
    // new janitor.
    drop(janitor_lock);
    drop(users);
    Ok(())
}

/// Whether a janitor is active.
pub(super) fn is_running(home: &ClusterHome) -> Result<bool, Error> {
    Ok(home.open_janitor_lock()?.try_lock_shared().is_err())
}

/// Starts a janitor that outlives us and our terminal.
pub(super) fn spawn(program: &Path, home: &ClusterHome) -> Result<Child, Error> {
    let mut command = clean_command(program);
    command.arg(SUB_COMMAND).arg(home.path()).process_group(0);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|e| Error::io("run", program, e))
}

/// Retries for a while: callers of [`is_running`] have the lock for an instant.
fn try_lock_janitor(duty: &File) -> bool {
    (0..10).any(|_| {
        let taken = duty.try_lock().is_ok();
        if !taken {
            sleep(CHECK_INTERVAL);
        }
        taken
    })
}

/// Returns with the exclusive lock.
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
