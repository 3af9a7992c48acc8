//! Creating a cluster, completely or not at all.
//!
//! It is created in a folder of another name, with its role and database, and renamed when
//! complete. A folder called `data` is therefore always a complete cluster.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::home::ClusterHome;
use super::installation::Binaries;
use super::log::PostgresLog;
use super::privileges::ProcessUsers;
use super::{Durability, Error, ROLE_AND_DATABASE};

/// The name of the folder until it is complete, before the pid of the process that creates it.
const UNFINISHED_PREFIX: &str = "data.new-";

/// What a new cluster is made of.
pub(super) struct NewCluster<'a> {
    pub(super) home: &'a ClusterHome,
    pub(super) identity: &'a ProcessUsers,
    pub(super) binaries: &'a Binaries,
    pub(super) durability: Durability,
}

/// Creates the cluster. Only under the start lock.
pub(super) fn initialise(cluster: &NewCluster<'_>, log: &PostgresLog) -> Result<(), Error> {
    let (home, data) = (cluster.home.path(), cluster.home.data());
    let unfinished = home.join(format!("{UNFINISHED_PREFIX}{}", std::process::id()));
    cluster.identity.make_private(&unfinished)?;
    let created = run_initdb(cluster, log, &unfinished)
        .and_then(|()| create_database(cluster, log, &unfinished))
        .and_then(|()| fs::rename(&unfinished, &data).map_err(|e| Error::io("create", &data, e)))
        // The new name must be on the disk before anything that is committed under it.
        .and_then(|()| sync_folder(home));
    if created.is_err() {
        remove_unfinished(home);
    } else {
        tracing::info!(data = %data.display(), "made a new Postgres cluster");
    }
    created
}

/// Removes what earlier attempts left, as far as possible: a killed one may have left an `initdb`
/// that is still writing. Only under the start lock, or with the users lock locked exclusively.
pub(super) fn remove_unfinished(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Trust is safe because only Postgres's user and root can enter the socket's folder.
fn run_initdb(cluster: &NewCluster<'_>, log: &PostgresLog, fresh: &Path) -> Result<(), Error> {
    let mut command = cluster.identity.command(&cluster.binaries.program("initdb"));
    command.arg("-D").arg(fresh).args(["-U", ROLE_AND_DATABASE, "--encoding=UTF8", "--locale=C"]);
    command.args(["--auth-local=trust", "--auth-host=reject", "--no-instructions"]);
    if cluster.durability == Durability::Throwaway {
        command.arg("--no-sync");
    }
    run_program("initdb", command.stdout(log.writer()?), log, "")
}

/// Through the single-user mode, for only `initdb` and `postgres` are sure to be installed.
fn create_database(cluster: &NewCluster<'_>, log: &PostgresLog, fresh: &Path) -> Result<(), Error> {
    let mut command = cluster.identity.command(&cluster.binaries.program("postgres"));
    command.args(["--single", "-c", "exit_on_error=on"]);
    if cluster.durability == Durability::Throwaway {
        command.args(["-c", "fsync=off"]);
    }
    command.arg("-D").arg(fresh).arg("postgres").stdout(Stdio::null());
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
        // A program that ends without reading has logged why.
        drop(pipe.write_all(input.as_bytes()));
    }
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(log.failure(name, &status.to_string())) }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|it| it.sync_all()).map_err(|e| Error::io("write", folder, e))
}
