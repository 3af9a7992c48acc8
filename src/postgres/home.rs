//! Where the cluster is, and the names of its files.
//!
//! When the process runs as root and Postgres's unprivileged user can not reach the requested
//! folder (a checkout under a 0700 home folder), the cluster is created in `/var/lib/tenantry`, and
//! the requested folder becomes a symbolic link to it. So the requested path always leads to the
//! data: later starts follow it, and removing `.tenantry` still means an empty database.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Error;
use super::privileges::{ProcessUsers, set_mode};

/// Part of the socket's name; nothing listens on a network port.
pub(super) const PORT: u16 = 5432;

/// The longest socket path that every system accepts.
const SOCKET_PATH_LIMIT: usize = 100;

/// Names the socket's folder where the home's own path is too long for a socket.
const SOCKET_FOLDER_FILE: &str = "socket-folder";
const USERS_LOCK: &str = "users.lock";
const START_LOCK: &str = "start.lock";
const JANITOR_LOCK: &str = "janitor.lock";

/// For clusters that can not be in the requested folder.
const FALLBACK_DIR: &str = "/var/lib/tenantry";

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub(super) struct ClusterHome {
    path: PathBuf,
    name: String,
    /// The socket's folder in the home, where its path is short enough.
    home_socket_folder: Option<String>,
}

impl ClusterHome {
    /// Makes the folder if absent, and sees to it that we own it and Postgres can reach it.
    pub(super) fn prepare(asked: &Path, identity: &ProcessUsers) -> Result<Self, Error> {
        let asked = std::path::absolute(asked).map_err(|e| Error::io("resolve", asked, e))?;
        let home = match fs::canonicalize(&asked) {
            Ok(home) => home,
            Err(e) if e.kind() == ErrorKind::NotFound => create_home(&asked, identity)?,
            Err(e) => return Err(Error::io("open", &asked, e)),
        };
        if home.as_os_str().as_encoded_bytes().contains(&b'\n') {
            return Err(Error::LineBreak { home });
        }
        identity.secure_home(&home)?;
        if !identity.can_enter(&home) {
            // An empty folder is no cluster yet, and may still be put elsewhere.
            if fs::remove_dir(&asked).is_ok() {
                return Self::prepare(&asked, identity);
            }
            return Err(Error::Unreachable { home, user: identity.name() });
        }
        Ok(Self::at(home))
    }

    /// The home at this path, which has been settled before.
    pub(super) fn at(path: PathBuf) -> Self {
        let name = cluster_name(&path);
        let near = path.join("socket").to_str().map(ToOwned::to_owned);
        let home_socket_folder = near.filter(|near| socket_path(near).len() <= SOCKET_PATH_LIMIT);
        Self { path, name, home_socket_folder }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A name that no other cluster has. Postgres shows it in the titles of its processes.
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

    /// The socket's folder in the home; none where its path would be too long.
    pub(super) fn home_socket_folder(&self) -> Option<&str> {
        self.home_socket_folder.as_deref()
    }

    /// Where the socket lies: in the home, or in the folder that the home names. None where there
    /// is no such folder yet.
    pub(super) fn socket_folder(&self) -> Option<String> {
        self.home_socket_folder.clone().or_else(|| {
            let recorded = fs::read_to_string(self.path.join(SOCKET_FOLDER_FILE)).ok()?;
            Some(recorded.trim_end().to_owned()).filter(|folder| folder.starts_with('/'))
        })
    }

    pub(super) fn socket(&self) -> Option<PathBuf> {
        self.socket_folder().map(|folder| PathBuf::from(socket_path(&folder)))
    }

    /// Records where the socket is, for other processes that use this home. Only under the start
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

    /// Where an upgrade makes the new cluster.
    pub(super) fn of_upgrade(&self) -> Self {
        Self::at(PathBuf::from(format!("{}.upgrade", self.path.display())))
    }

    /// Where an upgrade runs the old data from.
    pub(super) fn of_upgraded(&self) -> Self {
        Self::at(PathBuf::from(format!("{}.upgrade-from", self.path.display())))
    }

    /// What an upgrade kept of the data, the newest where there are several.
    fn kept(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let majors = names.filter_map(|name| name.strip_prefix("data.")?.parse::<u32>().ok());
        majors.max().map(|major| self.path.join(format!("data.{major}")))
    }

    /// The major version that wrote the data; none if there is no data yet. An error where an
    /// upgrade was cut off after it had moved the old data away: that is not an empty database.
    pub(super) fn major(&self) -> Result<Option<u32>, Error> {
        let data = self.data();
        if fs::symlink_metadata(&data).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            return match self.kept() {
                Some(kept) => Err(Error::HalfUpgraded { data, kept }),
                None => Ok(None),
            };
        }
        let text = fs::read_to_string(data.join("PG_VERSION")).unwrap_or_default();
        text.trim().parse().map(Some).map_err(|_| Error::NotACluster { data })
    }

    /// Makes the lock files. Only at the start of a program: later, a missing one means that the
    /// home was removed, and must not be brought back.
    pub(super) fn create_locks(&self) -> Result<(), Error> {
        for name in [USERS_LOCK, START_LOCK, JANITOR_LOCK] {
            let path = self.path.join(name);
            let mut options = OpenOptions::new();
            let made = options.append(true).create(true).mode(0o600).open(&path);
            made.map_err(|e| Error::io("create", &path, e))?;
        }
        Ok(())
    }

    /// Locked shared by every process that uses Postgres, exclusively to stop it.
    pub(super) fn open_users_lock(&self) -> Result<File, Error> {
        self.open_lock(USERS_LOCK)
    }

    /// Locked around checking whether Postgres runs and, if not, starting it.
    pub(super) fn open_start_lock(&self) -> Result<File, Error> {
        self.open_lock(START_LOCK)
    }

    /// Locked by the active janitor.
    pub(super) fn open_janitor_lock(&self) -> Result<File, Error> {
        self.open_lock(JANITOR_LOCK)
    }

    /// Whether `users` is still the lock of this home, not of a removed one at the same path.
    pub(super) fn is_own_users_lock(&self, users: &File) -> bool {
        let same = fs::metadata(self.path.join(USERS_LOCK)).and_then(|there| {
            let here = users.metadata()?;
            Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
        });
        same.unwrap_or(false)
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

/// Creates a new home where it was requested, or elsewhere with a link in its place.
fn create_home(asked: &Path, identity: &ProcessUsers) -> Result<PathBuf, Error> {
    if asked.is_symlink() {
        return Err(Error::DanglingLink { link: asked.to_owned() });
    }
    let parent = asked.parent().unwrap_or(asked);
    fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
    let parent = fs::canonicalize(parent).map_err(|e| Error::io("open", parent, e))?;
    let made = if identity.can_enter(&parent) {
        DirBuilder::new().mode(0o700).create(asked)
    } else {
        return create_in_fallback(asked, identity);
    };
    match made {
        // Another process started at the same moment.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        made => made.map_err(|e| Error::io("create", asked, e))?,
    }
    fs::canonicalize(asked).map_err(|e| Error::io("open", asked, e))
}

fn create_in_fallback(asked: &Path, identity: &ProcessUsers) -> Result<PathBuf, Error> {
    let base = Path::new(FALLBACK_DIR);
    fs::create_dir_all(base).map_err(|e| Error::io("create", base, e))?;
    set_mode(base, 0o755)?;
    let home = create_unique(base, &cluster_name(asked))?;
    match symlink(&home, asked) {
        Ok(()) => tracing::warn!(
            asked = %asked.display(), home = %home.display(), user = identity.name(),
            "Postgres's user cannot reach the data folder, so its data lies elsewhere",
        ),
        // Another process started at the same moment, and its link is kept.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => drop(fs::remove_dir(&home)),
        Err(e) => return Err(Error::io("link", asked, e)),
    }
    fs::canonicalize(asked).map_err(|e| Error::io("open", asked, e))
}

/// An older folder of the same name belongs to a home that was removed to begin with an empty
/// database: it is neither used nor changed.
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
    fn data_that_an_upgrade_kept_without_putting_the_new_in_its_place_is_no_empty_database() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = ClusterHome::at(folder.path().to_owned());
        std::fs::create_dir(folder.path().join("data.new-7")).expect("made");
        assert_eq!(home.major().expect("no data"), None);
        for kept in ["data.9", "data.15"] {
            std::fs::create_dir(folder.path().join(kept)).expect("made");
        }
        let told = home.major().expect_err("refused").to_string();
        let [data, kept] = ["data", "data.15"].map(|it| folder.path().join(it));
        assert!(told.starts_with(&format!("{} is missing", data.display())), "{told}");
        assert!(told.contains(&format!("mv {} {}", kept.display(), data.display())), "{told}");
        std::fs::create_dir(&data).expect("made");
        std::fs::write(data.join("PG_VERSION"), "17\n").expect("written");
        assert_eq!(home.major().expect("data"), Some(17));
    }

    #[test]
    fn a_long_home_has_the_socket_folder_that_it_names_and_none_that_could_be_guessed() {
        let near = ClusterHome::at("/data/.tenantry/postgres".into());
        assert_eq!(near.socket_folder().as_deref(), Some("/data/.tenantry/postgres/socket"));

        let folder = tempfile::tempdir().expect("a folder");
        let long = folder.path().join("long/".repeat(30));
        std::fs::create_dir_all(&long).expect("made");
        let long = ClusterHome::at(long);
        assert_eq!(long.socket_folder(), None);
        long.record_socket_folder("/tmp/tenantry-x").expect("noted");
        assert_eq!(long.socket_folder().as_deref(), Some("/tmp/tenantry-x"));
    }
}
