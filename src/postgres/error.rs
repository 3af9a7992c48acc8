//! Errors of the private Postgres.
//!
//! The operator reads them at a terminal, so each message is complete (no hidden source) and says
//! what to do next.

use std::io;
use std::path::{Path, PathBuf};

use super::installation::PostgresNotFound;

/// Why there is no running Postgres.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its fields are")]
pub enum Error {
    /// No Postgres that could be used was found.
    #[error("{0}")]
    NotFound(PostgresNotFound),

    /// Running as root, without another user to run Postgres as.
    #[error(
        "Postgres refuses to run as root, and there is no user `postgres` or `nobody` to run it \
         as. Run Tenantry as an ordinary user, or add one: useradd --system postgres"
    )]
    NoUnprivilegedUser,

    /// The cluster belongs to another user.
    #[error(
        "the Postgres cluster in {} belongs to {owner}, but this program runs as {me}. Run it as \
         {owner}, or set DATA_DIR to another folder", home.display()
    )]
    WrongOwner { home: PathBuf, owner: String, me: String },

    /// The cluster is there, but Postgres's user cannot get to it.
    #[error(
        "Postgres runs as the user `{user}`, who cannot reach the cluster in {}. Make the folders \
         above it searchable (chmod o+x), or set DATA_DIR to another folder", home.display()
    )]
    Unreachable { home: PathBuf, user: String },

    /// The link that was left when the cluster was put elsewhere leads nowhere.
    #[error(
        "{} leads to a Postgres cluster that is gone. Put that back, or remove the link to begin \
         with an empty database", link.display()
    )]
    DanglingLink { link: PathBuf },

    /// Another process uses the cluster.
    #[error(
        "a server, or another command, uses the Postgres cluster in {}: stop it first",
        home.display()
    )]
    InUse { home: PathBuf },

    /// A path that Postgres's own files can not contain.
    #[error("{home:?} has a line break in it, which Postgres cannot cope with: set DATA_DIR")]
    LineBreak { home: PathBuf },

    /// Something else lies where the data should be.
    #[error(
        "{} holds no Postgres cluster (it has no readable PG_VERSION). Restore it, or move it \
         away to begin with an empty database", data.display()
    )]
    NotACluster { data: PathBuf },

    /// An upgrade was cut off between its last two steps.
    #[error(
        "{} is missing, and an upgrade that was cut off, or an earlier one, left the old data in \
         {}. Put that back (mv {} {}) and run tenantry postgres-upgrade again, or move it out of \
         its folder to begin with an empty database",
        data.display(), kept.display(), kept.display(), data.display()
    )]
    HalfUpgraded { data: PathBuf, kept: PathBuf },

    /// The socket's folder belongs to another user, or is open to others.
    #[error(
        "{} must be a folder of the user that Postgres runs as, with mode 0700: anybody else could \
         answer in it. Remove it and start again", folder.display()
    )]
    SocketFolder { folder: PathBuf },

    /// `initdb` or Postgres itself failed.
    #[error(
        "{program} failed ({outcome}). The end of its log, {}:\n{tail}", log.display()
    )]
    Failed { program: String, outcome: String, log: PathBuf, tail: String },

    /// An error of the operating system.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: io::Error },

    /// The operating system denied access.
    #[error(
        "cannot {action} {}: permission denied. Give it to the user Tenantry runs as, or set \
         DATA_DIR to another folder", path.display()
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
