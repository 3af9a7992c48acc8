//! `tenantry postgres` and `tenantry postgres-upgrade`: run programs of the private Postgres, and
//! upgrade it to another major version.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::commands::setup::{CLUSTER_DIR, cluster_settings, start_cluster};
use crate::commands::{Failure, print};
use crate::config::database::DatabaseSettings;
use crate::config::env::Env;
use crate::postgres::{Cluster, has_cluster, upgrade as upgrade_cluster};
use crate::repo::{catalog, migrations, tenant_access};

/// Runs a program such as `pg_dump`, `pg_restore` or `psql`, connected to the private database.
///
/// # Errors
/// There is no private database, or the program fails.
pub fn run(program: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let settings = settings()?;
    let prepared = start_cluster(&settings)?;
    let Some(cluster) = &prepared.cluster else { return Ok(()) };
    run_to_completion(cluster.client(program, cluster).args(arguments))
}

/// Upgrades the private database to the newest installed Postgres, or to the one in `to`.
///
/// # Errors
/// There is no private database, a server uses it, or it cannot be copied. The database is then
/// unchanged.
pub fn upgrade(to: Option<&Path>) -> Result<(), Failure> {
    let settings = settings()?;
    let upgraded = upgrade_cluster(&cluster_settings(&settings)?, to, copy_database)?;
    print(&match upgraded {
        None => "the data already has the version of this Postgres or a newer one\n".to_owned(),
        Some(outcome) => format!(
            "upgraded the data from Postgres {} to {}; after checking it, remove the old data in \
             {}\n",
            outcome.from,
            outcome.to,
            outcome.old_data.display()
        ),
    })
}

fn settings() -> Result<DatabaseSettings, Failure> {
    let mut env = Env::from_process();
    let settings = DatabaseSettings::read(&mut env);
    env.check_problems()?;
    if settings.url.is_some() {
        let text = "DATABASE_URL is set, so no private Postgres is used";
        return Err(Failure::Message(text.to_owned()));
    }
    let home = settings.data_dir.join(CLUSTER_DIR);
    if !has_cluster(&home) {
        let home = std::path::absolute(home)?;
        let text = format!(
            "there is no private Postgres in {}: tenantry migrate creates one, with its secrets",
            home.display()
        );
        return Err(Failure::Message(text));
    }
    Ok(settings)
}

/// Copies the database with `pg_dump` and `pg_restore`, while its tables are locked against writes.
fn copy_database(old: &Cluster, new: &Cluster, folder: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = |cluster: &Cluster| PgConnectOptions::from_str(&cluster.url("tenantry"));
    let dump = folder.join("dump");
    runtime.block_on(async {
        let mut source = options(old)?.connect().await?;
        let mut transaction = source.begin().await?;
        catalog::lock_tables(&mut transaction).await?;
        let programs = if new.program("pg_dump").is_file() { new } else { old };
        run_to_completion(
            old.client("pg_dump", programs).arg("--format=custom").arg("--file").arg(&dump),
        )?;
        let mut target = options(new)?.connect().await?;
        tenant_access::create_role(&mut target).await?;
        let programs = if new.program("pg_restore").is_file() { new } else { old };
        let mut restore = new.client("pg_restore", programs);
        restore.args(["--dbname=tenantry", "--exit-on-error", "--single-transaction"]);
        run_to_completion(restore.arg(&dump))?;
        let before = migrations::progress(&mut transaction).await?;
        let after = migrations::progress(&mut target).await?;
        let rows = catalog::count_rows(&mut transaction).await?;
        if before.pending != after.pending || rows != catalog::count_rows(&mut target).await? {
            return Err(Failure::Message(
                "the copy is incomplete; the old data is unchanged".to_owned(),
            ));
        }
        target.close().await?;
        transaction.rollback().await?;
        source.close().await?;
        Ok(())
    })
}

fn run_to_completion(command: &mut Command) -> Result<(), Failure> {
    let program = command.get_program().display().to_string();
    let status = command.status().map_err(|error| {
        Failure::Message(format!("could not run {program} ({error}); check that it is installed"))
    })?;
    if status.success() { Ok(()) } else { Err(Failure::Message(format!("{program}: {status}"))) }
}
