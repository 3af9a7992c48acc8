//! Creates a new cluster atomically.
//!
//! The cluster is created in a folder with a temporary name, with its role and database, and
//! renamed when it is complete. So a folder with the name `data` always contains a complete
//! cluster.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::home::ClusterHome;
use super::installation::Binaries;
use super::log::PostgresLog;
use super::privileges::ProcessUsers;
use super::{Durability, Error, ROLE_AND_DATABASE};

/// The name of the folder until it is complete. The pid of the creating process follows.
const UNFINISHED_PREFIX: &str = "data.new-";

/// What is needed to create a cluster.
pub(super) struct NewCluster<'a> {
    pub(super) home: &'a ClusterHome,
    pub(super) process_users: &'a ProcessUsers,
    pub(super) binaries: &'a Binaries,
    pub(super) durability: Durability,
}

/// Creates the cluster. The caller must have acquired the start lock.
pub(super) fn initialize(cluster: &NewCluster<'_>, log: &PostgresLog) -> Result<(), Error> {
    let (home, data) = (cluster.home.path(), cluster.home.data());
    let unfinished = home.join(format!("{UNFINISHED_PREFIX}{}", std::process::id()));
    cluster.process_users.make_private(&unfinished)?;
    let created = run_initdb(cluster, log, &unfinished)
        .and_then(|()| create_database(cluster, log, &unfinished))
        .and_then(|()| fs::rename(&unfinished, &data).map_err(|e| Error::io("create", &data, e)))
        // The new name must be on the disk before any transaction commits.
        .and_then(|()| sync_folder(home));
    if created.is_err() {
        remove_unfinished(home);
    } else {
        tracing::info!(data = %data.display(), "created a new Postgres cluster");
    }
    created
}

/// Removes the folders of unfinished attempts, as far as possible: an `initdb` that a killed
/// process started may still write to one. The caller must have acquired the start lock, or the
/// users lock exclusively.
pub(super) fn remove_unfinished(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Runs `initdb`. Local connections need no password (`trust`), which is safe because only
/// Postgres's user and root can enter the socket's folder.
fn run_initdb(cluster: &NewCluster<'_>, log: &PostgresLog, unfinished: &Path) -> Result<(), Error> {
    let mut command = cluster.process_users.command(&cluster.binaries.program("initdb"));
    command.arg("-D").arg(unfinished);
    command.args(["-U", ROLE_AND_DATABASE, "--encoding=UTF8", "--locale=C"]);
    command.args(["--auth-local=trust", "--auth-host=reject", "--no-instructions"]);
    if cluster.durability == Durability::NonDurable {
        command.arg("--no-sync");
    }
    run_program("initdb", command.stdout(log.writer()?), log, "")
}

/// Creates the database in the single-user mode, because only `initdb` and `postgres` are certain
/// to be installed.
fn create_database(
    cluster: &NewCluster<'_>,
    log: &PostgresLog,
    unfinished: &Path,
) -> Result<(), Error> {
    let mut command = cluster.process_users.command(&cluster.binaries.program("postgres"));
    command.args(["--single", "-c", "exit_on_error=on"]);
    if cluster.durability == Durability::NonDurable {
        command.args(["-c", "fsync=off"]);
    }
    command.arg("-D").arg(unfinished).arg("postgres").stdout(Stdio::null());
    run_program(
        "postgres --single",
        &mut command,
        log,
        &format!("create database {ROLE_AND_DATABASE};\n"),
    )
}

fn run_program(
    name: &str,
    command: &mut Command,
    log: &PostgresLog,
    input: &str,
) -> Result<(), Error> {
    let program = PathBuf::from(command.get_program());
    let failed = |e| Error::io("run", &program, e);
    let mut child = command.stdin(Stdio::piped()).stderr(log.writer()?).spawn().map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        // If the program ends without reading, the log contains the reason.
        drop(pipe.write_all(input.as_bytes()));
    }
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(log.failure(name, &status.to_string())) }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|it| it.sync_all()).map_err(|e| Error::io("write", folder, e))
}
