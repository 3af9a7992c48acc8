//! A Postgres with its own settings, apart from the one that all tests share.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;

use super::server::signal;
use super::waiting::wait_until;

/// The password of its superuser, `admin`.
pub const PASSWORD: &str = "a-password-of-the-database";

/// A running Postgres, which accepts connections with SCRAM on a socket and a port.
pub struct DedicatedPostgres {
    folder: TempDir,
    port: u16,
    process: Child,
}

impl DedicatedPostgres {
    /// Starts a new one; `settings` are as in `postgresql.conf`.
    pub fn start(settings: &[&str]) -> Self {
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(open).tempdir().unwrap();
        let user = postgres_user();
        chown(folder.path(), user, None).unwrap();
        let path = folder.path();
        fs::write(path.join("password"), PASSWORD).unwrap();
        let mut initdb = as_user(&program("initdb"), user);
        initdb
            .arg("-D")
            .arg(path.join("data"))
            .arg(format!("--pwfile={}/password", path.display()));
        initdb.args(["-U", "admin", "-E", "UTF8", "--locale=C", "--auth=scram-sha-256"]);
        assert!(initdb.arg("--no-sync").stdout(Stdio::null()).status().unwrap().success());
        if settings.contains(&"ssl=on") {
            make_certificate(&path.join("data"), user);
        }
        // A port below the range from which the system assigns ports.
        let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let first = 10_000 + u16::try_from(std::process::id() % 9_000).unwrap();
        let port = (first..20_000).find(free).unwrap();
        let process = launch(path, port, user, settings);
        let own = Self { folder, port, process };
        let pid_file = pid_file_path(own.folder.path());
        wait_until("Postgres is ready", || {
            fs::read_to_string(&pid_file).is_ok_and(|text| text.trim_end().ends_with("ready"))
        });
        own
    }

    /// Its URL for the superuser, over TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://admin:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port it listens on, and that its socket is named after.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new connection as the superuser.
    pub async fn connect(&self, database: &str) -> PgConnection {
        let options = PgConnectOptions::from_str(&self.url(database)).unwrap();
        options.connect().await.unwrap()
    }

    /// Runs statements as the superuser.
    pub async fn execute(&self, database: &str, sql: &str) {
        let done =
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connect(database).await).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

impl Drop for DedicatedPostgres {
    fn drop(&mut self) {
        signal("INT", self.process.id());
        let _ = self.process.wait();
    }
}

fn launch(path: &Path, port: u16, user: Option<u32>, settings: &[&str]) -> Child {
    let mut postgres = as_user(&program("postgres"), user);
    postgres.arg("-D").arg(path.join("data")).arg("-k").arg(path);
    postgres.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
    for setting in settings {
        postgres.args(["-c", setting]);
    }
    let log = fs::File::create(path.join("log")).unwrap();
    postgres.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn pid_file_path(folder: &Path) -> PathBuf {
    folder.join("data/postmaster.pid")
}

fn make_certificate(data: &Path, user: Option<u32>) {
    let mut openssl = as_user(Path::new("openssl"), user);
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    openssl.arg("-keyout").arg(data.join("server.key")).arg("-out").arg(data.join("server.crt"));
    assert!(openssl.stderr(Stdio::null()).status().unwrap().success());
}

/// The path of a program of the newest installed Postgres, or of the one in `PG_BIN_DIR`.
pub fn program(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("PG_BIN_DIR") {
        return PathBuf::from(folder).join(name);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").expect("an installed Postgres");
    let versions = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let newest: u32 = versions.max().expect("an installed Postgres");
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin/{name}"))
}

/// The user to run Postgres as, if the test runs as root: Postgres does not run as root.
pub fn postgres_user() -> Option<u32> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let id = Command::new("id").args(["-u", "postgres"]).output().unwrap();
    String::from_utf8_lossy(&id.stdout).trim().parse().ok()
}

/// A command that runs as another user, if one is given.
pub fn as_user(program: &Path, user: Option<u32>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
}
