//! Provisioning on a server that is killed at a chosen point: a repeated request with the same
//! idempotency key leaves one organization, and at most one key is ever returned.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::app::master_key;
use crate::support::locks::TableLock;
use crate::support::server::{Server, WorkDir};

/// The tables that the request writes, in the order of their first writes.
const WRITTEN: [&str; 5] =
    ["organizations", "users", "audit_events", "api_keys", "idempotency_keys"];

/// The request of a worker, as a curl command.
fn create_command(server: &Server, id: &str) -> Command {
    let body = format!(
        r#"{{"org_id":"{id}","name":"Acme","domain":"general","tier":"starter",
             "allowed_origins":"https://acme.example.com"}}"#
    );
    let mut command = Command::new("curl");
    command.args(["-s", "-X", "POST", &server.url("/v1/admin/org/create"), "-d", &body]);
    command.args(["-H", &format!("X-API-Key: {}", master_key("ORG_CREATE"))]);
    command.args(["-H", &format!("Idempotency-Key: evt_{id}")]);
    command.args(["-H", "Content-Type: application/json"]).stdout(Stdio::piped());
    command
}

/// The response's body; null if there was no response.
fn parse_response(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// A server that is killed and started again, with its Postgres.
struct CrashTest {
    work_dir: WorkDir,
    server: Server,
}

impl CrashTest {
    fn start() -> Self {
        let work_dir = WorkDir::new();
        let server = start(&work_dir);
        Self { work_dir, server }
    }

    /// Sends a request, kills the server when the request waits for the lock, and releases the
    /// lock. Returns the response and the statement that waited.
    async fn kill_at(&mut self, mut lock: TableLock, id: &str) -> (Value, String) {
        let worker = create_command(&self.server, id).spawn().unwrap();
        let statement = lock.blocked_statement().await;
        self.server.kill();
        let first = parse_response(&worker.wait_with_output().unwrap());
        lock.release().await;
        self.server = start(&self.work_dir);
        (first, statement)
    }

    async fn count(&self, id: &str) -> i64 {
        let count = sqlx::query_scalar("select count(*) from organizations where handle = $1");
        count.bind(id).fetch_one(&mut self.work_dir.connect().await).await.unwrap()
    }

    /// Repeats the request twice. There is one organization then, and at most one of the requests
    /// returned a key, which works. Returns the second response.
    async fn repeat(&self, id: &str, first: &Value) -> Value {
        let second = parse_response(&create_command(&self.server, id).output().unwrap());
        assert_eq!(second["org_id"], id, "{second}");
        let keys: Vec<_> =
            [first, &second].iter().filter_map(|it| it["api_key"].as_str()).collect();
        assert!(keys.len() <= 1, "two keys were returned for {id}");
        for key in keys {
            assert_eq!(self.server.status_with(key), 200);
        }
        let third = parse_response(&create_command(&self.server, id).output().unwrap());
        assert_eq!(third["already_provisioned"], true);
        assert_eq!(third["api_key"], Value::Null);
        assert_eq!(third["prefix"], second["prefix"]);
        assert_eq!(self.count(id).await, 1);
        second
    }
}

fn start(work_dir: &WorkDir) -> Server {
    work_dir.start(&[("MASTER_ADMIN_KEY_ORG_CREATE", &master_key("ORG_CREATE"))])
}

#[tokio::test]
async fn after_a_kill_before_the_commit_a_repeated_request_creates_the_organization() {
    let mut test = CrashTest::start();
    for table in WRITTEN {
        let id = format!("acme-{}", table.replace('_', "-"));
        let lock = TableLock::before_write(test.work_dir.connect().await, table).await;
        let (first, statement) = test.kill_at(lock, &id).await;
        assert!(statement.contains(table), "{table}: {statement}");
        assert_eq!(first, Value::Null, "{table}");
        assert_eq!(test.count(&id).await, 0, "{table}");
        let second = test.repeat(&id, &first).await;
        assert!(second["api_key"].is_string(), "{table}: {second}");
        assert_eq!(second["already_provisioned"], Value::Null, "{table}");
    }
}

#[tokio::test]
async fn after_a_kill_between_commit_and_response_no_request_returns_the_key() {
    let mut test = CrashTest::start();
    let lock = TableLock::before_commit(test.work_dir.connect().await, "organizations").await;
    let (first, statement) = test.kill_at(lock, "acme").await;
    assert_eq!(statement, "COMMIT");
    assert_eq!(first, Value::Null);
    assert_eq!(test.count("acme").await, 1);
    // The change was committed and its response lost: a rotation gives a new key.
    let second = test.repeat("acme", &first).await;
    assert_eq!(second["already_provisioned"], true);
    assert_eq!(second["api_key"], Value::Null);
}

#[tokio::test]
async fn after_a_kill_that_follows_the_response_its_key_works_and_is_not_returned_again() {
    let mut test = CrashTest::start();
    let first = parse_response(&create_command(&test.server, "acme").output().unwrap());
    assert!(first["api_key"].is_string(), "{first}");
    test.server.kill();
    test.server = start(&test.work_dir);
    let second = test.repeat("acme", &first).await;
    assert_eq!(second["already_provisioned"], true);
    assert_eq!(second["prefix"], first["prefix"]);
}
