//! A throw-away folder with a private Postgres, run as a server's own is: durable, `fsync` on.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::Server;
use tenantry::app::peppers::Peppers;
use tenantry::commands::migrate::{PreparedDatabase, prepare_database};
use tenantry::commands::{Failure, print};
use tenantry::config::env::Env;
use tenantry::config::{Config, secrets_file};
use tenantry::entropy::{SystemEntropy, random_base62};
use tenantry::postgres::Cluster;

/// The settings of the servers: the defaults, behind a proxy that reports client addresses, and
/// with rate limits that are counted for each request, but never reached.
const SETTINGS: [(&str, &str); 5] = [
    ("LISTEN_ADDR", "127.0.0.1:0"),
    ("METRICS_ADDR", "127.0.0.1:0"),
    ("TRUSTED_PROXY_HOPS", "1"),
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

/// The folder, with its Postgres running and the schema up to date.
pub(crate) struct BenchmarkEnvironment {
    secrets: HashMap<String, String>,
    peppers: Peppers,
    /// Its Postgres.
    pub(crate) cluster: Cluster,
    folder: TempFolder,
}

impl BenchmarkEnvironment {
    /// Makes it.
    ///
    /// # Errors
    /// What keeps Postgres from running.
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
            return Err(Failure::Message("no Postgres of our own was started".to_owned()));
        };
        let peppers = Peppers::new(&config.keys.peppers);
        Ok(Self { secrets, peppers, cluster, folder })
    }

    /// Where files of the benchmark may be written.
    pub(crate) fn path(&self) -> &Path {
        &self.folder.0
    }

    /// Returns the stored digest of a key, in hexadecimal digits.
    pub(crate) fn digest(&self, key: &str) -> String {
        hex::encode(self.peppers.digest(key).0.bytes())
    }

    /// A server as a user starts it, with its log in a file.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub(crate) fn start_server(&self) -> Result<Server, Failure> {
        let mut command = self.command(&product()?);
        command.arg("serve").env("DATA_DIR", self.path());
        Server::start(command, &self.path().join("server.log"))
    }

    /// The same, with every statement in Postgres's log.
    ///
    /// # Errors
    /// As [`BenchmarkEnvironment::start_server`].
    pub(crate) fn start_recorded(&self) -> Result<Server, Failure> {
        let mut command = self.command(&product()?);
        let options = "options=-c%20log_statement%3Dall";
        command.arg("serve").env("DATA_DIR", self.path()).envs(&self.secrets);
        command.env("DATABASE_URL", format!("{}&{options}", self.cluster.url("tenantry")));
        Server::start(command, &self.path().join("recorded.log"))
    }

    /// Starts the bare handlers that the product is compared with.
    ///
    /// # Errors
    /// As [`BenchmarkEnvironment::start_server`].
    pub(crate) fn start_bare(&self) -> Result<Server, Failure> {
        let mut command = self.command(&std::env::current_exe()?);
        command.arg("serve-bare").arg(self.cluster.url("tenantry"));
        Server::start(command, &self.path().join("bare.log"))
    }

    /// A program, with only the environment variables that it needs.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear().envs(SETTINGS);
        let inherited = ["PATH", "PG_BIN_DIR"];
        command
            .envs(inherited.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command
    }

    /// Stops Postgres and removes everything.
    ///
    /// # Errors
    /// What cannot be removed.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        self.cluster.remove()?;
        Ok(())
    }
}

/// The product's binary, beside this one.
fn product() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?.with_file_name("tenantry");
    if program.exists() {
        return Ok(program);
    }
    Err(Failure::Message(format!("{} does not exist; build it first", program.display())))
}

/// Removed with all that is in it.
struct TempFolder(PathBuf);

impl Drop for TempFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            let _ = print(&format!("{} was not removed: {error}\n", self.0.display()));
        }
    }
}

/// Returns `TMPDIR` where it is set, otherwise a folder on a disk: `/tmp` is often in memory, where
/// no write has to be waited for.
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
