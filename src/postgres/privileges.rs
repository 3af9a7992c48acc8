//! The user that Postgres runs as.
//!
//! Postgres refuses to run as root. If this program runs as root, Postgres runs as an unprivileged
//! user, who owns only `data` and the socket folder. The home folder around them belongs to root,
//! so that the unprivileged user cannot replace files that root uses.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Error;

/// The user of this program, and the user of Postgres if that is another one.
#[derive(Debug, Clone)]
pub(super) struct ProcessUsers {
    own_uid: u32,
    postgres_user: Option<SystemUser>,
}

#[derive(Debug, Clone)]
struct SystemUser {
    uid: u32,
    gid: u32,
}

impl ProcessUsers {
    pub(super) fn current() -> Result<Self, Error> {
        let own_uid = lookup_id("-u", None).ok_or(Error::NoUnprivilegedUser)?;
        if own_uid != 0 {
            return Ok(Self { own_uid, postgres_user: None });
        }
        let postgres_user = ["postgres", "nobody"].into_iter().find_map(|name| {
            Some(SystemUser {
                uid: lookup_id("-u", Some(name))?,
                gid: lookup_id("-g", Some(name))?,
            })
        });
        Ok(Self { own_uid, postgres_user: Some(postgres_user.ok_or(Error::NoUnprivilegedUser)?) })
    }

    /// Uses the owner of existing data as Postgres's user, even if a user `postgres` was added
    /// since the cluster was created.
    pub(super) fn for_existing_data(mut self, data: &Path) -> Self {
        if let (Some(user), Ok(data)) = (&mut self.postgres_user, fs::metadata(data))
            && data.uid() != 0
        {
            *user = SystemUser { uid: data.uid(), gid: data.gid() };
        }
        self
    }

    /// Returns a command that runs as Postgres's user, without this process's working folder,
    /// standard input and environment, which may contain secrets.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = clean_command(program);
        if let Some(user) = &self.postgres_user {
            // This also drops root's supplementary groups.
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// Creates a folder that only Postgres's user (and root) may enter. An existing one is left as
    /// it is.
    pub(super) fn make_private(&self, folder: &Path) -> Result<(), Error> {
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            created => created.map_err(|e| Error::io("create", folder, e))?,
        }
        self.transfer_ownership(folder)
    }

    /// Returns whether the path is a folder, not a link, that only Postgres's user may enter.
    pub(super) fn is_private(&self, folder: &Path) -> bool {
        let uid = self.postgres_user.as_ref().map_or(self.own_uid, |user| user.uid);
        fs::symlink_metadata(folder)
            .is_ok_and(|it| it.is_dir() && it.uid() == uid && it.mode() & 0o777 == 0o700)
    }

    pub(super) fn transfer_ownership(&self, path: &Path) -> Result<(), Error> {
        let Some(user) = &self.postgres_user else {
            return Ok(());
        };
        chown(path, Some(user.uid), Some(user.gid))
            .map_err(|e| Error::io("change the owner of", path, e))
    }

    /// Checks that the home belongs to the user of this program, and sets a mode that lets
    /// Postgres's user traverse it.
    pub(super) fn secure_home(&self, home: &Path) -> Result<(), Error> {
        let owner = fs::metadata(home).map_err(|e| Error::io("read", home, e))?.uid();
        if owner != self.own_uid {
            let (owner, current_user) = (user_name(owner), user_name(self.own_uid));
            return Err(Error::WrongOwner { home: home.to_owned(), owner, current_user });
        }
        set_mode(home, if self.postgres_user.is_some() { 0o711 } else { 0o700 })
    }

    /// Returns whether Postgres's user can enter the folder. It is tried in a process of that user,
    /// because access lists and mounts matter, too.
    pub(super) fn can_enter(&self, folder: &Path) -> bool {
        self.postgres_user.is_none()
            || self
                .command(Path::new("/bin/sh"))
                .args([OsStr::new("-c"), OsStr::new("cd \"$0\""), folder.as_os_str()])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    }

    /// Returns the name of Postgres's user, for messages.
    pub(super) fn name(&self) -> String {
        user_name(self.postgres_user.as_ref().map_or(self.own_uid, |user| user.uid))
    }
}

/// Returns a command without this process's environment, whose working folder `/` always exists and
/// is accessible.
pub(super) fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir("/").stdin(Stdio::null());
    for name in ["PATH", "LD_LIBRARY_PATH"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(|e| Error::io("set the mode of", path, e))
}

/// Runs `id`, which supports every source of users. The standard library has no such function.
fn lookup_id(what: &str, user: Option<&str>) -> Option<u32> {
    run_id(what, user)?.parse().ok()
}

fn user_name(uid: u32) -> String {
    run_id("-un", Some(&uid.to_string())).unwrap_or_else(|| format!("uid {uid}"))
}

fn run_id(what: &str, user: Option<&str>) -> Option<String> {
    let mut command = clean_command(Path::new("id"));
    let output = command.arg(what).args(user).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
