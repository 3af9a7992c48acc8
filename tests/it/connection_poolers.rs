//! A real `PgBouncer` before the database: in session mode everything works and each connection
//! keeps its settings; in the other modes a server does not start.

use std::process::Output;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use tenantry::app::database::Database;

use crate::support::pgbouncer::PgBouncer;
use crate::support::server::WorkDir;
use crate::support::{TestApp, run};

const DROPS_STARTUP_PARAMETERS: &str = "ignore_startup_parameters = extra_float_digits, options";

/// The settings with which the binary connects through the pooler.
fn settings<'a>(app: &'a TestApp, url: &'a str) -> [(&'a str, &'a str); 3] {
    let [_, peppers, secrets] = app.database_settings();
    [("DATABASE_URL", url), peppers, secrets]
}

fn output_text(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_not_start_behind_a_pooler_in_transaction_or_statement_mode() {
    run(async |app| {
        let direct = app.database_settings()[0].1;
        for (mode, lines) in [
            ("transaction", ""),
            ("transaction", DROPS_STARTUP_PARAMETERS),
            ("transaction", "server_round_robin = 1\nmin_pool_size = 3"),
            ("statement", ""),
        ] {
            let Some(pooler) = PgBouncer::start(direct, mode, lines) else { return };
            let (dir, url) = (WorkDir::new(), pooler.url(direct));
            for command in ["serve", "migrate", "doctor"] {
                let done = dir.command(&settings(app, &url)).arg(command).output().unwrap();
                let output = output_text(&done);
                assert_eq!(done.status.code(), Some(1), "{mode}, {lines}, {command}: {output}");
                assert!(
                    output.contains("pool_mode = session"),
                    "{mode}, {lines}, {command}: {output}"
                );
                // The doctor stops at the pooler: "definitions" is a later check.
                assert!(!output.contains("definitions"), "{mode}, {lines}, {command}: {output}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_rejects_a_connection_is_not_reported_as_in_transaction_mode() {
    run(async |app| {
        let direct = app.database_settings()[0].1;
        let Some(pooler) = PgBouncer::start(direct, "session", "max_client_conn = 1") else {
            return;
        };
        let url = pooler.url(direct);
        let mut settings = settings(app, &url).to_vec();
        settings.push(("DATABASE_WAIT_SECONDS", "0"));
        let done = WorkDir::new().command(&settings).arg("migrate").output().unwrap();
        let output = output_text(&done);
        assert_eq!(done.status.code(), Some(1), "{output}");
        assert!(output.contains("no more connections allowed"), "{output}");
        assert!(!output.contains("pool_mode"), "{output}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_works_behind_a_pooler_in_session_mode_and_reports_it() {
    run(async |app| {
        let direct = app.database_settings()[0].1;
        for lines in ["stats_users = test_owner", DROPS_STARTUP_PARAMETERS] {
            let Some(pooler) = PgBouncer::start(direct, "session", lines) else { return };
            let (dir, url) = (WorkDir::new(), pooler.url(direct));
            let settings = settings(app, &url);
            let server = dir.start(&settings);
            let keys: Vec<_> = (0..20).map(|_| server.sign_up()).collect();
            assert!(keys.iter().all(|key| server.status_with(key) == 200));
            assert!(server.log().contains("PgBouncer"), "{}", server.log());
            let output = output_text(&dir.command(&settings).arg("doctor").output().unwrap());
            let line = output.lines().find(|line| line.contains("  pooler ")).unwrap();
            assert!(line.starts_with("ok"), "{output}");
            assert!(line.contains("PgBouncer") && line.ends_with("in session mode"), "{output}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_connection_through_a_pooler_has_its_timeouts_and_planner_settings() {
    run(async |app| {
        let direct = app.database_settings()[0].1;
        let Some(pooler) = PgBouncer::start(direct, "session", DROPS_STARTUP_PARAMETERS) else {
            return;
        };
        let options = PgConnectOptions::from_str(&pooler.url(direct)).unwrap();
        let requests = Database::open(options.clone(), 1, "test").unwrap();
        let lookups = tenantry::repo::connection_settings::LOOKUPS;
        let lookups = Database::open_with(options, lookups, 1, "test").unwrap();
        let show = async |db: &Database, sql: &'static str| {
            db.run(async |db| Ok(sqlx::query_scalar::<_, String>(sql).fetch_one(db).await?)).await
        };
        for (setting, expected) in [
            ("show statement_timeout", "5s"),
            ("show lock_timeout", "1s"),
            ("show idle_in_transaction_session_timeout", "10s"),
        ] {
            assert_eq!(show(&requests, setting).await.unwrap(), expected);
            assert_eq!(show(&lookups, setting).await.unwrap(), expected);
        }
        assert_eq!(show(&lookups, "show enable_seqscan").await.unwrap(), "off");
        assert_eq!(show(&requests, "show enable_seqscan").await.unwrap(), "on");
        requests.close();
        lookups.close();
    })
    .await;
}
