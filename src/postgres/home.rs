//! The folder of the cluster, and the names of its files.
//!
//! If this program runs as root and Postgres's unprivileged user cannot access the requested
//! folder (such as a checkout under a home folder with mode 0700), the cluster is created in
//! `/var/lib/tenantry`, and the requested path becomes a symbolic link to it. So the requested path
//! always leads to the data: later starts follow the link, and removing `.tenantry` still results
//! in an empty database.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Error;
use super::privileges::{ProcessUsers, set_mode};

/// Part of the socket's name. Postgres does not listen on a network port.
pub(super) const PORT: u16 = 5432;

/// The longest socket path that every system supports.
const SOCKET_PATH_LIMIT: usize = 100;

/// The file with the path of the socket's folder, if the home's path is too long for a socket.
const SOCKET_FOLDER_FILE: &str = "socket-folder";
const USERS_LOCK: &str = "users.lock";
const START_LOCK: &str = "start.lock";
const JANITOR_LOCK: &str = "janitor.lock";

/// The parent folder of clusters that cannot be in the requested folder.
const FALLBACK_DIR: &str = "/var/lib/tenantry";

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub(super) struct ClusterHome {
    path: PathBuf,
    name: String,
    /// The socket's folder in the home, if its path is short enough.
    home_socket_folder: Option<String>,
}

impl ClusterHome {
    /// Creates the folder if absent, and checks that this program's user owns it and Postgres's
    /// user can enter it.
    pub(super) fn prepare(requested: &Path, process_users: &ProcessUsers) -> Result<Self, Error> {
        let requested =
            std::path::absolute(requested).map_err(|e| Error::io("resolve", requested, e))?;
        let home = match fs::canonicalize(&requested) {
            Ok(home) => home,
            Err(e) if e.kind() == ErrorKind::NotFound => create_home(&requested, process_users)?,
            Err(e) => return Err(Error::io("open", &requested, e)),
        };
        if home.as_os_str().as_encoded_bytes().contains(&b'\n') {
            return Err(Error::LineBreak { home });
        }
        process_users.secure_home(&home)?;
        if !process_users.can_enter(&home) {
            // An empty folder contains no cluster yet, so the cluster may be created elsewhere.
            if fs::remove_dir(&requested).is_ok() {
                return Self::prepare(&requested, process_users);
            }
            return Err(Error::Unreachable { home, user: process_users.name() });
        }
        Ok(Self::at(home))
    }

    /// Returns the home at this path, which was prepared before.
    pub(super) fn at(path: PathBuf) -> Self {
        let name = cluster_name(&path);
        let folder = path.join("socket").to_str().map(ToOwned::to_owned);
        let home_socket_folder =
            folder.filter(|folder| socket_path(folder).len() <= SOCKET_PATH_LIMIT);
        Self { path, name, home_socket_folder }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the unique name of the cluster, which Postgres shows in the titles of its processes.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.path.join("data/postmaster.pid")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// Returns the socket's folder in the home; `None` if its path would be too long.
    pub(super) fn home_socket_folder(&self) -> Option<&str> {
        self.home_socket_folder.as_deref()
    }

    /// Returns the socket's folder: in the home, or the recorded one. `None` if none is recorded
    /// yet.
    pub(super) fn socket_folder(&self) -> Option<String> {
        self.home_socket_folder.clone().or_else(|| {
            let recorded = fs::read_to_string(self.path.join(SOCKET_FOLDER_FILE)).ok()?;
            Some(recorded.trim_end().to_owned()).filter(|folder| folder.starts_with('/'))
        })
    }

    pub(super) fn socket(&self) -> Option<PathBuf> {
        self.socket_folder().map(|folder| PathBuf::from(socket_path(&folder)))
    }

    /// Records the socket's folder for other processes. The caller must have acquired the start
    /// lock.
    pub(super) fn record_socket_folder(&self, folder: &str) -> Result<(), Error> {
        if self.socket_folder().as_deref() == Some(folder) {
            return Ok(());
        }
        let (path, temporary) =
            (self.path.join(SOCKET_FOLDER_FILE), self.path.join("socket-folder.new"));
        fs::write(&temporary, format!("{folder}\n"))
            .map_err(|e| Error::io("write", &temporary, e))?;
        fs::rename(&temporary, &path).map_err(|e| Error::io("replace", &path, e))
    }

    /// Returns the home in which an upgrade creates the new cluster.
    pub(super) fn upgrade_target(&self) -> Self {
        Self::at(PathBuf::from(format!("{}.upgrade", self.path.display())))
    }

    /// Returns the home from which an upgrade runs the old data.
    pub(super) fn upgrade_source(&self) -> Self {
        Self::at(PathBuf::from(format!("{}.upgrade-from", self.path.display())))
    }

    /// Returns the old data that an upgrade left, the newest if there are several.
    fn find_old_data(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let majors = names.filter_map(|name| name.strip_prefix("data.")?.parse::<u32>().ok());
        majors.max().map(|major| self.path.join(format!("data.{major}")))
    }

    /// Returns the major version of the data; `None` if there is no data yet.
    ///
    /// # Errors
    /// An upgrade was interrupted after it had moved the old data away, or the folder contains no
    /// cluster. Neither must be treated as an empty database.
    pub(super) fn major(&self) -> Result<Option<u32>, Error> {
        let data = self.data();
        if fs::symlink_metadata(&data).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            return match self.find_old_data() {
                Some(old_data) => Err(Error::HalfUpgraded { data, old_data }),
                None => Ok(None),
            };
        }
        let text = fs::read_to_string(data.join("PG_VERSION")).unwrap_or_default();
        text.trim().parse().map(Some).map_err(|_| Error::NotACluster { data })
    }

    /// Creates the lock files. It is called only at the start of a program: later, a missing file
    /// means that the home was removed, and it must not be created again.
    pub(super) fn create_locks(&self) -> Result<(), Error> {
        for name in [USERS_LOCK, START_LOCK, JANITOR_LOCK] {
            let path = self.path.join(name);
            let mut options = OpenOptions::new();
            let created = options.append(true).create(true).mode(0o600).open(&path);
            created.map_err(|e| Error::io("create", &path, e))?;
        }
        Ok(())
    }

    /// Opens the lock that every user of Postgres locks shared, and a process that stops it locks
    /// exclusively.
    pub(super) fn open_users_lock(&self) -> Result<File, Error> {
        self.open_lock(USERS_LOCK)
    }

    /// Opens the lock for the check whether Postgres runs, and for starting it.
    pub(super) fn open_start_lock(&self) -> Result<File, Error> {
        self.open_lock(START_LOCK)
    }

    /// Opens the lock that the running janitor has exclusively.
    pub(super) fn open_janitor_lock(&self) -> Result<File, Error> {
        self.open_lock(JANITOR_LOCK)
    }

    /// Returns whether `users` is the lock of this home, and not of a removed one at the same path.
    pub(super) fn is_own_users_lock(&self, users: &File) -> bool {
        let is_same = fs::metadata(self.path.join(USERS_LOCK)).and_then(|current| {
            let open = users.metadata()?;
            Ok((open.dev(), open.ino()) == (current.dev(), current.ino()))
        });
        is_same.unwrap_or(false)
    }

    fn open_lock(&self, name: &str) -> Result<File, Error> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        file.map_err(|e| Error::io("open", &path, e))
    }
}

fn socket_path(folder: &str) -> String {
    format!("{folder}/.s.PGSQL.{PORT}")
}

fn cluster_name(home: &Path) -> String {
    let digest = Sha256::digest(home.as_os_str().as_encoded_bytes());
    let start = digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    format!("tenantry-{start:016x}")
}

/// Creates a new home at the requested path, or in the fallback folder with a link to it.
fn create_home(requested: &Path, process_users: &ProcessUsers) -> Result<PathBuf, Error> {
    if requested.is_symlink() {
        return Err(Error::DanglingLink { link: requested.to_owned() });
    }
    let parent = requested.parent().unwrap_or(requested);
    fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
    let parent = fs::canonicalize(parent).map_err(|e| Error::io("open", parent, e))?;
    if !process_users.can_enter(&parent) {
        return create_in_fallback(requested, process_users);
    }
    match DirBuilder::new().mode(0o700).create(requested) {
        // Another process started at the same moment and created it.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        created => created.map_err(|e| Error::io("create", requested, e))?,
    }
    fs::canonicalize(requested).map_err(|e| Error::io("open", requested, e))
}

fn create_in_fallback(requested: &Path, process_users: &ProcessUsers) -> Result<PathBuf, Error> {
    let base = Path::new(FALLBACK_DIR);
    fs::create_dir_all(base).map_err(|e| Error::io("create", base, e))?;
    set_mode(base, 0o755)?;
    let home = create_unique(base, &cluster_name(requested))?;
    match symlink(&home, requested) {
        Ok(()) => tracing::warn!(
            requested = %requested.display(), home = %home.display(), user = process_users.name(),
            "Postgres's user cannot access the data folder; its data is in another folder",
        ),
        // Another process started at the same moment, and its link is used.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => drop(fs::remove_dir(&home)),
        Err(e) => return Err(Error::io("link", requested, e)),
    }
    fs::canonicalize(requested).map_err(|e| Error::io("open", requested, e))
}

/// Creates a new folder with this name, or with a number appended. An existing folder is not
/// touched: it belongs to a home that was removed to start with an empty database.
fn create_unique(base: &Path, name: &str) -> Result<PathBuf, Error> {
    let mut home = base.join(name);
    let mut number = 1;
    loop {
        match DirBuilder::new().mode(0o700).create(&home) {
            Ok(()) => return Ok(home),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(Error::io("create", &home, e)),
        }
        home = base.join(format!("{name}-{number}"));
    }
}

#[cfg(test)]
mod tests {
    use super::ClusterHome;

    #[test]
    fn old_data_of_an_interrupted_upgrade_is_not_treated_as_an_empty_database() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = ClusterHome::at(folder.path().to_owned());
        std::fs::create_dir(folder.path().join("data.new-7")).expect("created");
        assert_eq!(home.major().expect("no data"), None);
        for old_data in ["data.9", "data.15"] {
            std::fs::create_dir(folder.path().join(old_data)).expect("created");
        }
        let message = home.major().expect_err("an error").to_string();
        let [data, old_data] = ["data", "data.15"].map(|it| folder.path().join(it));
        assert!(message.starts_with(&format!("{} is missing", data.display())), "{message}");
        let restore = format!("mv {} {}", old_data.display(), data.display());
        assert!(message.contains(&restore), "{message}");
        std::fs::create_dir(&data).expect("created");
        std::fs::write(data.join("PG_VERSION"), "17\n").expect("written");
        assert_eq!(home.major().expect("data"), Some(17));
    }

    #[test]
    fn a_home_with_a_long_path_has_only_the_recorded_socket_folder() {
        let short = ClusterHome::at("/data/.tenantry/postgres".into());
        assert_eq!(short.socket_folder().as_deref(), Some("/data/.tenantry/postgres/socket"));

        let folder = tempfile::tempdir().expect("a folder");
        let long = folder.path().join("long/".repeat(30));
        std::fs::create_dir_all(&long).expect("created");
        let long = ClusterHome::at(long);
        assert_eq!(long.socket_folder(), None);
        long.record_socket_folder("/tmp/tenantry-x").expect("recorded");
        assert_eq!(long.socket_folder().as_deref(), Some("/tmp/tenantry-x"));
    }
}
