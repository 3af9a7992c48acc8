//! How many rows a tenant's statements read in an organization with 20,000 rows in each table,
//! while the database's statistics still describe only small organizations. The database counts the
//! rows (`pg_stat_get_xact_tuples_returned`); time is not measured.

use sqlx::{AssertSqlSafe, PgConnection};
use tenantry::error::{Error, Result};
use tenantry::model::allowed_ips::AllowedIps;
use tenantry::model::api_key::{ApiKey, NewApiKey};
use tenantry::model::ids::KeyId;
use tenantry::model::metadata::Metadata;
use tenantry::model::named_limits::NamedLimits;
use tenantry::model::names::KeyName;
use tenantry::model::scope::ScopeSet;
use tenantry::model::secret::Digest;
use tenantry::repo::{keys, rls};
use uuid::Uuid;

use super::statements::{STATEMENTS, affects};
use super::{Tenant, tenant};
use crate::support::{TestApp, run};

/// How many rows and index entries a statement for single rows may read.
const MAX_ROWS: i64 = 500;

/// Statements for all rows of an organization (they list, count, search or revoke them). They may
/// read each row a few times, but not a quadratic number.
const READ_ALL_ROWS: [&str; 25] = [
    "app_grants::list",
    "app_grants::revoke_forbidden",
    "audit_events::list_page",
    "invites::list",
    "invites::revoke_all",
    "invites::revoke_by_inviter",
    "key_lifecycle::revoke_all",
    "key_lifecycle::revoke_created_by",
    "keys::count",
    "key_lists::list",
    "key_lists::list_page",
    "members::count",
    "members::has_unclaimed_owner",
    "members::claim",
    "members::list",
    "members::count_other_owners",
    "oauth_apps::list",
    "payments::list",
    "projects::count",
    "projects::has_slug",
    "projects::list",
    "usage::list_by_day",
    "usage::list_by_key",
    "usage::sum_requests",
    "memberships::find_owner",
];

/// 1,500 organizations with one row in each table, seen by `analyze`.
const SMALL: &str = "
    insert into organizations (id, handle, name, plan, created_at, updated_at)
        select gen_random_uuid(), 'small_' || n, 'small', 'trial', now(), now()
        from generate_series(1, 1500) n;
    insert into users (id, organization_id, handle, role, created_at)
        select gen_random_uuid(), id, 'seat_' || handle, 'owner', now()
        from organizations where handle like 'small_%';
    insert into api_keys (id, organization_id, user_id, digest, pepper_id, prefix, display_id, name,
                          name_held, scopes, created_at)
        select gen_random_uuid(), organization_id, id, sha256(convert_to(handle, 'UTF8')), 'p2',
               'tnt_live_', '00000000', 'ci', true, '{*}', now()
        from users where handle like 'seat_%';
    insert into key_sessions (id, organization_id, key_id, created_at)
        select gen_random_uuid(), organization_id, id, now() from api_keys where name = 'ci';
    insert into refresh_tokens (digest, organization_id, session_id, created_at, expires_at)
        select sha256(uuid_send(id)), organization_id, id, now(), now() + interval '7 days'
        from key_sessions where key_id in (select id from api_keys where name = 'ci');
    insert into projects (id, organization_id, name, slug, created_by, created_at, updated_at)
        select gen_random_uuid(), organization_id, 'p', 'p', id, now(), now()
        from users where handle like 'seat_%';
    insert into invites (id, organization_id, email, role, invited_by, created_at, expires_at)
        select gen_random_uuid(), organization_id, 'x@example.com', 'member', id, now(), now()
        from users where handle like 'seat_%';
    insert into usage_daily (organization_id, key_id, day, requests, denied)
        select organization_id, id, '2036-05-01', 1, 0 from api_keys where name = 'ci';
    insert into payments (id, organization_id, event_id, reference, amount, currency, status,
                          created_at)
        select gen_random_uuid(), id, 'evt_' || handle, 'in', 1, 'usd', 'paid', now()
        from organizations where handle like 'small_%';
    analyze;";

/// 20,000 rows in one organization, in each table that an organization itself can fill.
const LARGE: &str = "
    insert into users (id, organization_id, handle, role, created_at)
        select gen_random_uuid(), $1, 'large_' || n, 'member', now()
        from generate_series(1, 20000) n;
    insert into api_keys (id, organization_id, user_id, digest, pepper_id, prefix, display_id, name,
                          name_held, scopes, created_at, expires_at)
        select gen_random_uuid(), $1, $2, sha256(convert_to('large_' || n, 'UTF8')), 'p2',
               'tnt_live_', '00000000', 'large_' || n, true, '{*}', now(),
               case when n = 20000 then now() end
        from generate_series(1, 20000) n;
    insert into key_sessions (id, organization_id, key_id, created_at)
        select gen_random_uuid(), $1, $3, now() from generate_series(1, 20000) n;
    insert into refresh_tokens (digest, organization_id, session_id, created_at, expires_at)
        select sha256(uuid_send(id)), $1, id, now(), now() + interval '7 days'
        from key_sessions where organization_id = $1 and id <> $4;
    insert into projects (id, organization_id, name, slug, created_by, created_at, updated_at)
        select gen_random_uuid(), $1, 'p', 'large-' || n, $2, now(), now()
        from generate_series(1, 20000) n;
    insert into invites (id, organization_id, email, role, invited_by, created_at, expires_at)
        select gen_random_uuid(), $1, 'large_' || n || '@example.com', 'member', $2, now(),
               now() + interval '7 days'
        from generate_series(1, 20000) n;
    insert into usage_daily (organization_id, key_id, day, requests, denied)
        select $1, id, '2036-05-01', 1, 0 from api_keys where name like 'large_%';
    insert into payments (id, organization_id, event_id, reference, amount, currency, status,
                          created_at)
        select gen_random_uuid(), $1, 'evt_large_' || n, 'in_large_' || n, 1, 'usd', 'paid', now()
        from generate_series(1, 20000) n;";

/// Creates an organization that has grown since `analyze`.
async fn large_organization(app: &TestApp) -> Tenant {
    let acme = tenant(app, "ann@example.com", "ben@example.com").await;
    let mut db = app.superuser().await;
    let tables = "select c.relname::text from pg_class c
                  where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut db).await.unwrap();
    for table in tables {
        let off = format!("alter table {table} set (autovacuum_enabled = off)");
        sqlx::raw_sql(AssertSqlSafe(off)).execute(&mut db).await.unwrap();
    }
    sqlx::raw_sql(SMALL).execute(&mut db).await.unwrap();
    let quoted = |id: Uuid| format!("'{id}'::uuid");
    let large = LARGE
        .replace("$1", &quoted(acme.organization.0))
        .replace("$2", &quoted(acme.owner.0))
        .replace("$3", &quoted(acme.key.uuid()))
        .replace("$4", &quoted(acme.session.uuid()));
    sqlx::raw_sql(AssertSqlSafe(large)).execute(&mut db).await.unwrap();
    acme
}

/// The number of rows and index entries that a statement reads as the organization, on a connection
/// without cached plans. Rolls back.
async fn rows_read(
    app: &TestApp,
    it: &Tenant,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<()>,
) -> i64 {
    let counted = "select sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint from pg_class c
                   where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'i')";
    let mut read = 0;
    let rolled_back: Result<()> = app
        .app
        .db
        .long_transaction(async |tx| {
            let before: i64 = sqlx::query_scalar(counted).fetch_one(&mut *tx).await?;
            rls::set_tenant(tx, it.organization).await?;
            work(tx).await?;
            sqlx::query("set constraints all immediate").execute(&mut *tx).await?;
            sqlx::query("set local role none").execute(&mut *tx).await?;
            let after: i64 = sqlx::query_scalar(counted).fetch_one(&mut *tx).await?;
            read = after - before;
            Err(Error::conflict("rolled back"))
        })
        .await;
    let error = rolled_back.unwrap_err();
    assert_eq!(error.message(), "rolled back", "{}", error.cause());
    read
}

#[tokio::test]
async fn every_statement_reads_a_bounded_number_of_rows_despite_stale_statistics() {
    run(async |app| {
        let acme = large_organization(app).await;
        let (mut places, mut most_read) = (Vec::new(), 0);
        // Statements that revoke all rows leave dead rows behind, so they run last.
        let mut statements = STATEMENTS;
        statements.sort_by_key(|it| READ_ALL_ROWS.contains(it));
        for statement in statements {
            let read =
                rows_read(app, &acme, async |tx| affects(tx, statement, &acme).await.map(drop))
                    .await;
            let max = if READ_ALL_ROWS.contains(&statement) { 10 * 20_000 } else { MAX_ROWS };
            most_read = most_read.max(read);
            if read > max {
                places.push(format!("{statement} reads {read} rows"));
            }
        }
        assert!(places.is_empty(), "{places:#?}");
        assert!(most_read > 20_000, "what is read is not counted: {most_read}");
    })
    .await;
}

/// A new key of the organization with this name.
fn new_key<'a>(it: &Tenant, name: &'a KeyName, permissions: &'a AllPermissions) -> NewApiKey<'a> {
    NewApiKey {
        id: KeyId::from_uuid(Uuid::from_u128(9)),
        organization: it.organization,
        membership: it.owner,
        digest: Digest::new([9; 32]),
        pepper_id: "p1",
        prefix: "tnt_live_",
        display_id: "00000000",
        name: Some(name),
        scopes: &permissions.0,
        created_at: chrono::Utc::now(),
        expires_at: None,
        allowed_ips: &permissions.1,
        metadata: &permissions.2,
        enabled: true,
        external_id: None,
        limits: &permissions.3,
        metered_key: None,
        rotated_from: None,
    }
}

struct AllPermissions(ScopeSet, AllowedIps, Metadata, NamedLimits);

#[tokio::test]
async fn creating_or_renaming_a_key_reads_a_bounded_number_of_rows_with_20_000_keys() {
    run(async |app| {
        let acme = large_organization(app).await;
        let all = AllPermissions(
            ScopeSet::all(),
            AllowedIps::default(),
            Metadata::default(),
            NamedLimits::default(),
        );
        // A new name, a name that all other organizations use, and the name of an expired key, for
        // which the organization's keys are scanned once.
        for (name, max) in
            [("new", MAX_ROWS), ("ci", MAX_ROWS), ("large_20000", 2 * 20_000 + MAX_ROWS)]
        {
            let name = KeyName::parse(name).unwrap();
            let create = async |tx: &mut PgConnection| {
                keys::insert(tx, &new_key(&acme, &name, &all)).await.map(drop)
            };
            let read = rows_read(app, &acme, create).await;
            assert!(read <= max, "creating {name:?} reads {read} rows");
            let text = Some(name.as_str().to_owned());
            let key = ApiKey { name: text, ..acme.api_key.clone() };
            let rename = async |tx: &mut PgConnection| {
                keys::update(tx, acme.organization, &key, Some(&name)).await
            };
            let read = rows_read(app, &acme, rename).await;
            assert!(read <= 2 * 20_000 + MAX_ROWS, "renaming to {name:?} reads {read} rows");
        }
    })
    .await;
}
