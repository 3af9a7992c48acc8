//! Readiness says what the database can not do: take changes, or keep tenants apart; and
//! `tenantry migrate` makes what a restore left out.

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::support::server::WorkDir;
use crate::support::{TestApp, run};

async fn execute_as_admin(app: &TestApp, sql: &str) {
    let mut db = app.superuser().await;
    // Also where the database's default is that nothing is changed.
    sqlx::raw_sql("set default_transaction_read_only = off").execute(&mut db).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut db).await.unwrap();
}

/// Changes a setting of the database, for connections from now on: there are no others.
async fn set(app: &TestApp, setting: &str) {
    let sql = format!(
        "do $$ begin execute format('alter database %I {setting}', current_database()); end $$;
         select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()"
    );
    execute_as_admin(app, &sql).await;
    // Finds out that the connections that lay idle are gone.
    let _ = app.app.db.run(async |db| Ok(sqlx::query("select").execute(db).await?)).await;
}

#[tokio::test]
async fn with_a_read_only_database_keys_are_checked_and_readiness_says_read_only() {
    run(async |app| {
        let acme = app.sign_up().await;
        set(app, "set default_transaction_read_only = on").await;
        let ready = app.anonymous().get("/health/ready").await.assert_status(200);
        assert_eq!(ready.body, json!({ "status": "read_only" }));
        app.key(&acme.api_key).get("/me").await.assert_status(200);
        app.anonymous().post("/signup", json!({})).await.assert_status(503);
        let strict = app.replica_with(&[("READY_WHEN_READ_ONLY", "off")]);
        let refused = strict.anonymous().get("/health/ready").await.assert_status(503);
        assert!(refused.body["detail"].as_str().unwrap().contains("read_only"));
        set(app, "reset default_transaction_read_only").await;
        let ready = app.anonymous().get("/health/ready").await.assert_status(200);
        assert_eq!(ready.body, json!({ "status": "ok" }));
        strict.anonymous().get("/health/ready").await.assert_status(200);
        app.anonymous().post("/signup", json!({})).await.assert_status(201);
        strict.close();
    })
    .await;
}

/// The database answers as with a full disk, without one.
#[tokio::test]
async fn with_a_full_disk_readiness_says_read_only_until_something_could_be_written() {
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
async fn whatever_the_role_may_not_create_readiness_finds_out_that_a_disk_is_not_full_any_more() {
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
        for less in [no_temporary_tables, "revoke create on schema public from pg_database_owner"] {
            execute_as_admin(app, less).await;
            execute_as_admin(app, full).await;
            app.anonymous().post("/signup", json!({})).await.assert_status(503);
            assert_eq!(status().await, json!({ "status": "read_only" }));
            execute_as_admin(
                app,
                "drop trigger full_disk on organizations; drop function refuse()",
            )
            .await;
            app.app.readiness.watch().await;
            assert_eq!(status().await, json!({ "status": "ok" }), "{less}");
            app.anonymous().post("/signup", json!({})).await.assert_status(201);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_tenants_apart_is_part_of_being_ready_and_migrate_makes_it_again() {
    run(async |app| {
        let acme = app.sign_up().await;
        for harm in [
            "revoke select on users from tenantry_tenant",
            "revoke update (default_key_id) on accounts from tenantry_tenant",
            "drop policy api_keys_tenant on api_keys",
            "drop policy organizations_system on organizations;
             create policy organizations_system on organizations to tenantry_tenant using (false)",
            "alter table invites no force row level security",
            "alter table projects disable row level security",
            "revoke all on all tables in schema public from tenantry_tenant",
        ] {
            execute_as_admin(app, harm).await;
            let replica = app.replica();
            replica.anonymous().get("/health/ready").await.assert_status(503);
            replica.close();
            let place = WorkDir::new();
            let done = place.command(&app.database_settings()).arg("migrate").output().unwrap();
            let told = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{harm}: {told}");
            assert!(
                told.contains("row-level security was incomplete and has been restored"),
                "{harm}: {told}"
            );
            let replica = app.replica();
            replica.anonymous().get("/health/ready").await.assert_status(200);
            replica.close();
            app.key(&acme.api_key).get("/me/api-keys").await.assert_status(200);
        }
    })
    .await;
}

/// What `.ci/prepare` wrote is what the migrations make, in another order too.
#[tokio::test]
async fn what_has_to_be_there_is_what_a_fresh_schema_has() {
    run(async |app| {
        let query = include_str!("../../src/repo/sql/tenant_access.sql");
        let there: Vec<String> =
            sqlx::query_scalar(query).fetch_all(&mut app.sql().await).await.unwrap();
        let expected = include_str!("../../src/repo/sql/tenant_access_expected.sql");
        let made = expected.lines().filter(|line| !line.starts_with("drop policy"));
        let made: Vec<_> = made.map(|line| line.trim_end_matches(';')).collect();
        assert_eq!(there[3..], made[..], "run .ci/prepare");
        app.execute("create table unrelated (id int)").await;
    })
    .await;
}
