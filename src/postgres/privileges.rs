//! Whom Postgres runs as.
//!
//! The one thing to know: Postgres refuses to run as root. When we are root, Postgres alone runs
//! as a lesser user, and only `data` and the socket folder are given to that user: the home around
//! them stays ours, so nothing in there can be swapped under root's hands.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Error;
use super::home::Home;

/// Who we are, and who Postgres is.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    me: u32,
    lesser: Option<User>,
}

#[derive(Debug, Clone)]
struct User {
    uid: u32,
    gid: u32,
}

impl Identity {
    pub(super) fn current() -> Result<Self, Error> {
        let me = id("-u", None).ok_or(Error::NoLesserUser)?;
        if me != 0 {
            return Ok(Self { me, lesser: None });
        }
        let known = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Some(User { uid: id("-u", Some(name))?, gid: id("-g", Some(name))? }));
        Ok(Self { me, lesser: Some(known.ok_or(Error::NoLesserUser)?) })
    }

    /// An existing cluster keeps its user, also when a better one has been installed since.
    pub(super) fn for_data_in(mut self, home: &Home) -> Self {
        if let (Some(user), Ok(data)) = (&mut self.lesser, fs::metadata(home.data()))
            && data.uid() != 0
        {
            *user = User { uid: data.uid(), gid: data.gid() };
        }
        self
    }

    /// A command that runs as Postgres's user, away from our folder, our terminal's input and our
    /// environment, which may hold secrets.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = bare_command(program);
        if let Some(user) = &self.lesser {
            // This also drops root's supplementary groups.
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// Makes a folder that only Postgres's user (and root) may enter.
    pub(super) fn make_private(&self, folder: &Path) -> Result<(), Error> {
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
            made => made.map_err(|e| Error::io("create", folder, e))?,
        }
        self.give(folder)
    }

    /// Whether the path is a real folder that only Postgres's user may enter.
    pub(super) fn is_private(&self, folder: &Path) -> bool {
        let uid = self.lesser.as_ref().map_or(self.me, |user| user.uid);
        fs::symlink_metadata(folder)
            .is_ok_and(|it| it.is_dir() && it.uid() == uid && it.mode() & 0o777 == 0o700)
    }

    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        let Some(user) = &self.lesser else {
            return Ok(());
        };
        chown(path, Some(user.uid), Some(user.gid)).map_err(|e| Error::io("give away", path, e))
    }

    /// Sees to it that the home is ours, and that Postgres's user can pass through it.
    pub(super) fn claim(&self, home: &Path) -> Result<(), Error> {
        let owner = fs::metadata(home).map_err(|e| Error::io("read", home, e))?.uid();
        if owner != self.me {
            let (owner, me) = (name_of(owner), name_of(self.me));
            return Err(Error::Foreign { home: home.to_owned(), owner, me });
        }
        set_mode(home, if self.lesser.is_some() { 0o711 } else { 0o700 })
    }

    /// Whether Postgres's user can enter the folder. Asked of the kernel, which alone knows about
    /// access lists and mounts.
    pub(super) fn reaches(&self, folder: &Path) -> bool {
        self.lesser.is_none()
            || self
                .command(Path::new("/bin/sh"))
                .args([OsStr::new("-c"), OsStr::new("cd \"$0\""), folder.as_os_str()])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    }

    /// The name of Postgres's user, for messages.
    pub(super) fn name(&self) -> String {
        name_of(self.lesser.as_ref().map_or(self.me, |user| user.uid))
    }
}

/// A command with none of our environment, and a folder that can be neither lost nor forbidden.
pub(super) fn bare_command(program: &Path) -> Command {
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

/// Asks `id`, which knows every source of users; the standard library does not even know ours.
fn id(what: &str, user: Option<&str>) -> Option<u32> {
    ask_id(what, user)?.parse().ok()
}

fn name_of(uid: u32) -> String {
    ask_id("-un", Some(&uid.to_string())).unwrap_or_else(|| format!("uid {uid}"))
}

fn ask_id(what: &str, user: Option<&str>) -> Option<String> {
    let mut command = bare_command(Path::new("id"));
    let output = command.arg(what).args(user).stderr(Stdio::null()).output().ok()?;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !answer.is_empty()).then_some(answer)
}
