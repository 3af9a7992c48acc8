//! Moving a cluster to another major version of Postgres.
//!
//! The old data is copied, never converted. The new cluster is created beside it and replaces it
//! when it is complete; until then the old one is unchanged, and afterwards it is still there under
//! another name. Meanwhile the old data runs from a home of its own, where no program looks for it
//! and whose socket is in a folder with mode 0700, and processes that want the real home wait: no
//! write can be lost between the copy and the exchange.

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

/// How long our own use of a cluster may take to end.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// What an upgrade did.
#[derive(Debug)]
pub struct UpgradeOutcome {
    /// The version that the data had.
    pub from: String,
    /// The version that it has.
    pub to: String,
    /// Where the old data is kept.
    pub old_data: PathBuf,
}

/// Moves the cluster of `settings` to the programs in `to`, or to the newest that are installed.
/// `copy` copies everything from the first cluster to the second, and may use the private folder.
/// Does nothing (`None`) where the data is of that version already. Blocks.
///
/// # Errors
/// A cluster that is in use, a missing Postgres of either version, or the error of `copy`; the old
/// data is unchanged.
pub fn upgrade<E: From<Error>>(
    settings: &ClusterSettings,
    to: Option<&Path>,
    copy: impl FnOnce(&Cluster, &Cluster, &Path) -> Result<(), E>,
) -> Result<Option<UpgradeOutcome>, E> {
    let identity = ProcessUsers::current()?;
    let home = ClusterHome::prepare(&settings.home, &identity)?;
    let Some(major) = home.major()? else {
        return Err(Error::NotACluster { data: home.data() }.into());
    };
    let newest = Binaries::find(to, None, &identity.for_existing_data(&home.data()))?;
    if newest.version.major() <= major {
        return Ok(None);
    }
    home.create_locks()?;
    // Locked to the end.
    let _users = take_over(&home)?;
    if home.major()? != Some(major) {
        // Another upgrade was faster.
        return Err(Error::InUse { home: home.path().to_owned() }.into());
    }
    let (new_home, apart) = (home.of_upgrade(), home.of_upgraded());
    remove_home(&new_home)?;
    remove_home(&apart)?;

    let copied = copy_beside(settings, [&home, &apart, &new_home], &newest, copy);
    remove_home(&apart)?;
    let (from, to) = match copied {
        Ok(versions) => versions,
        Err(failure) => {
            remove_home(&new_home)?;
            return Err(failure);
        }
    };
    let kept = home.path().join(format!("data.{major}"));
    replace_data(&home.data(), &kept, &new_home.data())?;
    remove_home(&new_home)?;
    Ok(Some(UpgradeOutcome { from, to, old_data: kept }))
}

/// Copies the data of `home`, run from `apart`, to a new cluster in `beside`, and stops both. The
/// versions of both.
fn copy_beside<E: From<Error>>(
    settings: &ClusterSettings,
    [home, apart, beside]: [&ClusterHome; 3],
    newest: &Binaries,
    copy: impl FnOnce(&Cluster, &Cluster, &Path) -> Result<(), E>,
) -> Result<(String, String), E> {
    create_folder(apart.path())?;
    let linked = symlink(home.data(), apart.data());
    linked.map_err(|e| Error::io("link", &apart.data(), e))?;
    let old =
        Cluster::start(&ClusterSettings { home: apart.path().to_owned(), ..settings.clone() })?;
    let new_settings = ClusterSettings {
        home: beside.path().to_owned(),
        bin_dir: Some(newest.folder().to_owned()),
        ..settings.clone()
    };
    let new = Cluster::start(&new_settings)?;
    let folder = beside.path().join("copy");
    create_folder(&folder)?;
    let versions = (old.version().to_owned(), new.version().to_owned());
    let copied = copy(&old, &new, &folder);
    drop((old, new));
    let _ended = [stop_and_lock(apart)?, stop_and_lock(beside)?];
    copied.map(|()| versions)
}

fn create_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(path).map_err(|e| Error::io("create", path, e))
}

/// Replaces the old data by the new.
fn replace_data(data: &Path, kept: &Path, new: &Path) -> Result<(), Error> {
    let rename =
        |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| Error::io("move", from, e));
    rename(data, kept)?;
    rename(new, data).inspect_err(|_| drop(fs::rename(kept, data)))?;
    let home = data.parent().unwrap_or(data);
    File::open(home).and_then(|it| it.sync_all()).map_err(|e| Error::io("write", home, e))
}

/// Stops the Postgres of a cluster and keeps others from using it. One in another container on the
/// same files has no pid that means anything here: its janitor stops it, which needs the lock.
fn take_over(home: &ClusterHome) -> Result<File, Error> {
    let users = lock_exclusively(home, Duration::ZERO)?;
    process::stop(home);
    process::kill_orphans(home);
    if !process::answers(home) {
        return Ok(users);
    }
    drop(users);
    process::wait_for_silence(home)?;
    // Its janitor has the lock until the last process of it has ended.
    let users = lock_exclusively(home, process::KILL_TIMEOUT)?;
    if process::answers(home) {
        return Err(Error::InUse { home: home.path().to_owned() });
    }
    Ok(users)
}

/// Stops the Postgres of a cluster that no process uses, and prevents others from using it.
fn stop_and_lock(home: &ClusterHome) -> Result<File, Error> {
    let users = lock_exclusively(home, RELEASE_TIMEOUT)?;
    process::stop(home);
    process::kill_orphans(home);
    Ok(users)
}

fn lock_exclusively(home: &ClusterHome, patience: Duration) -> Result<File, Error> {
    let users = home.open_users_lock()?;
    let started = Instant::now();
    while users.try_lock().is_err() {
        if started.elapsed() > patience {
            return Err(Error::InUse { home: home.path().to_owned() });
        }
        sleep(POLL_INTERVAL);
    }
    Ok(users)
}

/// Removes a home that is not used any more, such as one that an upgrade left that was cut off.
fn remove_home(home: &ClusterHome) -> Result<(), Error> {
    if !home.path().exists() {
        return Ok(());
    }
    // The process that keeps its Postgres running has to end first.
    let _users = lock_exclusively(home, RELEASE_TIMEOUT);
    process::stop(home);
    process::kill_orphans(home);
    process::wait_for_silence(home)?;
    process::remove(home)
}
