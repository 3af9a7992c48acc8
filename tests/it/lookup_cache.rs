//! The cache of answers about credentials: it saves queries, and no request that starts after a
//! change is judged by the state before it.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join, join_all};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tenantry::app::batch_lookup::BatchQuery;
use tenantry::app::credential_lookup::CredentialQuery;
use tenantry::app::lookup_cache::LookupCache;
use tenantry::app::verification_lookup::VerificationQuery;
use tenantry::model::secret::Digest;
use tenantry::model::verification::CredentialKind;
use tenantry::repo::credential_changes::{self, Changes};

use crate::support::waiting::wait_until_async;
use crate::support::{TestApp, run, with_settings};

/// Whether the server accepts the key in a request to itself, and in a check by a verifier.
async fn admits(app: &TestApp, key: &str) -> (bool, bool) {
    let verified = async {
        app.verifier().post("/v1/verify", json!({ "key": key })).await.assert_status(200).body
    };
    let (own, verified) = join(app.key(key).get("/me"), verified).await;
    (own.status == 200, verified["valid"] == true)
}

/// A connection that has locked the tables of credentials. No one else can read them meanwhile.
async fn lock_credentials(app: &TestApp) -> PgConnection {
    let mut db = app.connect().await;
    db.execute("begin; lock table api_keys, personal_tokens, organizations, accounts")
        .await
        .unwrap();
    db
}

#[tokio::test]
async fn a_cached_answer_is_returned_without_reading_the_credential() {
    run(async |app| {
        let acme = app.sign_up().await;
        let check = async |server: &TestApp| {
            server.verifier().post("/v1/verify", json!({ "key": acme.api_key })).await
        };
        check(app).await.assert_status(200);
        let lock = lock_credentials(app).await;
        assert_eq!(check(app).await.assert_status(200).body["valid"], true);
        // A server without a cached answer fails.
        check(&app.replica()).await.assert_status(503);
        lock.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn with_a_credential_memory_of_0_no_answer_is_cached() {
    with_settings(&[("CREDENTIAL_MEMORY", "0")])
        .run(async |app| {
            let acme = app.sign_up().await;
            assert_eq!(admits(app, &acme.api_key).await, (true, true));
            let lock = lock_credentials(app).await;
            let check = app.verifier().post("/v1/verify", json!({ "key": acme.api_key })).await;
            check.assert_status(503);
            lock.close().await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn credentials_beyond_the_credential_memory_are_accepted() {
    with_settings(&[("CREDENTIAL_MEMORY", "2")])
        .run(async |app| {
            let acme = app.sign_up().await;
            let mut keys = vec![acme.api_key.clone()];
            for name in ["a", "b", "c"] {
                let key = app.create_key_with(&acme.api_key, json!({ "name": name })).await;
                keys.push(key.api_key);
            }
            for _ in 0..3 {
                for key in &keys {
                    assert_eq!(admits(app, key).await, (true, true));
                }
            }
        })
        .await;
}

/// Statements that end a key or a pinned token, and those that undo them. A digest is changed by
/// swapping its halves.
const CHANGES: [(&str, &str); 11] = [
    ("update api_keys set enabled = false", "update api_keys set enabled = true"),
    (
        "update api_keys set revoked_at = now(), name_held = false",
        "update api_keys set revoked_at = null, name_held = true",
    ),
    ("update api_keys set expires_at = now()", "update api_keys set expires_at = null"),
    (
        "update api_keys set allowed_ips = '{203.0.113.0/24}'",
        "update api_keys set allowed_ips = '{}'",
    ),
    (
        "update api_keys set digest = substring(digest from 17) || substring(digest for 16)",
        "update api_keys set digest = substring(digest from 17) || substring(digest for 16)",
    ),
    (
        "update personal_tokens set revoked_at = now()",
        "update personal_tokens set revoked_at = null",
    ),
    (
        "update personal_tokens set expires_at = now()",
        "update personal_tokens set expires_at = null",
    ),
    ("update accounts set is_active = false", "update accounts set is_active = true"),
    ("update users set removed_at = now()", "update users set removed_at = null"),
    (
        "update organizations set suspended_at = now()",
        "update organizations set suspended_at = null",
    ),
    ("update organizations set deleted_at = now()", "update organizations set deleted_at = null"),
];

/// Sends requests with the credentials to the server until the work is done, so that its batches
/// overlap with the changes.
async fn send_requests(server: &TestApp, credentials: &[&str], is_done: &AtomicBool) {
    while !is_done.load(Ordering::Relaxed) {
        for credential in credentials {
            admits(server, credential).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_starts_after_a_change_is_judged_by_the_state_before_it() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        let all = json!({ "name": "k", "scopes": ["*"] });
        let key = app.create_key(&ann, all).await.api_key;
        let token = json!({ "name": "t", "scopes": ["*"],
                            "metadata": { "organizationId": ann.org_id } });
        let (token, _) = app.create_token(&ann.cookie, token).await;
        let servers = [app.replica(), app.replica()];
        let admitted = async |credential: &str| {
            let each = servers.iter().map(|server| admits(server, credential));
            let (own, verified): (Vec<_>, Vec<_>) = join_all(each).await.into_iter().unzip();
            [own, verified].concat()
        };
        let is_done = AtomicBool::new(false);
        let credentials = [&*key, &*token];
        let load = servers.iter().map(|server| send_requests(server, &credentials, &is_done));
        let changing = async {
            for (change, undo) in CHANGES.into_iter().cycle().take(5 * CHANGES.len()) {
                let affected = if change.contains("api_keys") { &key } else { &token };
                assert_eq!(admitted(affected).await, [true; 4], "before {change}");
                app.execute(change).await;
                assert_eq!(admitted(affected).await, [false; 4], "{change}");
                app.execute(undo).await;
            }
            is_done.store(true, Ordering::Relaxed);
        };
        join(changing, join_all(load)).await;
    })
    .await;
}

#[tokio::test]
async fn a_change_that_commits_after_later_ones_is_not_missed() {
    run(async |app| {
        let acme = app.sign_up().await;
        assert_eq!(admits(app, &acme.api_key).await, (true, true));
        let mut late = app.connect().await;
        late.execute("begin; savepoint a; update api_keys set enabled = false; release a")
            .await
            .unwrap();
        for _ in 0..3 {
            // Later transactions, which the server sees before the earlier one.
            app.execute("update organizations set name = name || '.'").await;
            assert_eq!(admits(app, &acme.api_key).await, (true, true));
        }
        late.execute("commit").await.unwrap();
        assert_eq!(admits(app, &acme.api_key).await, (false, false));
    })
    .await;
}

#[tokio::test]
async fn changed_names_plans_metadata_and_credits_are_in_the_next_verdict() {
    run(async |app| {
        let acme = app.sign_up().await;
        let check = async || {
            let request = json!({ "key": acme.api_key });
            app.verifier().post("/v1/verify", request).await.assert_status(200).body
        };
        check().await;
        app.execute("update organizations set name = 'New', external_id = 'cus_1', plan = 'pro'")
            .await;
        app.execute("update api_keys set metadata = '{\"a\": \"b\"}', external_id = 'k_1'").await;
        let verdict = check().await;
        assert_eq!(verdict["organization"]["name"], "New");
        assert_eq!(verdict["organization"]["external_id"], "cus_1");
        assert_eq!(verdict["organization"]["plan"], "pro");
        assert_eq!(verdict["key"]["metadata"], json!({ "a": "b" }));
        assert_eq!(verdict["key"]["external_id"], "k_1");
        app.execute(
            "insert into credit_balances (id, organization_id, remaining, refilled_at)
             select id, organization_id, 7, now() from api_keys",
        )
        .await;
        assert_eq!(check().await["credits"]["remaining"], 6);
        assert_eq!(check().await["credits"]["remaining"], 5);
    })
    .await;
}

/// The columns of each table whose change discards cached answers.
async fn watched_columns(app: &TestApp) -> Vec<(String, String)> {
    let columns = "select event_object_table::text, event_object_column::text
                   from information_schema.triggered_update_columns
                   where trigger_name like 'credential\\_changed%' order by 1, 2";
    sqlx::query_as(columns).fetch_all(&mut app.connect().await).await.unwrap()
}

#[tokio::test]
async fn every_column_that_a_cached_answer_is_made_of_is_watched() {
    run(async |app| {
        let mut db = app.superuser().await;
        let role = format!("reader_{}", uuid::Uuid::now_v7().simple());
        let mut grants = format!("create role {role}; grant usage on schema public to {role};");
        for (table, column) in watched_columns(app).await {
            write!(grants, "grant select ({column}) on {table} to {role};").unwrap();
        }
        // An answer about a credential with a balance is not cached.
        write!(grants, "grant select on credit_balances to {role}; set role {role};").unwrap();
        db.execute(AssertSqlSafe(grants)).await.unwrap();
        let digests = vec![Digest::new([7; 32])];
        let no_cache = LookupCache::new(0);
        for query in [
            CredentialQuery::Key(digests.clone()),
            CredentialQuery::PersonalToken(digests.clone()),
            CredentialQuery::OauthToken(digests.clone()),
        ] {
            let read = CredentialQuery::answer(&mut db, &no_cache, &[query]).await;
            assert!(read.unwrap()[0].is_none());
        }
        let no_cache = LookupCache::new(0);
        for kind in
            [CredentialKind::ApiKey, CredentialKind::PersonalToken, CredentialKind::OauthToken]
        {
            let query = VerificationQuery { kind, candidates: digests.clone() };
            let read = VerificationQuery::answer(&mut db, &no_cache, &[query]).await;
            assert!(read.unwrap()[0].is_none());
        }
        let unwatched = db.execute("select last_used_at from api_keys").await;
        assert!(unwatched.is_err(), "the role may read what is not watched");
        let remove = format!("reset role; drop owned by {role}; drop role {role}");
        db.execute(AssertSqlSafe(remove)).await.unwrap();
    })
    .await;
}

/// Returns the changes that the statement commits.
async fn changes_by(db: &mut PgConnection, statement: &str) -> Changes {
    let (last, _) = credential_changes::find_since(db, None).await.unwrap().unwrap();
    db.execute(AssertSqlSafe(statement)).await.unwrap();
    credential_changes::find_since(db, Some(&last)).await.unwrap().unwrap().1
}

#[tokio::test]
async fn every_statement_that_sets_a_watched_column_or_removes_a_row_is_a_change() {
    run(async |app| {
        let ann = app.verified_account("ann@example.com").await;
        app.create_token(&ann.cookie, json!({ "name": "t", "scopes": ["*"] })).await;
        app.create_key(&ann, json!({ "name": "k", "scopes": ["*"] })).await;
        app.execute(
            "insert into credit_balances (id, organization_id, remaining, refilled_at)
             select id, organization_id, 7, now() from api_keys",
        )
        .await;
        app.execute(
            "with client as (
                 insert into oauth_clients (id, client_id, organization_id, kind, name,
                     redirect_uris, application_type, auth_method, scopes, visibility, created_at,
                     updated_at)
                 select gen_random_uuid(), 'app', id, 'registered', 'App', '{https://a.example}',
                     'web', 'none', '{usage:read}', 'private', now(), now() from organizations
                 limit 1 returning id
             ), granted as (
                 insert into oauth_grants (id, account_id, client_id, scopes, resources, created_at,
                     updated_at)
                 select gen_random_uuid(), a.id, c.id, '{user:read}', '{}', now(), now()
                 from accounts a cross join client c returning id, account_id
             )
             insert into oauth_access_tokens (id, digest, account_id, grant_id, scopes, resources,
                 created_at, expires_at)
             select gen_random_uuid(), sha256('a'), account_id, id, '{user:read}', '{}', now(),
                 now() + interval '1 hour' from granted",
        )
        .await;
        let mut db = app.connect().await;
        let columns = watched_columns(app).await;
        assert!(columns.len() > 40, "{columns:?}");
        for (table, column) in columns {
            let id = format!("select id from {table} limit 1");
            let id = sqlx::query_scalar(AssertSqlSafe(id)).fetch_one(&mut db).await.unwrap();
            // Extending a session is no change.
            let value = match (&*table, &*column) {
                ("sessions", "expires_at") => "expires_at - interval '1 second'",
                _ => &*column,
            };
            let update = format!("update {table} set {column} = {value} where id = '{id}'");
            match changes_by(&mut db, &update).await {
                Changes::Of(ids) => assert!(ids.contains(&id), "{update}"),
                Changes::All => panic!("{update}"),
            }
        }
        let deleted = changes_by(&mut db, "delete from personal_tokens").await;
        assert!(matches!(&deleted, Changes::Of(ids) if ids.len() == 1), "{deleted:?}");
        assert_eq!(changes_by(&mut db, "truncate personal_tokens").await, Changes::All);
        // Each of the other tables has the trigger for `truncate`, too.
        let watched = "select count(distinct event_object_table) from information_schema.triggers
                       where trigger_name = 'credential_changed'
                         and event_object_table <> 'credit_balances'";
        let truncated = "select count(*) from pg_trigger where tgname = 'credential_truncated'";
        assert_eq!(app.count(truncated).await, app.count(watched).await);
    })
    .await;
}

#[tokio::test]
async fn a_change_is_deleted_only_when_every_snapshot_of_the_last_ten_minutes_has_seen_it() {
    run(async |app| {
        app.sign_up().await;
        // Only what begins here counts.
        let clear = "delete from credential_changes";
        sqlx::query(clear).execute(&mut app.connect().await).await.unwrap();
        let sweep = async || app.app.db.transaction(credential_changes::sweep).await.unwrap();
        let changes = "select count(*) from credential_changes where organization_id <> \
                       '00000000-0000-0000-0000-000000000000'";
        // One entry in the transaction itself, and one in a savepoint.
        let mut late = app.connect().await;
        late.execute("begin; update api_keys set enabled = false; savepoint a").await.unwrap();
        late.execute("update api_keys set enabled = true; release a").await.unwrap();
        // Entries of ten minutes ago, from when the transaction was running.
        for _ in 0..2 {
            app.execute(
                "insert into credential_changes (created_at)
                 values (now() - interval '11 minutes')",
            )
            .await;
        }
        late.execute("commit").await.unwrap();
        sweep().await;
        assert_eq!(app.count(changes).await, 2);
        // A later entry records that the transaction had ended, unless another test's transaction
        // is still running that began before.
        let are_swept = async |sql| {
            app.execute(
                "insert into credential_changes (created_at)
                 values (now() - interval '10.5 minutes')",
            )
            .await;
            sweep().await;
            app.count(sql).await == 0
        };
        wait_until_async("the changes are deleted", async || are_swept(changes).await).await;
        // Entries of a restored dump name other transactions.
        app.execute(
            "insert into credential_changes (transaction_id, horizon, created_at, subject)
             values (1000000000, 1000000000, now() - interval '11 minutes', gen_random_uuid())",
        )
        .await;
        app.execute("update api_keys set enabled = true").await;
        sweep().await;
        assert_eq!(app.count(changes).await, 1);
        let restored = "select count(*) from credential_changes where transaction_id = 1000000000";
        wait_until_async("the restored entry is deleted", async || are_swept(restored).await).await;
    })
    .await;
}

#[tokio::test]
async fn recovery_from_a_crash_discards_everything_that_was_cached_before() {
    run(async |app| {
        let acme = app.sign_up().await;
        let check = async || {
            app.verifier().post("/v1/verify", json!({ "key": acme.api_key })).await.status.as_u16()
        };
        assert_eq!(check().await, 200);
        let mut db = app.connect().await;
        let (last, _) = credential_changes::find_since(&mut db, None).await.unwrap().unwrap();
        // As recovery after a crash does.
        app.execute("truncate database_epochs").await;
        assert!(credential_changes::find_since(&mut db, Some(&last)).await.unwrap().is_none());
        // The next batch begins an epoch, and reads everything.
        let lock = lock_credentials(app).await;
        assert_eq!(check().await, 503);
        lock.close().await.unwrap();
        assert_eq!(check().await, 200);
        let (_, changes) =
            credential_changes::find_since(&mut db, Some(&last)).await.unwrap().unwrap();
        assert_eq!(changes, Changes::All);
        let lock = lock_credentials(app).await;
        assert_eq!(check().await, 200);
        lock.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_answer_with_much_metadata_is_not_cached() {
    run(async |app| {
        let acme = app.sign_up().await;
        let check = async || {
            app.verifier().post("/v1/verify", json!({ "key": acme.api_key })).await.status.as_u16()
        };
        app.execute(
            "update organizations set metadata = (
                 select jsonb_object_agg('k' || n, n::text) from generate_series(1, 90) n)",
        )
        .await;
        assert_eq!(check().await, 200);
        let lock = lock_credentials(app).await;
        assert_eq!(check().await, 503);
        lock.close().await.unwrap();
    })
    .await;
}
