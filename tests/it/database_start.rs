//! What a server does about its database at start: it waits for one that is not there yet, refuses
//! one that it could not work with, and says whether the way there is private.

use std::net::TcpListener as StdListener;
use std::process::Output;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use crate::support::database::TestDatabase;
use crate::support::dedicated_postgres::{DedicatedPostgres, PASSWORD};
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

/// An address of this machine that nobody listens on.
fn free_address() -> std::net::SocketAddr {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn execute_as_admin(sql: &str) {
    let mut db = TestDatabase::connect_as_superuser("tenantry").await;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
}

/// Which database a URL would be of, were it not there yet.
fn other_database(app: &TestApp, name: &str) -> (String, String) {
    let (direct, name) = (app.database_settings()[0].1, format!("{name}_{}", std::process::id()));
    let options = PgConnectOptions::from_str(direct).unwrap();
    (direct.replace(options.get_database().unwrap(), &name), name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_there_yet_is_waited_for() {
    run(async |app| {
        let (direct, name) = other_database(app, "waited_for");
        let options = PgConnectOptions::from_str(&direct).unwrap();
        let address = free_address();
        let url = format!("postgres://test_owner@{address}/{name}?sslmode=disable");
        let place = WorkDir::new();
        let log = place.path().join("log");
        let starting = spawn_blocking(move || {
            let server = place.start(&settings(&url));
            server.sign_up();
            server.signal_and_wait("INT")
        });
        // Nobody listens; then somebody does and there is no such database; then there is.
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
fn a_database_that_does_not_come_is_waited_for_no_longer_than_set() {
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
async fn a_database_that_could_not_hold_every_text_is_refused_with_what_to_do() {
    run(async |app| {
        for (at, (making, problem)) in [
            ("encoding 'LATIN1' locale 'C'", "encoding is LATIN1"),
            ("encoding 'SQL_ASCII' locale 'C'", "encoding is SQL_ASCII"),
            ("encoding 'UTF8' locale_provider icu icu_locale 'tr' locale 'C'", "collation"),
        ]
        .into_iter()
        .enumerate()
        {
            let (url, name) = other_database(app, &format!("unfit_{at}"));
            let sql =
                format!("create database {name} template template0 owner test_owner {making}");
            execute_as_admin(&sql).await;
            for command in ["serve", "doctor"] {
                let done = WorkDir::new().command(&settings(&url)).arg(command).output().unwrap();
                assert_eq!(done.status.code(), Some(1), "{making}, {command}");
                let told = output_text(&done);
                assert!(told.contains(problem) && told.contains("template0"), "{command}: {told}");
            }
            execute_as_admin(&format!("drop database {name}")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_role_change_nothing_that_the_code_relies_on() {
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
            let place = WorkDir::new();
            let server = place.start(&settings(&url));
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
async fn the_log_and_the_doctor_say_whether_the_connection_is_encrypted() {
    if find_program("openssl").is_none() {
        return;
    }
    let postgres = DedicatedPostgres::start(&["ssl=on"]);
    postgres.execute("postgres", "create database encrypted").await;
    let url = postgres.url("encrypted");
    let port = postgres.port();
    spawn_blocking(move || {
        let place = WorkDir::new();
        for (parameters, logged, doctor) in [
            ("", "certificate not verified", "warning   encryption"),
            ("?sslmode=require", "certificate not verified", "warning   encryption"),
            ("?sslmode=disable", "stays on this machine", "ok        encryption"),
        ] {
            let url = format!("{url}{parameters}");
            let server = place.start(&settings(&url));
            assert!(server.log().contains(logged), "{parameters}: {}", server.log());
            server.signal_and_wait("INT");
            let told = output_text(&place.command(&settings(&url)).arg("doctor").output().unwrap());
            assert!(told.contains(doctor), "{parameters}: {told}");
        }
        // Without TLS at the other end, what was asked for is not given up in silence.
        let wrong =
            format!("postgres://admin:{PASSWORD}@127.0.0.1:{port}/encrypted?ssl_mode=require");
        let done = place.command(&settings(&wrong)).output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        let message = "DATABASE_URL must not have the unknown parameter `ssl_mode`";
        assert!(output_text(&done).contains(message));
    })
    .await
    .unwrap();
}
