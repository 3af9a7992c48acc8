//! A server and its database at start: the server waits for a database that does not exist yet,
//! rejects an unsuitable one, and reports whether the connection is encrypted.

use std::process::Output;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use crate::support::database::TestDatabase;
use crate::support::dedicated_postgres::{DedicatedPostgres, PASSWORD};
use crate::support::ports::free_address;
use crate::support::relay::{RelayTarget, relay};
use crate::support::server::WorkDir;
use crate::support::tools::find_program;
use crate::support::waiting::wait_until;
use crate::support::{TestApp, run};

const PEPPER: &str = "p1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn settings(url: &str) -> [(&str, &str); 3] {
    [("DATABASE_URL", url), ("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER)]
}

fn output_text(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

async fn execute_as_admin(sql: &str) {
    let mut db = TestDatabase::connect_as_superuser("tenantry").await;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
}

/// The URL and the name of a database that does not exist yet.
fn other_database(app: &TestApp, name: &str) -> (String, String) {
    let (direct, name) = (app.database_settings()[0].1, format!("{name}_{}", std::process::id()));
    let options = PgConnectOptions::from_str(direct).unwrap();
    (direct.replace(options.get_database().unwrap(), &name), name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_waits_for_a_database_that_does_not_exist_yet() {
    run(async |app| {
        let (direct, name) = other_database(app, "waited_for");
        let options = PgConnectOptions::from_str(&direct).unwrap();
        let address = free_address();
        let url = format!("postgres://test_owner@{address}/{name}?sslmode=disable");
        let dir = WorkDir::new();
        let log = dir.path().join("log");
        let starting = spawn_blocking(move || {
            let server = dir.start(&settings(&url));
            server.sign_up();
            server.signal_and_wait("INT")
        });
        // First nothing listens, then the database does not exist, then it does.
        let logged = |text: &str| std::fs::read_to_string(&log).is_ok_and(|it| it.contains(text));
        let wait = |text: &'static str| wait_until(text, || logged(text));
        tokio::task::block_in_place(|| wait("waiting for the database"));
        let listener = TcpListener::bind(address).await.unwrap();
        let socket = options.get_socket().unwrap().join(format!(".s.PGSQL.{}", options.get_port()));
        relay(listener, RelayTarget::Socket(socket), Duration::ZERO);
        tokio::task::block_in_place(|| wait("does not exist"));
        execute_as_admin(&format!("create database {name} owner test_owner")).await;
        assert!(starting.await.unwrap().success());
        execute_as_admin(&format!("drop database {name} with (force)")).await;
    })
    .await;
}

#[test]
fn a_server_waits_for_its_database_no_longer_than_configured() {
    let url = format!("postgres://somebody:hunter2@{}/x", free_address());
    let [url, pepper, secret] = settings(&url);
    let started = Instant::now();
    let wait = ("DATABASE_WAIT_SECONDS", "1");
    let done = WorkDir::new().command(&[url, pepper, secret, wait]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(output_text(&done).contains("check DATABASE_URL"), "{}", output_text(&done));
    assert!(!output_text(&done).contains("hunter2"));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_an_unsuitable_encoding_or_collation_is_rejected_with_advice() {
    run(async |app| {
        for (at, (options, problem)) in [
            ("encoding 'LATIN1' locale 'C'", "encoding is LATIN1"),
            ("encoding 'SQL_ASCII' locale 'C'", "encoding is SQL_ASCII"),
            ("encoding 'UTF8' locale_provider icu icu_locale 'tr' locale 'C'", "collation"),
        ]
        .into_iter()
        .enumerate()
        {
            let (url, name) = other_database(app, &format!("unfit_{at}"));
            let sql =
                format!("create database {name} template template0 owner test_owner {options}");
            execute_as_admin(&sql).await;
            for command in ["serve", "doctor"] {
                let done = WorkDir::new().command(&settings(&url)).arg(command).output().unwrap();
                assert_eq!(done.status.code(), Some(1), "{options}, {command}");
                let output = output_text(&done);
                assert!(
                    output.contains(problem) && output.contains("template0"),
                    "{command}: {output}"
                );
            }
            execute_as_admin(&format!("drop database {name}")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn default_settings_of_the_database_do_not_affect_the_server() {
    run(async |app| {
        let (url, name) = other_database(app, "odd_settings");
        execute_as_admin(&format!("create database {name} owner test_owner")).await;
        for (setting, value) in [
            ("default_transaction_isolation", "'serializable'"),
            ("row_security", "off"),
            ("standard_conforming_strings", "off"),
            ("transform_null_equals", "on"),
            ("lock_timeout", "'1ms'"),
        ] {
            execute_as_admin(&format!("alter database {name} set {setting} = {value}")).await;
        }
        let done = spawn_blocking(move || {
            let dir = WorkDir::new();
            let server = dir.start(&settings(&url));
            let key = server.sign_up();
            assert_eq!(server.status_with(&key), 200);
            server.signal_and_wait("INT")
        });
        assert!(done.await.unwrap().success());
        execute_as_admin(&format!("drop database {name} with (force)")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_and_the_doctor_report_whether_the_connection_is_encrypted() {
    if find_program("openssl").is_none() {
        return;
    }
    let postgres = DedicatedPostgres::start(&["ssl=on"]);
    postgres.execute("postgres", "create database encrypted").await;
    let url = postgres.url("encrypted");
    let port = postgres.port();
    spawn_blocking(move || {
        let dir = WorkDir::new();
        for (parameters, logged, doctor) in [
            ("", "certificate not verified", "warning   encryption"),
            ("?sslmode=require", "certificate not verified", "warning   encryption"),
            ("?sslmode=disable", "stays on this machine", "ok        encryption"),
        ] {
            let url = format!("{url}{parameters}");
            let server = dir.start(&settings(&url));
            assert!(server.log().contains(logged), "{parameters}: {}", server.log());
            server.signal_and_wait("INT");
            let output = output_text(&dir.command(&settings(&url)).arg("doctor").output().unwrap());
            assert!(output.contains(doctor), "{parameters}: {output}");
        }
        // A misspelled parameter is rejected: if it were ignored, TLS would not be required.
        let wrong =
            format!("postgres://admin:{PASSWORD}@127.0.0.1:{port}/encrypted?ssl_mode=require");
        let done = dir.command(&settings(&wrong)).output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        let message = "DATABASE_URL must not have the unknown parameter `ssl_mode`";
        assert!(output_text(&done).contains(message));
    })
    .await
    .unwrap();
}
