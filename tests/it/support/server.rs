//! The real binary, run in its own folder as an operator does.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tempfile::TempDir;

use super::waiting::holds_within;

/// A folder to run servers in, one after the other or together.
pub struct WorkDir {
    folder: TempDir,
    program: PathBuf,
    user: Option<u32>,
}

impl WorkDir {
    /// An empty folder.
    pub fn new() -> Self {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_tenantry"));
        // Readable for Postgres's user under root. Otherwise the data would be in another folder.
        let open = fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(open).tempdir().unwrap();
        Self { folder, program, user: None }
    }

    /// An empty folder that is owned by a user other than root, with a copy of the program.
    pub fn unprivileged() -> Self {
        let mut dir = Self::new();
        if is_root() {
            let program = dir.folder.path().join("tenantry");
            fs::copy(&dir.program, &program).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(dir.folder.path(), Some(NOBODY), None).unwrap();
            (dir.program, dir.user) = (program, Some(NOBODY));
        }
        dir
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The command of the program with these variables and no others of the test process.
    pub fn command(&self, settings: &[(&str, &str)]) -> Command {
        self.command_for(&self.program, settings)
    }

    /// Like [`Self::command`], for another program.
    pub fn command_for(&self, program: impl AsRef<OsStr>, settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if let Some(folder) = std::env::var_os("PG_BIN_DIR") {
            command.env("PG_BIN_DIR", folder);
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command.env("LISTEN_ADDR", "127.0.0.1:0").env("METRICS_ADDR", "127.0.0.1:0");
        command.envs(settings.iter().copied());
        command
    }

    /// Starts a server and waits until it has printed its addresses.
    pub fn start(&self, settings: &[(&str, &str)]) -> Server {
        let log = self.folder.path().join("log");
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.command(settings);
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut welcome = String::new();
        while !welcome.ends_with("'\n\n") {
            let Some(Ok(line)) = lines.next() else {
                panic!("the server did not start: {}", fs::read_to_string(&log).unwrap());
            };
            welcome.push_str(&line);
            welcome.push('\n');
        }
        Server { child, welcome, log }
    }

    /// A connection to the folder's Postgres as the superuser.
    pub async fn connect(&self) -> PgConnection {
        let socket = self.folder.path().join(".tenantry/postgres/socket");
        let options = PgConnectOptions::new_without_pgpass().socket(socket);
        let options = options.username("tenantry").database("tenantry");
        options.connect().await.expect("a connection")
    }

    /// The process id of the folder's Postgres, if it runs.
    pub fn postgres(&self) -> Option<u32> {
        let file = self.folder.path().join(".tenantry/postgres/data/postmaster.pid");
        let pid = fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()?;
        is_alive(pid).then_some(pid)
    }
}

impl WorkDir {
    /// The process id of the janitor of the folder's Postgres, if it runs.
    pub fn janitor(&self) -> Option<u32> {
        let listed = Command::new("ps").args(["-axww", "-o", "pid=,args="]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let folder = self.folder.path().to_str().unwrap();
        let mut lines = listed.lines().filter(|line| line.contains("postgres-janitor"));
        lines.find(|line| line.contains(folder))?.trim().split(' ').next()?.parse().ok()
    }
}

impl Drop for WorkDir {
    /// Stops Postgres even if the test failed: first with SIGINT, which lets it free its shared
    /// memory, and after ten seconds with SIGKILL.
    fn drop(&mut self) {
        let Some(pid) = self.postgres() else { return };
        signal("INT", pid);
        if !holds_within(Duration::from_secs(10), || !is_alive(pid)) {
            signal("KILL", pid);
        }
    }
}

/// A running server.
pub struct Server {
    child: Child,
    /// The text that it printed to stdout at start.
    pub welcome: String,
    log: PathBuf,
}

impl Server {
    /// The address after a label in the start text.
    fn address(&self, word: &str) -> &str {
        let line = self.welcome.lines().find(|line| line.trim_start().starts_with(word)).unwrap();
        line.split_whitespace().nth(1).unwrap()
    }

    /// A URL of the API.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address("API"))
    }

    /// The current metrics.
    pub fn metrics(&self) -> String {
        curl(&[self.address("Metrics")]).text
    }

    /// The log of all servers in this folder so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Creates an organization by open signup; returns its key.
    pub fn sign_up(&self) -> String {
        let response = curl(&["-X", "POST", &self.url("/signup")]);
        assert_eq!(response.status, 201, "{}", response.text);
        response.body["api_key"].as_str().unwrap().to_owned()
    }

    /// The status of `GET /me` with a key.
    pub fn status_with(&self, key: &str) -> u16 {
        curl(&["-H", &format!("X-Api-Key: {key}"), &self.url("/me")]).status
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal and waits until the server ends.
    pub fn signal_and_wait(mut self, name: &str) -> ExitStatus {
        signal(name, self.pid());
        self.child.wait().unwrap()
    }

    /// Kills the server, and waits until it has ended: only then can another one listen at its
    /// address.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the server ends.
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A response to curl; its status is 0 if there was none.
#[derive(Debug)]
pub struct CurlResponse {
    /// The status.
    pub status: u16,
    /// The body.
    pub text: String,
    /// The body as JSON; null if it is not JSON.
    pub body: Value,
}

/// Runs curl.
pub fn curl(arguments: &[&str]) -> CurlResponse {
    let mut command = Command::new("curl");
    command.args(["-s", "--max-time", "30", "-w", "\n%{http_code}"]).args(arguments);
    run_curl(command)
}

/// Runs a shell command line; returns its output as JSON.
pub fn run_shell(line: &str) -> Value {
    let mut command = Command::new("sh");
    let done = command.args(["-c", line]).output().unwrap();
    serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{line}: {done:?}"))
}

fn run_curl(mut command: Command) -> CurlResponse {
    let done = command.output().expect("curl must be installed");
    let output = String::from_utf8(done.stdout).unwrap();
    let (text, status) = output.rsplit_once('\n').unwrap();
    CurlResponse {
        status: status.parse().unwrap(),
        text: text.to_owned(),
        body: serde_json::from_str(text).unwrap_or(Value::Null),
    }
}

/// Sends a process a signal.
pub fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}

/// Whether a process runs (and is not just waiting to be reaped).
pub fn is_alive(pid: u32) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}
