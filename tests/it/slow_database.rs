//! A distant database: 300 ms round trip, with SCRAM, through a TCP relay that delays.

use std::time::Duration;

use sqlx::Connection;
use tenantry::repo::online_migrations;
use tokio::net::TcpListener;

use crate::support::dedicated_postgres::{DedicatedPostgres, PASSWORD};
use crate::support::relay::{RelayTarget, relay};
use crate::support::server::{WorkDir, curl};
use crate::support::waiting::wait_until;

const ONE_WAY: Duration = Duration::from_millis(150);
const PEPPER: &str = "p1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_300_ms_round_trip_with_scram_the_server_is_ready_and_signups_succeed() {
    let postgres = DedicatedPostgres::start(&[]);
    postgres.execute("postgres", "create database far").await;
    let mut db = postgres.connect("far").await;
    online_migrations::run(&mut db).await.unwrap();
    db.close().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    relay(listener, RelayTarget::Port(postgres.port()), ONE_WAY);

    let done = tokio::task::spawn_blocking(move || {
        let url = format!("postgres://admin:{PASSWORD}@127.0.0.1:{port}/far");
        let settings = [("DATABASE_URL", &*url), ("KEY_PEPPERS", PEPPER), ("JWT_SECRETS", PEPPER)];
        let work_dir = WorkDir::new();
        let server = work_dir.start(&settings);
        let ready = || curl(&[&server.url("/health/ready")]).status;
        wait_until("it is ready", || ready() == 200);
        // The first signup opens its connection and prepares each statement.
        wait_until("a signup succeeds", || {
            curl(&["-X", "POST", &server.url("/signup")]).status == 201
        });
        let keys: Vec<_> = (0..4).map(|_| server.sign_up()).collect();
        for key in &keys {
            // The pool checks connections that were idle for seconds.
            assert_eq!(ready(), 200, "{}", server.log());
            assert_eq!(server.status_with(key), 200);
        }
    });
    done.await.unwrap();
}
