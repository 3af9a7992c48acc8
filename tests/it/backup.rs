//! Backups, by the lines of the README: dumped by an owner for whom row-level security holds,
//! restored where the role of tenants, its privileges and policies are missing, and repaired.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::dedicated_postgres::{DedicatedPostgres, PASSWORD, program};
use crate::support::run;
use crate::support::server::{WorkDir, curl};
use crate::support::waiting::wait_until;

const PEPPER: &str = "p2:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// The script of the README's section, with the first of these in the place of the second.
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

/// Runs a script with the programs of Postgres at hand.
fn run_script(script: &str, folder: &Path, settings: &[(&str, &str)]) -> Output {
    let programs = program("pg_dump");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", programs.parent().unwrap().display());
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", script]).current_dir(folder).env("PATH", path);
    shell.envs(settings.iter().copied()).output().unwrap()
}

/// The role of tenants is missing there, and the owner has another name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_owner_dumps_is_restored_under_another_with_the_lines_of_the_readme() {
    run(async |app| {
        let key = app.sign_up().await.api_key;
        let postgres = DedicatedPostgres::start(&[]);
        let roles = format!("create role other login createrole password '{PASSWORD}'");
        postgres.execute("postgres", &roles).await;
        postgres.execute("postgres", "create database restored owner other").await;
        let there = postgres.url("restored").replace("admin:", "other:");
        let here = app.database_settings()[0].1;
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
            [("HERE", here), ("THERE", &there), peppers, secrets, ("METRICS_ADDR", "off")];
        let done = run_script(&lines, folder.path(), &settings);
        assert!(done.status.success(), "{}", output_text(&done));
        assert!(
            output_text(&done).contains("row-level security was incomplete and has been restored"),
            "{}",
            output_text(&done)
        );
        let place = WorkDir::new();
        let settings = [("DATABASE_URL", there.as_str()), peppers, secrets];
        let server = place.start(&settings);
        assert_eq!(curl(&[&server.url("/health/ready")]).status, 200);
        assert_eq!(server.status_with(&key), 200);
        server.sign_up();
        let verified = place.command(&settings).args(["audit", "verify"]).output().unwrap();
        assert!(verified.status.success(), "{}", output_text(&verified));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_an_administrator_is_needed_migrate_says_what_they_have_to_run() {
    let postgres = DedicatedPostgres::start(&[]);
    let url = postgres.url("bare").replace("admin:", "plain:");
    postgres.execute("postgres", &format!("create role plain login password '{PASSWORD}'")).await;
    postgres.execute("postgres", "create database bare owner plain").await;
    let advice = "create role tenantry_tenant nologin; grant tenantry_tenant to plain";
    postgres.execute("postgres", advice).await;
    let place = WorkDir::new();
    let settings = [("DATABASE_URL", &*url), ("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER)];
    let migrate = || place.command(&settings).arg("migrate").output().unwrap();
    assert!(migrate().status.success(), "{}", output_text(&migrate()));
    // As in a cluster that the database was restored to without its role.
    let gone = "reassign owned by tenantry_tenant to admin; drop owned by tenantry_tenant;
                drop role tenantry_tenant";
    postgres.execute("bare", gone).await;
    let refused = migrate();
    assert_eq!(refused.status.code(), Some(1));
    assert!(output_text(&refused).contains(advice), "{}", output_text(&refused));
    postgres.execute("postgres", advice).await;
    let repaired = migrate();
    assert!(repaired.status.success(), "{}", output_text(&repaired));
    place.start(&settings).sign_up();
}

#[test]
fn a_private_postgres_is_dumped_and_restored_with_the_lines_of_the_readme() {
    let place = WorkDir::new();
    let server = place.start(&[]);
    let key = server.sign_up();
    let binary = ("target/release/tenantry", env!("CARGO_BIN_EXE_tenantry"));
    let dump = script("### Back up the private Postgres", &[binary]);
    let done = run_script(&dump, place.path(), &[]);
    assert!(done.status.success(), "{}", output_text(&done));
    let mode = place.path().join("backup/tenantry.dump").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "a dump is nobody else's to read");
    let lost = server.sign_up();
    server.signal_and_wait("INT");
    wait_until("Postgres ends", || place.postgres().is_none());

    let elsewhere = WorkDir::new();
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(place.path().join("backup")).arg(elsewhere.path());
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
fn a_schema_of_a_newer_version_is_refused_and_worked_with_where_that_is_allowed() {
    let place = WorkDir::new();
    place.start(&[]).signal_and_wait("INT");
    let newer = "insert into _sqlx_migrations select 9999, 'of a newer version', installed_on,
                 success, checksum, execution_time from _sqlx_migrations where version = 1";
    let mut psql = place.command(&[]);
    let done = psql.args(["postgres", "psql", "-qc", newer]).output().unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
    let refused = place.command(&[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(output_text(&refused).contains("ALLOW_NEWER_SCHEMA=on"), "{}", output_text(&refused));
    let server = place.start(&[("ALLOW_NEWER_SCHEMA", "on")]);
    assert_eq!(curl(&[&server.url("/health/ready")]).status, 200);
    let key = server.sign_up();
    assert_eq!(server.status_with(&key), 200);
}

/// Copying to another major version is a script (`.ci/postgres-upgrade`): it needs two of them.
#[test]
fn an_upgrade_of_the_private_postgres_needs_data_and_a_newer_postgres() {
    let place = WorkDir::new();
    let upgrade = || place.command(&[]).arg("postgres-upgrade").output().unwrap();
    let without = upgrade();
    assert_eq!(without.status.code(), Some(1));
    assert!(
        output_text(&without).contains("there is no private Postgres"),
        "{}",
        output_text(&without)
    );
    assert!(!place.path().join(".tenantry").exists(), "nothing is made");
    let server = place.start(&[]);
    let key = server.sign_up();
    let needless = upgrade();
    assert!(needless.status.success(), "{}", output_text(&needless));
    assert!(output_text(&needless).contains("newest"), "{}", output_text(&needless));
    assert_eq!(server.status_with(&key), 200);
}
