//! Readiness reports a database that cannot be written or does not isolate tenants, and
//! `tenantry migrate` restores missing row-level security.

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::support::server::WorkDir;
use crate::support::{TestApp, run};

async fn execute_as_admin(app: &TestApp, sql: &str) {
    let mut db = app.superuser().await;
    // Also if the database is read-only by default.
    sqlx::raw_sql("set default_transaction_read_only = off").execute(&mut db).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
}

/// Changes a setting of the database and closes all connections, so that it applies everywhere.
async fn alter_database(app: &TestApp, setting: &str) {
    let sql = format!(
        "do $$ begin execute format('alter database %I {setting}', current_database()); end $$;
         select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()"
    );
    execute_as_admin(app, &sql).await;
    // Replaces the pool's idle connections, which are closed.
    let _ = app.app.db.run(async |db| Ok(sqlx::query("select").execute(db).await?)).await;
}

#[tokio::test]
async fn with_a_read_only_database_keys_are_checked_and_readiness_says_read_only() {
    run(async |app| {
        let acme = app.sign_up().await;
        alter_database(app, "set default_transaction_read_only = on").await;
        let ready = app.anonymous().get("/health/ready").await.assert_status(200);
        assert_eq!(ready.body, json!({ "status": "read_only" }));
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        app.anonymous().post("/signup", json!({})).await.assert_status(503);
        let replica = app.replica_with(&[("READY_WHEN_READ_ONLY", "off")]);
        let rejected = replica.anonymous().get("/health/ready").await.assert_status(503);
        assert!(rejected.body["detail"].as_str().unwrap().contains("read_only"));
        alter_database(app, "reset default_transaction_read_only").await;
        let ready = app.anonymous().get("/health/ready").await.assert_status(200);
        assert_eq!(ready.body, json!({ "status": "ok" }));
        replica.anonymous().get("/health/ready").await.assert_status(200);
        app.anonymous().post("/signup", json!({})).await.assert_status(201);
        replica.close();
    })
    .await;
}

/// Triggers fail like a full disk.
#[tokio::test]
async fn with_a_full_disk_readiness_says_read_only_until_a_write_succeeds() {
    run(async |app| {
        let full = "create function refuse() returns trigger language plpgsql as $$
                    begin raise exception 'No space left on device' using errcode = '53100'; end $$;
                    create trigger full_disk before insert on organizations
                    execute function refuse();
                    create function refuse_tables() returns event_trigger language plpgsql as $$
                    begin raise exception 'No space left on device' using errcode = '53100'; end $$;
                    create event trigger full_disk on ddl_command_start
                    when tag in ('CREATE TABLE AS') execute function refuse_tables()";
        execute_as_admin(app, full).await;
        let status = async || app.anonymous().get("/health/ready").await.assert_status(200).body;
        assert_eq!(status().await, json!({ "status": "ok" }));
        app.anonymous().post("/signup", json!({})).await.assert_status(503);
        assert_eq!(status().await, json!({ "status": "read_only" }));
        app.app.readiness.watch().await;
        assert_eq!(status().await, json!({ "status": "read_only" }));
        let space = "drop event trigger full_disk; drop trigger full_disk on organizations;
                     drop function refuse(); drop function refuse_tables()";
        execute_as_admin(app, space).await;
        app.app.readiness.watch().await;
        assert_eq!(status().await, json!({ "status": "ok" }));
        app.anonymous().post("/signup", json!({})).await.assert_status(201);
    })
    .await;
}

#[tokio::test]
async fn without_privileges_to_create_tables_readiness_still_detects_free_disk_space() {
    run(async |app| {
        let status = async || app.anonymous().get("/health/ready").await.assert_status(200).body;
        let full = "create function refuse() returns trigger language plpgsql as $$
                    begin raise exception 'No space left on device' using errcode = '53100'; end $$;
                    create trigger full_disk before insert on organizations
                    execute function refuse()";
        let no_temporary_tables = "do $$ begin
            execute format('revoke temporary on database %I from public, test_owner',
                           current_database());
            end $$";
        for revoke in [no_temporary_tables, "revoke create on schema public from pg_database_owner"]
        {
            execute_as_admin(app, revoke).await;
            execute_as_admin(app, full).await;
            app.anonymous().post("/signup", json!({})).await.assert_status(503);
            assert_eq!(status().await, json!({ "status": "read_only" }));
            execute_as_admin(
                app,
                "drop trigger full_disk on organizations; drop function refuse()",
            )
            .await;
            app.app.readiness.watch().await;
            assert_eq!(status().await, json!({ "status": "ok" }), "{revoke}");
            app.anonymous().post("/signup", json!({})).await.assert_status(201);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_requires_complete_row_level_security_and_migrate_restores_it() {
    run(async |app| {
        let acme = app.sign_up().await;
        for damage in [
            "revoke select on users from tenantry_tenant",
            "revoke update (default_key_id) on accounts from tenantry_tenant",
            "drop policy api_keys_tenant on api_keys",
            "drop policy organizations_system on organizations;
             create policy organizations_system on organizations to tenantry_tenant using (false)",
            "alter table invites no force row level security",
            "alter table projects disable row level security",
            "revoke all on all tables in schema public from tenantry_tenant",
        ] {
            execute_as_admin(app, damage).await;
            let replica = app.replica();
            replica.anonymous().get("/health/ready").await.assert_status(503);
            replica.close();
            let work_dir = WorkDir::new();
            let done = work_dir.command(&app.database_settings()).arg("migrate").output().unwrap();
            let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{damage}: {stderr}");
            assert!(
                stderr.contains("row-level security was incomplete and has been restored"),
                "{damage}: {stderr}"
            );
            let replica = app.replica();
            replica.anonymous().get("/health/ready").await.assert_status(200);
            replica.close();
            app.key(&acme.api_key).get("/me/api-keys").await.assert_status(200);
        }
    })
    .await;
}

/// The file that `.ci/prepare` wrote equals what the migrations create, both sorted.
#[tokio::test]
async fn the_required_row_level_security_is_that_of_a_new_schema() {
    run(async |app| {
        let query = include_str!("../../src/repo/sql/tenant_access.sql");
        let actual: Vec<String> =
            sqlx::query_scalar(query).fetch_all(&mut app.connect().await).await.unwrap();
        let expected = include_str!("../../src/repo/sql/tenant_access_expected.sql");
        let required = expected.lines().filter(|line| !line.starts_with("drop policy"));
        let required: Vec<_> = required.map(|line| line.trim_end_matches(';')).collect();
        assert_eq!(actual[3..], required[..], "run .ci/prepare");
        app.execute("create table unrelated (id int)").await;
    })
    .await;
}
