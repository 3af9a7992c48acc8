//! Checks that plaintext secrets are neither in the database nor in the log.

use std::io::{self, Write};
use std::sync::{Mutex, Once};

use axum::response::Response;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use tenantry::http::shown_once::ShownSecrets;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static CAPTURE: Once = Once::new();

/// Where in the log of this process a test began. What is logged after that is the test's log, with
/// lines of the tests that run beside it.
#[derive(Clone, Copy)]
pub struct LogStart(usize);

impl LogStart {
    /// What was logged since then.
    pub fn log(self) -> String {
        String::from_utf8_lossy(&LOG.lock().expect("no panic")[self.0..]).into_owned()
    }
}

/// Captures the log of this process, in more detail than an operator would ask for. Returns its
/// current end.
pub fn capture_log() -> LogStart {
    CAPTURE.call_once(|| {
        let all = ["tenantry", "sqlx"].map(|target| (target, Level::TRACE));
        let filter = Targets::new().with_default(Level::INFO).with_targets(all);
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| LogCapture);
        tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    });
    LogStart(LOG.lock().expect("no panic").len())
}

struct LogCapture;

impl Write for LogCapture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The secrets that a response shows.
pub fn secrets_in(response: &Response) -> Vec<String> {
    let shown = response.extensions().get::<ShownSecrets>();
    let secrets = shown.iter().flat_map(|shown| shown.0.iter());
    secrets.map(|secret| secret.expose().to_owned()).collect()
}

/// The passwords and client secrets in a request body, except short ones and those that are an
/// address: these may appear elsewhere for another reason.
pub fn passwords_in(body: &Value) -> Vec<String> {
    let names = ["password", "newPassword", "currentPassword", "clientSecret"].into_iter();
    let secrets = names.filter_map(|name| body.get(name)?.as_str());
    secrets
        .filter(|password| password.len() >= 12 && !password.contains('@'))
        .map(str::to_owned)
        .collect()
}

/// Fails if a plaintext secret is in any row of any table, or in what was logged since the test
/// began.
pub async fn assert_no_plaintexts(db: &mut PgConnection, plaintexts: &[String], since: LogStart) {
    let mut haystack = all_rows(db).await;
    haystack.push(("the log".to_owned(), since.log()));
    for plaintext in plaintexts {
        let hex = hex(plaintext.as_bytes());
        for (place, text) in &haystack {
            let is_leaked = text.contains(plaintext) || text.contains(&hex);
            assert!(!is_leaked, "a plaintext secret is in {place}");
        }
    }
}

/// Bytes in hexadecimal, as the database writes them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Every row of every table as text, with the table's name.
async fn all_rows(db: &mut PgConnection) -> Vec<(String, String)> {
    let tables: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
            .fetch_all(&mut *db)
            .await
            .expect("tables");
    let mut rows = Vec::new();
    for table in tables {
        let sql = format!("select t::text from {table} t");
        let found: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *db).await.expect("rows");
        rows.extend(found.into_iter().map(|row| (table.clone(), row)));
    }
    rows
}
