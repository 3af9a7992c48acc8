//! The errors of the private Postgres.
//!
//! An operator reads them at a terminal, so each message is complete (it needs no source) and
//! states what to do next.

use std::io;
use std::path::{Path, PathBuf};

use super::installation::PostgresNotFound;

/// The reason why Postgres does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message explains its fields")]
pub enum Error {
    /// No usable Postgres is installed.
    #[error("{0}")]
    NotFound(PostgresNotFound),

    /// The program runs as root, and there is no unprivileged user to run Postgres as.
    #[error(
        "Postgres refuses to run as root, and there is no user `postgres` or `nobody` to run it \
         as. Run Tenantry as an ordinary user, or add one: useradd --system postgres"
    )]
    NoUnprivilegedUser,

    /// The cluster belongs to another user.
    #[error(
        "the Postgres cluster in {} belongs to {owner}, but this program runs as {current_user}. \
         Run it as {owner}, or set DATA_DIR to another folder", home.display()
    )]
    WrongOwner { home: PathBuf, owner: String, current_user: String },

    /// Postgres's user cannot access the folder of the cluster.
    #[error(
        "Postgres runs as the user `{user}`, who cannot access the cluster in {}. Make the \
         folders above it searchable (chmod o+x), or set DATA_DIR to another folder", home.display()
    )]
    Unreachable { home: PathBuf, user: String },

    /// The link to a cluster in another folder is broken.
    #[error(
        "{} is a link to a Postgres cluster that does not exist. Restore the cluster, or remove \
         the link to start with an empty database", link.display()
    )]
    DanglingLink { link: PathBuf },

    /// Another process uses the cluster.
    #[error(
        "a server or another command uses the Postgres cluster in {}. Stop it first",
        home.display()
    )]
    InUse { home: PathBuf },

    /// The path contains a line break, which Postgres's own files cannot represent.
    #[error(
        "the path {home:?} contains a line break, which Postgres does not support. Set DATA_DIR to \
         another folder"
    )]
    LineBreak { home: PathBuf },

    /// The data folder does not contain a cluster.
    #[error(
        "{} contains no Postgres cluster (it has no readable PG_VERSION). Restore it, or move it \
         away to start with an empty database", data.display()
    )]
    NotACluster { data: PathBuf },

    /// An upgrade was interrupted between its last two steps.
    #[error(
        "{} is missing, and an interrupted or earlier upgrade left the old data in {}. Restore it \
         (mv {} {}) and run tenantry postgres-upgrade again, or move it to another folder to start \
         with an empty database",
        data.display(), old_data.display(), old_data.display(), data.display()
    )]
    HalfUpgraded { data: PathBuf, old_data: PathBuf },

    /// The socket's folder belongs to another user or is open to others.
    #[error(
        "{} must be a folder of the user that Postgres runs as, with mode 0700, because another \
         user could impersonate Postgres in it. Remove it and start again", folder.display()
    )]
    SocketFolder { folder: PathBuf },

    /// `initdb` or Postgres failed.
    #[error(
        "{program} failed ({outcome}). The end of its log, {}:\n{tail}", log.display()
    )]
    Failed { program: String, outcome: String, log: PathBuf, tail: String },

    /// A system call failed.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: io::Error },

    /// A system call failed because permission was denied.
    #[error(
        "cannot {action} {}: permission denied. Make the user that Tenantry runs as its owner, or \
         set DATA_DIR to another folder", path.display()
    )]
    PermissionDenied { action: &'static str, path: PathBuf },
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        if cause.kind() == io::ErrorKind::PermissionDenied {
            return Self::PermissionDenied { action, path };
        }
        Self::Io { action, path, cause }
    }
}
