//! A temporary folder with a private Postgres, which is as durable as that of a server: `fsync` is
//! on.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::Server;
use tenantry::app::peppers::Peppers;
use tenantry::commands::setup::{PreparedDatabase, prepare_database};
use tenantry::commands::{Failure, print};
use tenantry::config::env::Env;
use tenantry::config::{Config, secrets_file};
use tenantry::entropy::{SystemEntropy, random_base62};
use tenantry::model::secret::Digest;
use tenantry::postgres::Cluster;

/// The verifier of the servers and its secret, which protects nothing.
const VERIFIER_KEYS: &str = "api:benchmark-0123456789abcdef0123456789";
/// The secret alone.
pub(crate) const VERIFIER_SECRET: &str = "benchmark-0123456789abcdef0123456789";

/// The servers' `PUBLIC_URL`, and the resource of the OAuth tokens. No request is sent to it: the
/// servers listen on random ports.
pub(crate) const PUBLIC_URL: &str = "http://127.0.0.1:8080";

/// The settings of the servers: the defaults, with OAuth on, behind a proxy that reports client
/// addresses. The rate limits, the quota and the plan limit of keys are checked as usual, but are
/// so high that they are never reached.
const SETTINGS: [(&str, &str); 9] = [
    ("LISTEN_ADDR", "127.0.0.1:0"),
    ("PUBLIC_URL", PUBLIC_URL),
    ("OAUTH", "on"),
    ("METRICS_ADDR", "127.0.0.1:0"),
    ("TRUSTED_PROXY_HOPS", "1"),
    ("VERIFIER_KEYS", VERIFIER_KEYS),
    // A debug build, which tests run, is slow.
    ("VERIFY_TIMEOUT_MS", "10000"),
    (
        "PLANS",
        r#"{"trial":{"requests_per_minute":1000000000,"requests_per_month":1000000000000,
            "keys":1000000000}}"#,
    ),
    (
        "LIMITS",
        r#"{"address":{"quota":1000000000},"sign_in":{"quota":1000000000},
            "mail_client":{"quota":1000000000},"key_mint":{"quota":1000000000}}"#,
    ),
];

/// A temporary folder with a running Postgres, whose schema is up to date.
pub(crate) struct BenchmarkEnvironment {
    secrets: HashMap<String, String>,
    peppers: Peppers,
    /// The private Postgres.
    pub(crate) cluster: Cluster,
    folder: TempFolder,
}

impl BenchmarkEnvironment {
    /// Creates the folder and the database.
    ///
    /// # Errors
    /// Postgres does not start, or the schema cannot be created.
    pub(crate) fn create() -> Result<Self, Failure> {
        let name = format!("tenantry-benchmark-{}", random_base62(&SystemEntropy, 10));
        let folder = TempFolder(temp_dir_on_disk().join(name));
        let secrets = secrets_file::load_or_create(&folder.0, false, &SystemEntropy);
        let secrets = secrets.map_err(Failure::Secrets)?;
        let data_dir = folder.0.to_string_lossy().into_owned();
        let mut env = Env::from_source(|name: &str| match name {
            "DATA_DIR" => Some(data_dir.clone()),
            "PG_BIN_DIR" => std::env::var(name).ok(),
            _ => None,
        });
        env = env.with_defaults(secrets.clone());
        let config = Config::read(&mut env)?;
        let PreparedDatabase { cluster: Some(cluster), .. } = prepare_database(&config)? else {
            return Err(Failure::Message("no private Postgres was started".to_owned()));
        };
        let peppers = Peppers::new(&config.keys.peppers);
        Ok(Self { secrets, peppers, cluster, folder })
    }

    /// Returns the folder for the files of the benchmark.
    pub(crate) fn path(&self) -> &Path {
        &self.folder.0
    }

    /// Returns the digest under which the database stores a key or token.
    pub(crate) fn digest(&self, text: &str) -> Digest {
        self.peppers.digest(text).0
    }

    /// Starts a server as an operator does, with its log in a file.
    ///
    /// # Errors
    /// The server does not start.
    pub(crate) fn start_server(&self) -> Result<Server, Failure> {
        let mut command = self.command(&tenantry_binary()?);
        command.arg("serve").env("DATA_DIR", self.path());
        Server::start(command, &self.path().join("server.log"))
    }

    /// Starts a server whose statements Postgres logs.
    ///
    /// # Errors
    /// As [`BenchmarkEnvironment::start_server`].
    pub(crate) fn start_recorded(&self) -> Result<Server, Failure> {
        let mut command = self.command(&tenantry_binary()?);
        let options = "options=-c%20log_statement%3Dall";
        command.arg("serve").env("DATA_DIR", self.path()).envs(&self.secrets);
        command.env("DATABASE_URL", format!("{}&{options}", self.cluster.url("tenantry")));
        // With `DATABASE_URL`, OAuth would require signing keys, which no recording needs.
        command.env("OAUTH", "off");
        Server::start(command, &self.path().join("recorded.log"))
    }

    /// Starts the bare handlers that the server is compared with.
    ///
    /// # Errors
    /// As [`BenchmarkEnvironment::start_server`].
    pub(crate) fn start_bare(&self) -> Result<Server, Failure> {
        let mut command = self.command(&std::env::current_exe()?);
        command.arg("serve-bare").arg(self.cluster.url("tenantry"));
        Server::start(command, &self.path().join("bare.log"))
    }

    /// Returns a command with only the environment variables that it needs.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear().envs(SETTINGS);
        let inherited = ["PATH", "PG_BIN_DIR"];
        command
            .envs(inherited.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command
    }

    /// Stops Postgres and removes the folder.
    ///
    /// # Errors
    /// Postgres cannot be stopped, or its files cannot be removed.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        self.cluster.remove()?;
        Ok(())
    }
}

/// Returns the path of Tenantry's binary, in the folder of this one.
fn tenantry_binary() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?.with_file_name("tenantry");
    if program.exists() {
        return Ok(program);
    }
    Err(Failure::Message(format!("{} does not exist; build it first", program.display())))
}

/// A folder that is removed with its contents when dropped.
struct TempFolder(PathBuf);

impl Drop for TempFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            let _ = print(&format!("{} was not removed: {error}\n", self.0.display()));
        }
    }
}

/// Returns `TMPDIR` if it is set, otherwise `/var/tmp` if it is writable: `/tmp`, which is the last
/// choice, is often in memory, where writes do not wait for a disk.
fn temp_dir_on_disk() -> PathBuf {
    if std::env::var_os("TMPDIR").is_some() {
        return std::env::temp_dir();
    }
    let disk = PathBuf::from("/var/tmp");
    let probe = disk.join(format!("tenantry-{}", random_base62(&SystemEntropy, 10)));
    match File::create_new(&probe) {
        Ok(_) => {
            let _ = fs::remove_file(&probe);
            disk
        }
        Err(_) => std::env::temp_dir(),
    }
}
