//! `GET /v1/verify/revocations`: no entry is skipped, and a reader may wait for the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Connection;
use tenantry::domain::retention::sweep;
use tenantry::model::revocation::RevocationCursor;

use crate::support::client::TestClient;
use crate::support::server::{WorkDir, curl};
use crate::support::waiting::{wait_until, wait_until_async};
use crate::support::{TestApp, run};

const PATH: &str = "/v1/verify/revocations";

/// A verifier that follows the list with its cursor.
pub struct Reader {
    client: TestClient,
    cursor: String,
}

impl Reader {
    /// Begins at the end of the list.
    pub async fn start(app: &TestApp) -> Self {
        let client = app.verifier();
        let list = client.get(PATH).await.assert_status(200).body;
        assert_eq!(list["data"], json!([]));
        Self { client, cursor: list["cursor"].as_str().unwrap().to_owned() }
    }

    /// The entries since the last read.
    pub async fn read(&mut self) -> Vec<Value> {
        self.read_within(0).await
    }

    /// The entries since the last read; waits at most `seconds` for the first one.
    async fn read_within(&mut self, seconds: u32) -> Vec<Value> {
        let list = self.client.get(&path(&self.cursor, seconds)).await.assert_status(200).body;
        assert_eq!(list["object"], "list");
        list["cursor"].as_str().unwrap().clone_into(&mut self.cursor);
        list["data"].as_array().unwrap().clone()
    }

    /// The types of the entries since the last read.
    pub async fn events(&mut self) -> Vec<String> {
        let entries = self.read().await;
        entries.iter().map(|entry| text(entry, "type")).collect()
    }

    /// The type, the organization and the key of each entry since the last read, sorted as
    /// text.
    pub async fn sorted(&mut self) -> Vec<String> {
        let entries = self.read().await;
        let fields = ["type", "organization_id", "key_id"];
        let line = |entry| fields.map(|field| text(entry, field)).join(" ");
        let mut lines: Vec<_> = entries.iter().map(line).collect();
        lines.sort();
        lines
    }
}

fn text(entry: &Value, field: &str) -> String {
    entry[field].as_str().unwrap_or_default().to_owned()
}

fn path(cursor: &str, seconds: u32) -> String {
    format!("{PATH}?after={cursor}&wait={seconds}")
}

#[tokio::test]
async fn a_cursor_from_before_a_crash_has_expired_and_a_new_one_stays_valid() {
    run(async |app| {
        let before = Reader::start(app).await;
        // As recovery after a crash does.
        app.execute("truncate database_epochs").await;
        let mut after = Reader::start(app).await;
        app.verifier().get(&path(&before.cursor, 0)).await.assert_status(410);
        let acme = app.sign_up().await;
        app.verifier().post("/v1/verify", json!({ "key": acme.api_key })).await.assert_status(200);
        assert!(after.events().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn entries_of_a_transaction_that_commits_late_are_not_skipped() {
    run(async |app| {
        let keys = [app.sign_up().await, app.sign_up().await, app.sign_up().await];
        let mut reader = Reader::start(app).await;
        let (mut early, mut late) = (app.connect().await, app.connect().await);
        let revoke = "update api_keys set revoked_at = now(), name_held = false
                      where organization_id = (select id from organizations where handle = $1)";
        let mut first = early.begin().await.unwrap();
        sqlx::query(revoke).bind(&keys[0].org_id).execute(&mut *first).await.unwrap();
        let mut second = late.begin().await.unwrap();
        sqlx::query(revoke).bind(&keys[1].org_id).execute(&mut *second).await.unwrap();
        assert!(reader.read().await.is_empty(), "not committed");
        second.commit().await.unwrap();
        // Another open transaction delays no entry of a committed one.
        assert!(reader.sorted().await[0].ends_with(&keys[1].key_id));
        let direct = app.key(&keys[2].api_key);
        let own = format!("/v1/organization/api-keys/{}", keys[2].key_id);
        direct.delete(&own).await.assert_status(200);
        assert!(reader.sorted().await[0].ends_with(&keys[2].key_id));
        first.commit().await.unwrap();
        let found = reader.sorted().await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(&keys[0].key_id));
        assert!(reader.read().await.is_empty());
    })
    .await;
}

/// Writes this many entries, in one transaction.
async fn write_entries(app: &TestApp, count: i32) {
    let insert = "insert into revocations (organization_id, key_id, type)
                  select id, gen_random_uuid(), 'key.revoked'
                  from organizations, generate_series(1, $1) where handle = 'system'";
    sqlx::query(insert).bind(count).execute(&mut app.connect().await).await.unwrap();
}

#[tokio::test]
async fn a_long_list_is_read_in_pages_of_1000_even_if_one_transaction_wrote_it() {
    run(async |app| {
        let mut reader = Reader::start(app).await;
        let mut open = app.connect().await;
        let mut late = open.begin().await.unwrap();
        let insert = "insert into revocations (organization_id, key_id, type)
                      select id, gen_random_uuid(), 'key.disabled' from organizations";
        sqlx::query(insert).execute(&mut *late).await.unwrap();
        write_entries(app, 2_100).await;
        write_entries(app, 10).await;
        let (mut pages, mut seen) = (Vec::new(), std::collections::HashSet::new());
        loop {
            let page = reader.read().await;
            if page.is_empty() {
                break;
            }
            seen.extend(page.iter().map(|entry| text(entry, "key_id")));
            pages.push(page.len());
        }
        assert_eq!(pages, [1_000, 1_000, 110]);
        assert_eq!(seen.len(), 2_110, "an entry was repeated");
        late.commit().await.unwrap();
        assert_eq!(reader.events().await, ["key.disabled"]);
    })
    .await;
}

#[tokio::test]
async fn a_waiting_reader_is_answered_when_another_server_revokes_a_key() {
    run(async |app| {
        let acme = app.sign_up().await;
        let replica = app.replica();
        let mut reader = Reader::start(app).await;
        let waiting = async {
            let started = Instant::now();
            (reader.read_within(30).await, started.elapsed())
        };
        let revoking = async {
            let is_waiting = async || app.app.revocation_feed.waiting() == 1;
            wait_until_async("a reader waits", is_waiting).await;
            // It has neither a connection nor a permit meanwhile.
            let is_idle = async || app.app.verifications_in_flight.total() == 0;
            wait_until_async("no permit is in use", is_idle).await;
            for pool in app.app.pools() {
                let is_idle = async || pool.connections().0 == pool.connections().1;
                wait_until_async("no connection is in use", is_idle).await;
            }
            let own = format!("/v1/organization/api-keys/{}", acme.key_id);
            replica.key(&acme.api_key).delete(&own).await.assert_status(200);
        };
        let ((entries, elapsed), ()) = tokio::join!(waiting, revoking);
        assert_eq!(entries.len(), 1, "{entries:?}");
        assert_eq!(text(&entries[0], "key_id"), acme.key_id);
        assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
        assert_eq!(app.app.revocation_feed.waiting(), 0);
        replica.close();
    })
    .await;
}

#[tokio::test]
async fn a_wait_ends_with_an_empty_list_and_is_not_cut_off_by_the_deadline_of_requests() {
    crate::support::with_settings(&[("REQUEST_TIMEOUT_SECONDS", "1")])
        .run(async |app| {
            let mut reader = Reader::start(app).await;
            let started = Instant::now();
            assert!(reader.read_within(2).await.is_empty());
            assert!(started.elapsed() >= Duration::from_secs(2));
            assert!(reader.read().await.is_empty());
        })
        .await;
}

#[tokio::test]
async fn at_most_64_readers_wait_and_a_reader_that_gives_up_no_longer_counts() {
    run(async |app| {
        let reader = Reader::start(app).await;
        let poll = Arc::new(path(&reader.cursor, 30));
        let polls = (0..64).map(|_| {
            let (client, poll) = (reader.client.clone(), Arc::clone(&poll));
            tokio::spawn(async move { client.get(&poll).await.assert_status(200).body })
        });
        let polls: Vec<_> = polls.collect();
        let waiting = |count| async move || app.app.revocation_feed.waiting() == count;
        wait_until_async("64 readers wait", waiting(64)).await;
        let at_once = reader.client.get(&poll).await.assert_status(200).body;
        assert_eq!(at_once["data"], json!([]));
        polls[0].abort();
        wait_until_async("63 readers wait", waiting(63)).await;
        write_entries(app, 1).await;
        for poll in polls.into_iter().skip(1) {
            assert_eq!(poll.await.unwrap()["data"].as_array().unwrap().len(), 1);
        }
    })
    .await;
}

#[test]
fn a_server_that_stops_answers_waiting_readers_at_once_with_an_empty_list() {
    let dir = WorkDir::new();
    let socket = dir.path().join("verify.sock");
    let server = dir.start(&[("VERIFY_ADDR", &format!("unix:{}", socket.display()))]);
    let socket = socket.to_str().unwrap().to_owned();
    let ask = move |query: &str| {
        let url = format!("http://tenantry{PATH}{query}");
        curl(&["--unix-socket", &socket, &url])
    };
    let cursor = text(&ask("").body, "cursor");
    let started = Instant::now();
    let poll = std::thread::spawn(move || ask(&format!("?after={cursor}&wait=30")));
    wait_until("a reader waits", || server.metrics().contains("\nrevocation_polls_waiting 1\n"));
    assert!(server.signal_and_wait("INT").success());
    let response = poll.join().unwrap();
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.body["data"], json!([]));
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
}

#[tokio::test]
async fn invalid_parameters_are_named() {
    run(async |app| {
        let reader = Reader::start(app).await;
        for wait in ["-1", "31", "1.5", "x", "1e1"] {
            let path = format!("{PATH}?after=x&wait={wait}");
            let rejected = reader.client.get(&path).await.assert_error(400, "validation_error");
            assert_eq!(rejected.invalid_fields(), ["after", "wait"], "{wait}");
        }
        let mut flipped = reader.cursor.clone();
        let last = flipped.pop().unwrap();
        flipped.push(if last == 'A' { 'E' } else { 'A' });
        let cut = &reader.cursor[4..];
        for cursor in ["x", &flipped, cut, &reader.cursor.to_uppercase(), "0"] {
            let rejected = reader.client.get(&path(cursor, 0)).await;
            let rejected = rejected.assert_error(400, "validation_error");
            assert_eq!(rejected.invalid_fields(), ["after"], "{cursor}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_cursor_from_another_database_or_from_before_a_restore_is_gone() {
    run(async |app| {
        let reader = Reader::start(app).await;
        run(async |other| {
            let gone = other.verifier().get(&path(&reader.cursor, 30)).await;
            gone.assert_error(410, "gone");
        })
        .await;
        // As `pg_restore --clean` does.
        let restore = "create table restored (like revocations including all);
                       alter table revocations rename to replaced;
                       alter table restored rename to revocations";
        sqlx::raw_sql(restore).execute(&mut app.superuser().await).await.unwrap();
        sqlx::raw_sql("alter table revocations owner to test_owner")
            .execute(&mut app.superuser().await)
            .await
            .unwrap();
        let gone = app.verifier().get(&path(&reader.cursor, 0)).await.assert_error(410, "gone");
        assert!(gone.text.contains("start again without it"), "{}", gone.text);
        Reader::start(app).await;
    })
    .await;
}

#[tokio::test]
async fn restored_entries_with_later_transaction_ids_are_not_repeated_forever() {
    run(async |app| {
        let restored = "insert into revocations (transaction_id, organization_id, type)
                        select 1000000000000, id, 'organization.deleted' from organizations";
        app.execute(restored).await;
        let mut reader = Reader::start(app).await;
        assert!(reader.read().await.is_empty());
        write_entries(app, 1).await;
        assert_eq!(reader.events().await, ["key.revoked"]);
        assert!(reader.read().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_cursor_expires_after_24_hours() {
    run(async |app| {
        let reader = Reader::start(app).await;
        let aged = |seconds: i64| {
            let (mut cursor, _) = RevocationCursor::decode(&reader.cursor).unwrap();
            cursor.created_at -= seconds;
            cursor.encode(&app.app.peppers.digest(&cursor.sealed_text()).0)
        };
        let valid = aged(24 * 3_600 - 600);
        reader.client.get(&path(&valid, 0)).await.assert_status(200);
        let expired = aged(24 * 3_600 + 1);
        let gone = reader.client.get(&path(&expired, 30)).await.assert_error(410, "gone");
        assert_eq!(gone.error()["retryable"], false);
    })
    .await;
}

#[tokio::test]
async fn entries_are_removed_after_25_hours() {
    run(async |app| {
        write_entries(app, 1_200).await;
        app.execute("update revocations set created_at = now() - interval '24 hours'").await;
        sweep(&app.app).await;
        assert_eq!(app.count("select count(*) from revocations").await, 1_200);
        app.execute("update revocations set created_at = now() - interval '26 hours'").await;
        write_entries(app, 1).await;
        sweep(&app.app).await;
        assert_eq!(app.count("select count(*) from revocations").await, 1);
    })
    .await;
}
