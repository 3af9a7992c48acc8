//! Backups with the commands of the README: dumped by an owner to whom row-level security applies,
//! restored where the tenant role, its privileges and policies are missing, and repaired.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::dedicated_postgres::{DedicatedPostgres, PASSWORD, program};
use crate::support::run;
use crate::support::server::{WorkDir, curl};
use crate::support::waiting::wait_until;

const PEPPER: &str = "p2:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// The script of a section of the README, with each `(from, to)` replaced.
fn script(heading: &str, replaced: &[(&str, &str)]) -> String {
    let readme = include_str!("../../README.md");
    let section = readme.split(heading).nth(1).expect("a section");
    let script = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    replaced.iter().fold(script.to_owned(), |script, (from, to)| {
        assert!(script.contains(from), "{from}");
        script.replace(from, to)
    })
}

fn output_text(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

/// Runs a script with the programs of Postgres in its `PATH`.
fn run_script(script: &str, folder: &Path, settings: &[(&str, &str)]) -> Output {
    let programs = program("pg_dump");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", programs.parent().unwrap().display());
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", script]).current_dir(folder).env("PATH", path);
    shell.envs(settings.iter().copied()).output().unwrap()
}

/// The target lacks the tenant role, and its owner has another name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_is_restored_under_another_owner_with_the_commands_of_the_readme() {
    run(async |app| {
        let key = app.sign_up().await.api_key;
        let postgres = DedicatedPostgres::start(&[]);
        let roles = format!("create role other login createrole password '{PASSWORD}'");
        postgres.execute("postgres", &roles).await;
        postgres.execute("postgres", "create database restored owner other").await;
        let target = postgres.url("restored").replace("admin:", "other:");
        let source = app.database_settings()[0].1;
        let folder = tempfile::tempdir().unwrap();
        let lines = script(
            "### Back up and restore your own Postgres",
            &[
                ("\"$DATABASE_URL\"", "\"$HERE\""),
                ("\"$NEW_DATABASE_URL\"", "\"$THERE\""),
                ("target/release/tenantry", env!("CARGO_BIN_EXE_tenantry")),
            ],
        );
        let [_, peppers, secrets] = app.database_settings();
        let settings =
            [("HERE", source), ("THERE", &target), peppers, secrets, ("METRICS_ADDR", "off")];
        let done = run_script(&lines, folder.path(), &settings);
        assert!(done.status.success(), "{}", output_text(&done));
        assert!(
            output_text(&done).contains("row-level security was incomplete and has been restored"),
            "{}",
            output_text(&done)
        );
        let dir = WorkDir::new();
        let settings = [("DATABASE_URL", target.as_str()), peppers, secrets];
        let server = dir.start(&settings);
        assert_eq!(curl(&[&server.url("/health/ready")]).status, 200);
        assert_eq!(server.status_with(&key), 200);
        server.sign_up();
        let verified = dir.command(&settings).args(["audit", "verify"]).output().unwrap();
        assert!(verified.status.success(), "{}", output_text(&verified));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_prints_the_statements_that_an_administrator_must_run() {
    let postgres = DedicatedPostgres::start(&[]);
    let url = postgres.url("bare").replace("admin:", "plain:");
    postgres.execute("postgres", &format!("create role plain login password '{PASSWORD}'")).await;
    postgres.execute("postgres", "create database bare owner plain").await;
    let advice = "create role tenantry_tenant nologin; grant tenantry_tenant to plain";
    postgres.execute("postgres", advice).await;
    let dir = WorkDir::new();
    let settings = [("DATABASE_URL", &*url), ("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER)];
    let migrate = || dir.command(&settings).arg("migrate").output().unwrap();
    assert!(migrate().status.success(), "{}", output_text(&migrate()));
    // The database was restored to a cluster without the tenant role.
    let drop_role = "reassign owned by tenantry_tenant to admin; drop owned by tenantry_tenant;
                drop role tenantry_tenant";
    postgres.execute("bare", drop_role).await;
    let rejected = migrate();
    assert_eq!(rejected.status.code(), Some(1));
    assert!(output_text(&rejected).contains(advice), "{}", output_text(&rejected));
    postgres.execute("postgres", advice).await;
    let repaired = migrate();
    assert!(repaired.status.success(), "{}", output_text(&repaired));
    dir.start(&settings).sign_up();
}

#[test]
fn a_private_postgres_is_dumped_and_restored_with_the_commands_of_the_readme() {
    let dir = WorkDir::new();
    let server = dir.start(&[]);
    let key = server.sign_up();
    let binary = ("target/release/tenantry", env!("CARGO_BIN_EXE_tenantry"));
    let dump = script("### Back up the private Postgres", &[binary]);
    let done = run_script(&dump, dir.path(), &[]);
    assert!(done.status.success(), "{}", output_text(&done));
    let mode = dir.path().join("backup/tenantry.dump").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "only its owner may read a dump");
    let lost = server.sign_up();
    server.signal_and_wait("INT");
    wait_until("Postgres ends", || dir.postgres().is_none());

    let elsewhere = WorkDir::new();
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(dir.path().join("backup")).arg(elsewhere.path());
    assert!(copy.status().unwrap().success());
    let restore = script("### Restore the private Postgres", &[binary]);
    let done = run_script(&restore, elsewhere.path(), &[("METRICS_ADDR", "off")]);
    assert!(done.status.success(), "{}", output_text(&done));
    let server = elsewhere.start(&[]);
    assert_eq!(server.status_with(&key), 200);
    assert_eq!(server.status_with(&lost), 401);
    server.sign_up();
}

#[test]
fn a_newer_schema_is_rejected_unless_allow_newer_schema_is_on() {
    let dir = WorkDir::new();
    dir.start(&[]).signal_and_wait("INT");
    let newer = "insert into _sqlx_migrations select 9999, 'of a newer version', installed_on,
                 success, checksum, execution_time from _sqlx_migrations where version = 1";
    let mut psql = dir.command(&[]);
    let done = psql.args(["postgres", "psql", "-qc", newer]).output().unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
    let rejected = dir.command(&[]).output().unwrap();
    assert_eq!(rejected.status.code(), Some(1));
    assert!(output_text(&rejected).contains("ALLOW_NEWER_SCHEMA=on"), "{}", output_text(&rejected));
    let server = dir.start(&[("ALLOW_NEWER_SCHEMA", "on")]);
    assert_eq!(curl(&[&server.url("/health/ready")]).status, 200);
    let key = server.sign_up();
    assert_eq!(server.status_with(&key), 200);
}

/// An upgrade between major versions is tested by a script (`.ci/postgres-upgrade`): it needs two
/// installed versions.
#[test]
fn postgres_upgrade_fails_without_data_and_does_nothing_on_the_newest_version() {
    let dir = WorkDir::new();
    let upgrade = || dir.command(&[]).arg("postgres-upgrade").output().unwrap();
    let without = upgrade();
    assert_eq!(without.status.code(), Some(1));
    assert!(
        output_text(&without).contains("there is no private Postgres"),
        "{}",
        output_text(&without)
    );
    assert!(!dir.path().join(".tenantry").exists(), "nothing is created");
    let server = dir.start(&[]);
    let key = server.sign_up();
    let needless = upgrade();
    assert!(needless.status.success(), "{}", output_text(&needless));
    assert!(output_text(&needless).contains("or a newer one"), "{}", output_text(&needless));
    assert_eq!(server.status_with(&key), 200);
}
