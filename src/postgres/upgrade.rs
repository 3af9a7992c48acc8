//! Upgrades a cluster to another major version of Postgres.
//!
//! The old data is copied, never converted. The new cluster is created beside it and replaces it
//! when it is complete. Until then the old data is unchanged, and afterwards it still exists under
//! another name. During the copy, the old data runs from a separate home, which no other program
//! uses and whose socket is in a folder with mode 0700. Processes that want to use the real home
//! wait. Therefore, no write can be lost between the copy and the replacement.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::home::ClusterHome;
use super::installation::Binaries;
use super::privileges::ProcessUsers;
use super::process::{self, POLL_INTERVAL};
use super::{Cluster, ClusterSettings, Error};

/// The time that this process may take to release a cluster that it used.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of an upgrade.
#[derive(Debug)]
pub struct UpgradeOutcome {
    /// The previous version of the data.
    pub from: String,
    /// The new version of the data.
    pub to: String,
    /// The folder of the old data.
    pub old_data: PathBuf,
}

/// Upgrades the cluster of `settings` to the version of the programs in `to`, or to the newest
/// installed version. `copy` copies everything from the first cluster to the second, and may use
/// the private folder. Returns `None` if the data already has that version or a newer one. Blocks.
///
/// # Errors
/// The cluster is in use, the programs of either version are not installed, or `copy` failed. The
/// old data is then unchanged.
pub fn upgrade<E: From<Error>>(
    settings: &ClusterSettings,
    to: Option<&Path>,
    copy: impl FnOnce(&Cluster, &Cluster, &Path) -> Result<(), E>,
) -> Result<Option<UpgradeOutcome>, E> {
    let process_users = ProcessUsers::current()?;
    let home = ClusterHome::prepare(&settings.home, &process_users)?;
    let Some(major) = home.major()? else {
        return Err(Error::NotACluster { data: home.data() }.into());
    };
    let newest = Binaries::find(to, None, &process_users.for_existing_data(&home.data()))?;
    if newest.version.major() <= major {
        return Ok(None);
    }
    home.create_locks()?;
    // Locked until the end of this function.
    let _users = take_over(&home)?;
    if home.major()? != Some(major) {
        // Another upgrade finished meanwhile.
        return Err(Error::InUse { home: home.path().to_owned() }.into());
    }
    let (new_home, old_home) = (home.upgrade_target(), home.upgrade_source());
    remove_home(&new_home)?;
    remove_home(&old_home)?;

    let copied = copy_beside(settings, [&home, &old_home, &new_home], &newest, copy);
    remove_home(&old_home)?;
    let (from, to) = match copied {
        Ok(versions) => versions,
        Err(failure) => {
            remove_home(&new_home)?;
            return Err(failure);
        }
    };
    let old_data = home.path().join(format!("data.{major}"));
    replace_data(&home.data(), &old_data, &new_home.data())?;
    remove_home(&new_home)?;
    Ok(Some(UpgradeOutcome { from, to, old_data }))
}

/// Copies the data of `home`, which runs from `old_home`, to a new cluster in `new_home`, and stops
/// both. Returns their versions.
fn copy_beside<E: From<Error>>(
    settings: &ClusterSettings,
    [home, old_home, new_home]: [&ClusterHome; 3],
    newest: &Binaries,
    copy: impl FnOnce(&Cluster, &Cluster, &Path) -> Result<(), E>,
) -> Result<(String, String), E> {
    create_folder(old_home.path())?;
    let linked = symlink(home.data(), old_home.data());
    linked.map_err(|e| Error::io("link", &old_home.data(), e))?;
    let old =
        Cluster::start(&ClusterSettings { home: old_home.path().to_owned(), ..settings.clone() })?;
    let new_settings = ClusterSettings {
        home: new_home.path().to_owned(),
        bin_dir: Some(newest.folder().to_owned()),
        ..settings.clone()
    };
    let new = Cluster::start(&new_settings)?;
    let folder = new_home.path().join("copy");
    create_folder(&folder)?;
    let versions = (old.version().to_owned(), new.version().to_owned());
    let copied = copy(&old, &new, &folder);
    drop((old, new));
    let _locks = [stop_and_lock(old_home)?, stop_and_lock(new_home)?];
    copied.map(|()| versions)
}

fn create_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(path).map_err(|e| Error::io("create", path, e))
}

/// Renames the current data to `old_data`, and the new data to `data`.
fn replace_data(data: &Path, old_data: &Path, new: &Path) -> Result<(), Error> {
    let rename =
        |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| Error::io("move", from, e));
    rename(data, old_data)?;
    rename(new, data).inspect_err(|_| drop(fs::rename(old_data, data)))?;
    let home = data.parent().unwrap_or(data);
    File::open(home).and_then(|it| it.sync_all()).map_err(|e| Error::io("write", home, e))
}

/// Stops the Postgres of a cluster, and locks the cluster so that no other process uses it. The pid
/// of a Postgres in another container on the same files is not valid here; the janitor there stops
/// it, and needs the lock for that.
fn take_over(home: &ClusterHome) -> Result<File, Error> {
    let users = lock_exclusively(home, Duration::ZERO)?;
    process::stop(home);
    process::kill_orphans(home);
    if !process::accepts_connections(home) {
        return Ok(users);
    }
    drop(users);
    process::wait_until_unreachable(home)?;
    // That janitor has the lock until all processes of its Postgres have ended.
    let users = lock_exclusively(home, process::KILL_TIMEOUT)?;
    if process::accepts_connections(home) {
        return Err(Error::InUse { home: home.path().to_owned() });
    }
    Ok(users)
}

/// Stops the Postgres of a cluster that this process no longer uses, and locks the cluster so that
/// no other process uses it.
fn stop_and_lock(home: &ClusterHome) -> Result<File, Error> {
    let users = lock_exclusively(home, RELEASE_TIMEOUT)?;
    process::stop(home);
    process::kill_orphans(home);
    Ok(users)
}

fn lock_exclusively(home: &ClusterHome, timeout: Duration) -> Result<File, Error> {
    let users = home.open_users_lock()?;
    let started = Instant::now();
    while users.try_lock().is_err() {
        if started.elapsed() > timeout {
            return Err(Error::InUse { home: home.path().to_owned() });
        }
        sleep(POLL_INTERVAL);
    }
    Ok(users)
}

/// Removes a home that is no longer used, such as one that an interrupted upgrade left.
fn remove_home(home: &ClusterHome) -> Result<(), Error> {
    if !home.path().exists() {
        return Ok(());
    }
    // The process that keeps its Postgres running must end first.
    let _users = lock_exclusively(home, RELEASE_TIMEOUT);
    process::stop(home);
    process::kill_orphans(home);
    process::wait_until_unreachable(home)?;
    process::remove(home)
}
