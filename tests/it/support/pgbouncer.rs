//! A real `PgBouncer` before the Postgres that all tests share.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Child, Stdio};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;

use super::dedicated_postgres::as_user;
use super::server::signal;
use super::tools::find_program;
use super::waiting::wait_until;

/// A running `PgBouncer`.
pub struct PgBouncer {
    folder: TempDir,
    process: Child,
}

impl PgBouncer {
    /// Starts one before the server of `url`, in this mode, with more lines of configuration.
    /// `None` if the test is skipped because `PgBouncer` is missing.
    pub fn start(url: &str, mode: &str, lines: &str) -> Option<Self> {
        let program = find_program("pgbouncer")?;
        let options = PgConnectOptions::from_str(url).unwrap();
        let socket = options.get_socket().expect("a socket");
        // PgBouncer cannot run as root, and only the owner may enter the socket's folder.
        let owner = fs::metadata(socket).unwrap().uid();
        let user = rustix::process::getuid().is_root().then_some(owner);
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(open).tempdir().unwrap();
        chown(folder.path(), user, None).unwrap();
        let (own, there) = (folder.path().display(), socket.display());
        let configuration = format!(
            "[databases]\n* = host={there} port={}\n\n[pgbouncer]\nunix_socket_dir = {own}\n\
             listen_port = 6432\nauth_type = trust\nauth_file = {own}/users\n\
             pool_mode = {mode}\nlogfile = {own}/log\n{lines}\n",
            options.get_port(),
        );
        fs::write(folder.path().join("pgbouncer.ini"), configuration).unwrap();
        let users = format!("\"{}\" \"\"\n", options.get_username());
        fs::write(folder.path().join("users"), users).unwrap();
        let mut command = as_user(&program, user);
        command.arg("-q").arg(folder.path().join("pgbouncer.ini"));
        let process = command.stderr(Stdio::null()).spawn().unwrap();
        let socket = folder.path().join(".s.PGSQL.6432");
        wait_until("PgBouncer listens", || socket.exists());
        Some(Self { folder, process })
    }

    /// The URL of a database behind it.
    pub fn url(&self, url: &str) -> String {
        let options = PgConnectOptions::from_str(url).unwrap();
        let (database, user) = (options.get_database().unwrap(), options.get_username());
        let folder = self.folder.path().display();
        format!("postgres:///{database}?host={folder}&port=6432&user={user}")
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        signal("INT", self.process.id());
        let _ = self.process.wait();
    }
}
