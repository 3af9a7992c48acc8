//! Retention: each table has its line in the README, and rows past their retention are removed in
//! batches.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::AssertSqlSafe;
use tenantry::domain::retention::sweep;
use tenantry::repo::{key_lifecycle, usage};

use crate::support::app::CreatedKey;
use crate::support::{TestApp, run, with_settings};

#[tokio::test]
async fn every_table_has_its_retention_in_the_readme_and_every_setting_in_env_example() {
    run(async |app| {
        let tables: BTreeSet<String> = sqlx::query_scalar(
            "select relname::text from pg_class
             where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace",
        )
        .fetch_all(&mut app.connect().await)
        .await
        .unwrap()
        .into_iter()
        .collect();
        let readme = include_str!("../../README.md");
        let (_, lines) = readme.split_once("\n| table | what is removed, and when |").unwrap();
        let (lines, _) = lines.split_once("\n\n").unwrap();
        let named = |line: &str| -> Vec<String> {
            let (tables, _) = line.split_once(" | ").unwrap_or_default();
            tables.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let documented: BTreeSet<String> = lines.lines().flat_map(named).collect();
        assert_eq!(documented, tables, "tables in the README, and tables of the schema");
        let settings = include_str!("../../.env.example");
        let named = lines.split('`').filter(|it| it.starts_with("RETENTION_"));
        let named: Vec<_> = named.collect();
        assert!(!named.is_empty(), "the README names no setting");
        for setting in named {
            assert!(settings.contains(&format!("\n# {setting}=")), "{setting}");
        }
    })
    .await;
}

/// Sets the end of everything that has ended to this many days ago.
async fn backdate(app: &TestApp, days: u32) {
    let ago = format!("now() - interval '{days} days'");
    let sql = format!(
        "update api_keys set revoked_at = {ago} where revoked_at is not null;
         update api_keys set expires_at = {ago} where superseded_at is not null;
         update personal_tokens set revoked_at = {ago} where revoked_at is not null;
         update users set removed_at = {ago} where removed_at is not null;
         update accounts set deleted_at = {ago} where deleted_at is not null;
         update organizations set deleted_at = {ago} where deleted_at is not null;"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.connect().await).await.unwrap();
}

/// How many rows a table has.
async fn rows(app: &TestApp, table: &str) -> i64 {
    let sql = format!("select count(*) from {table}");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut app.connect().await).await.unwrap()
}

async fn rotate(app: &TestApp, key: &CreatedKey) -> CreatedKey {
    let path = format!("/v1/organization/api-keys/{}/rotate", key.key_id);
    let body = app.key(&key.api_key).post(&path, json!({})).await.assert_status(200).body;
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    CreatedKey {
        org_id: key.org_id.clone(),
        user_id: key.user_id.clone(),
        api_key: text("key"),
        key_id: text("id"),
    }
}

#[tokio::test]
async fn keys_past_their_retention_are_removed_and_their_successors_stay_valid() {
    run(async |app| {
        let first = app.sign_up().await;
        let second = rotate(app, &first).await;
        let third = rotate(app, &second).await;
        let expiring = json!({ "name": "e", "expires_at": "2037-01-01T00:00:00Z" });
        app.create_key_with(&third.api_key, expiring).await;
        backdate(app, 364).await;
        sweep(&app.app).await;
        assert_eq!(rows(app, "api_keys").await, 4, "not yet");
        backdate(app, 366).await;
        sweep(&app.app).await;
        assert_eq!(rows(app, "api_keys").await, 2);
        let path = format!("/v1/organization/api-keys/{}", third.key_id);
        app.key(&third.api_key).get(&path).await.assert_status(200);
        for removed in [&first, &second] {
            app.key(&removed.api_key).get("/me").await.assert_error(401, "unauthorized");
        }
        // Their audit events stay.
        assert!(app.count("select count(*) from audit_events").await >= 4);
    })
    .await;
}

#[tokio::test]
async fn a_purged_organization_keeps_only_its_id_its_audit_log_and_its_payments() {
    with_settings(&[("RETENTION_DELETED_ORGANIZATIONS_DAYS", "10")])
        .run(async |app| {
            let other = app.verified_account("dora@example.com").await;
            let ann = app.verified_account("ann@example.com").await;
            let session = app.session(&ann.cookie);
            let request = json!({ "name": "Acme", "id": "acme" });
            session.post("/api/user/organizations", request).await.assert_status(201);
            let own = "/api/user/organizations/acme";
            let key = json!({ "name": "k", "scopes": ["*"] });
            let created = session.post(&format!("{own}/api-keys"), key).await.assert_status(201);
            let key = created.body["data"]["key"].as_str().unwrap().to_owned();
            app.exchange(&key).await;
            let client = app.key(&key).with("idempotency-key", "one");
            client.post("/me/api-keys", json!({ "name": "second" })).await.assert_status(201);
            let invite = json!({ "email": "guest@example.com", "role": "member" });
            session.post(&format!("{own}/invites"), invite).await.assert_status(201);
            let project = json!({ "name": "one" });
            session.post(&format!("{own}/projects"), project).await.assert_status(201);
            let pinned = json!({ "name": "t", "scopes": ["*"],
                                 "metadata": { "organizationId": "acme" } });
            app.create_token(&ann.cookie, pinned).await;
            app.execute(
                "insert into payments (id, organization_id, event_id, reference, amount, currency,
                                       status, created_at)
                 select gen_random_uuid(), id, 'evt', 'in', 1, 'usd', 'paid', now()
                 from organizations where handle = 'acme'",
            )
            .await;
            app.execute(
                "with o as (select id from organizations where handle = 'acme'),
                      c as (insert into credit_balances (id, organization_id, remaining,
                                                         refilled_at)
                            select id, id, 1, now() from o),
                      r as (insert into usage_resources (organization_id, day, resource, tags)
                            select id, current_date, 'GET /docs', '' from o)
                 insert into usage_events (source, id, organization_id, received_at)
                 select 'tests', '1', id, now() from o",
            )
            .await;
            app.execute(
                "insert into ended_subscriptions (organization_id, subscription_id, ended_at)
                 select id, 'sub', now() from organizations where handle = 'acme'",
            )
            .await;
            app.app.meter.flush().await.unwrap();
            let confirmed = json!({ "confirm": "acme" }).to_string();
            let session = session.with("content-type", "application/json");
            session.send("DELETE", own, confirmed).await.assert_status(200);
            let session = app.session(&ann.cookie);

            backdate(app, 9).await;
            sweep(&app.app).await;
            let rows_of_acme = async |table: &str| -> i64 {
                rows(
                    app,
                    &format!(
                        "{table} t join organizations o on o.id = t.organization_id
                                    where o.handle = 'acme'"
                    ),
                )
                .await
            };
            assert_eq!(rows_of_acme("invites").await, 0, "email addresses are removed at once");
            assert_eq!(
                rows_of_acme("api_keys").await,
                2,
                "everything else is removed when it is due"
            );
            backdate(app, 11).await;
            sweep(&app.app).await;
            for table in [
                "api_keys",
                "ended_subscriptions",
                "idempotency_keys",
                "key_sessions",
                "projects",
                "refresh_tokens",
                "credit_balances",
                "usage_daily",
                "usage_events",
                "usage_hourly",
                "usage_resources",
                "users",
            ] {
                assert_eq!(rows_of_acme(table).await, 0, "{table}");
            }
            assert_eq!(rows(app, "personal_tokens").await, 0);
            assert_eq!(rows_of_acme("payments").await, 1);
            assert!(rows_of_acme("audit_events").await > 5);
            let purged = "select count(*) from organizations
                          where handle = 'acme' and name = '' and purged_at is not null";
            assert_eq!(app.count(purged).await, 1);
            // Its id is never reused, and nothing of others is removed.
            let rejected = app.anonymous().post("/signup", json!({ "org_id": "ACME" })).await;
            rejected.assert_error(409, "conflict");
            let dora = app.session(&other.cookie);
            dora.get(&format!("/api/user/organizations/{}", other.org_id)).await.assert_status(200);
            session.get("/api/user/me").await.assert_status(200);
        })
        .await;
}

#[tokio::test]
async fn rows_are_removed_in_batches_and_locked_rows_are_skipped() {
    run(async |app| {
        let acme = app.sign_up().await;
        app.execute(
            "insert into usage_daily (organization_id, key_id, day, requests, denied)
             select id, gen_random_uuid(), current_date - 1096, 1, 0
             from organizations, generate_series(1, 1500) where handle <> 'system'",
        )
        .await;
        app.execute(
            "insert into usage_daily (organization_id, key_id, day, requests, denied)
             select id, gen_random_uuid(), current_date - 1094, 1, 0
             from organizations where handle <> 'system'",
        )
        .await;
        let batch = async || {
            app.app.db.transaction(async |tx| usage::sweep(tx, 1_095).await).await.unwrap()
        };
        assert_eq!([batch().await, batch().await, batch().await], [1_000, 500, 0]);
        let dead = app.create_key_with(&acme.api_key, json!({})).await;
        app.create_key_with(&acme.api_key, json!({})).await;
        let revoke = format!(
            "update api_keys set revoked_at = now() - interval '400 days' where display_id <> '{}'",
            &acme.api_key[9..17]
        );
        sqlx::raw_sql(AssertSqlSafe(revoke)).execute(&mut app.connect().await).await.unwrap();
        let mut connection = app.connect().await;
        let lock = "begin; select from api_keys where display_id = $1 for no key update";
        let lock = lock.replace("$1", &format!("'{}'", &dead.api_key[9..17]));
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut connection).await.unwrap();
        let batch = async || {
            app.app.db.transaction(async |tx| key_lifecycle::sweep(tx, 365).await).await.unwrap()
        };
        assert_eq!(batch().await, 1);
        sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap();
        assert_eq!(batch().await, 1);
    })
    .await;
}

/// Rows that ended `$1` ago, by table, and how many days each is kept.
const ENDED: [(&str, i32, &str); 8] = [
    (
        "invites",
        90,
        "insert into invites (id, organization_id, email, role, invited_by, created_at, expires_at,
                              revoked_at)
         select gen_random_uuid(), organization_id, 'x@example.com', 'member', id, now(),
                now() - $1, now() from users limit 1",
    ),
    (
        "payments",
        3_650,
        "insert into payments (id, organization_id, event_id, reference, amount, currency, status,
                               created_at)
         select gen_random_uuid(), organization_id, gen_random_uuid(), gen_random_uuid(), 1, 'usd',
                'paid', now() - $1 from users limit 1",
    ),
    (
        "usage_daily",
        1_095,
        "insert into usage_daily (organization_id, key_id, day, requests, denied)
         select organization_id, id, current_date - $1, 1, 0 from api_keys limit 1",
    ),
    (
        "usage_hourly",
        1_095,
        "insert into usage_hourly (organization_id, hour, key_id, resource, tags, units)
         select organization_id, now() - $1, id, '', '', 1 from api_keys limit 1",
    ),
    (
        "usage_events",
        32,
        "insert into usage_events (source, id, organization_id, received_at)
         select 'tests', gen_random_uuid(), organization_id, now() - $1 from users limit 1",
    ),
    (
        "users",
        365,
        "insert into users (id, organization_id, handle, role, created_at, removed_at)
         select gen_random_uuid(), organization_id, gen_random_uuid(), 'member', now(), now() - $1
         from users limit 1",
    ),
    (
        "accounts",
        365,
        "insert into accounts (id, home_organization_id, created_at, updated_at, deleted_at)
         select gen_random_uuid(), organization_id, now(), now(), now() - $1 from users limit 1",
    ),
    (
        "outbox",
        30,
        "insert into outbox (id, kind, address, created_at, due_at, dead_at)
         values (gen_random_uuid(), 'verify_email', 'x@example.com', now(), now(), now() - $1)",
    ),
];

#[tokio::test]
async fn ended_rows_are_removed_after_their_retention_and_not_before() {
    run(async |app| {
        let acme = app.sign_up().await;
        for (table, days, insert) in ENDED {
            let before = rows(app, table).await;
            for days in [days - 1, days + 1] {
                let insert = insert.replace("$1", &format!("interval '{days} days'"));
                let done =
                    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut app.connect().await).await;
                done.unwrap_or_else(|error| panic!("{table}: {error}"));
                sweep(&app.app).await;
                // The younger row stays, the older one is removed.
                assert_eq!(rows(app, table).await, before + 1, "{table} after {days} days");
            }
        }
        for (days, left) in [(89, 1), (91, 0)] {
            let claim = format!(
                "insert into key_claims (organization_id, email, created_at, expires_at)
                 select organization_id, 'x@example.com', now(), now() from users limit 1
                 on conflict on constraint key_claims_pkey do nothing;
                 update key_claims set expires_at = now() - interval '{days} days'"
            );
            sqlx::raw_sql(AssertSqlSafe(claim)).execute(&mut app.connect().await).await.unwrap();
            sweep(&app.app).await;
            assert_eq!(rows(app, "key_claims").await, left, "after {days} days");
        }
        app.key(&acme.api_key).get("/me").await.assert_status(200);
    })
    .await;
}
