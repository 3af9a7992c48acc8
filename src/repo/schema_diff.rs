//! Compares functions, triggers, policies, constraints, columns, owners and privileges with those
//! that the migrations of this version create.
//!
//! The expected schema is not recorded. The migrations run again, in a schema of their own and a
//! transaction that is rolled back, and the catalog's descriptions of both schemas are compared:
//! every version of Postgres describes both in the same way.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection, PgConnection};

use crate::error::Result;
use crate::repo::online_migrations;

/// The schema in which the migrations run. It is never visible to other transactions.
const REFERENCE: &str = "tenantry_reference";

/// Returns the differences as messages.
///
/// # Errors
/// The database's error, for example if the role may not create schemas.
pub async fn differences(db: &mut PgConnection) -> Result<Vec<String>> {
    let schema = sqlx::query_scalar!(r#"select current_schema()::text as "schema!""#);
    let schema = schema.fetch_one(&mut *db).await?;
    // A connection that is read-only by default can write in this transaction, which is rolled
    // back.
    let mut tx = db.begin_with("begin read write").await?;
    sqlx::raw_sql("create schema tenantry_reference").execute(&mut *tx).await?;
    search_path(&mut tx, REFERENCE).await?;
    online_migrations::run_unrecorded(&mut tx).await?;
    // With this search path, Postgres qualifies all names with their schemas.
    search_path(&mut tx, "pg_catalog").await?;
    let expected = describe(&mut tx, REFERENCE).await?;
    let actual = describe(&mut tx, &schema).await?;
    let mut differences = compare(&expected, &actual);
    differences.extend(list_unenforced(&mut tx, &schema).await?);
    differences.extend(list_shadowing(&mut tx, &schema).await?);
    tx.rollback().await?;
    Ok(differences)
}

async fn search_path(db: &mut PgConnection, schema: &str) -> Result<()> {
    let set = sqlx::query_scalar!("select set_config('search_path', $1, true)", schema);
    set.fetch_one(db).await?;
    Ok(())
}

/// The descriptions of objects, by the owning object and the kind and name.
type Descriptions = BTreeMap<(String, String), String>;

/// Returns the differences between the expected schema and the current one. Objects that others
/// added are ignored, unless they are on a table of the product or have the name of one of its
/// functions.
fn compare(expected: &Descriptions, actual: &Descriptions) -> Vec<String> {
    let owners: BTreeSet<_> = expected.keys().map(|(owner, _)| owner).collect();
    let mut differences = Vec::new();
    for (key, description) in expected {
        match actual.get(key) {
            None => differences.push(format!("{} is missing", key.1)),
            Some(other) if other != description => {
                differences.push(format!("{} is not as it was created", key.1));
            }
            Some(_) => {}
        }
    }
    let added = actual.keys().filter(|key| owners.contains(&key.0) && !expected.contains_key(*key));
    differences.extend(added.map(|(_, name)| format!("{name} was added")));
    differences
}

async fn describe(db: &mut PgConnection, schema: &str) -> Result<Descriptions> {
    let mut described = functions(db, schema).await?;
    described.extend(tables(db, schema).await?);
    Ok(described)
}

/// Returns the descriptions of functions. The owner is the name, so that an added overload is a
/// difference.
async fn functions(db: &mut PgConnection, schema: &str) -> Result<Descriptions> {
    let rows = sqlx::query!(
        r#"select 'function ' || p.proname as "owner!",
                  replace(format('function %s(%s)', p.proname,
                                 pg_get_function_identity_arguments(p.oid)),
                          quote_ident($1) || '.', '') as "name!",
                  replace(concat_ws(' ', pg_get_functiondef(p.oid), pg_get_userbyid(p.proowner),
                                    (select string_agg(a.grantee::text || a.privilege_type, ' '
                                                       order by a.grantee)
                                     from aclexplode(p.proacl) a where a.grantee <> p.proowner)),
                          quote_ident($1) || '.', '') as "description!"
           from pg_proc p
           where p.pronamespace = $1::text::regnamespace and p.prokind in ('f', 'p')"#,
        schema,
    )
    .fetch_all(db)
    .await?;
    let described = rows.into_iter().map(|row| ((row.owner, row.name), row.description));
    Ok(described.collect())
}

/// Returns the descriptions of tables, and of everything that belongs to them.
async fn tables(db: &mut PgConnection, schema: &str) -> Result<Descriptions> {
    let rows = sqlx::query!(
        r#"with tables as (
               select c.oid, c.relname::text as name, c.relkind, c.relpersistence,
                      c.relrowsecurity, c.relforcerowsecurity, c.relowner, c.relacl
               from pg_class c
               where c.relnamespace = $1::text::regnamespace and c.relkind in ('r', 'p', 'v', 'm'))
           select owner as "owner!",
                  name as "name!",
                  replace(description, quote_ident($1) || '.', '') as "description!"
           from (
               select t.name as owner, 'table ' || t.name as name,
                      concat_ws(' ', t.relkind, t.relpersistence, t.relrowsecurity,
                                t.relforcerowsecurity, pg_get_userbyid(t.relowner),
                                (select string_agg(a.grantee::text || a.privilege_type, ' '
                                                   order by a.grantee, a.privilege_type)
                                 from aclexplode(t.relacl) a
                                 where a.grantee <> t.relowner
                                   and (a.privilege_type <> 'SELECT'
                                        or a.grantee = 'tenantry_tenant'::regrole)))
                          as description
               from tables t
               union all
               select t.name, format('column %s of %s', a.attname, t.name),
                      concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull,
                                a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid),
                                (select string_agg(x.grantee::text || x.privilege_type, ' '
                                                   order by x.grantee, x.privilege_type)
                                 from aclexplode(a.attacl) x where x.grantee <> t.relowner))
               from tables t
               join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
               left join pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
               union all
               select t.name, format('trigger %s on %s', g.tgname, t.name),
                      concat_ws(' ', pg_get_triggerdef(g.oid), g.tgenabled)
               from tables t join pg_trigger g on g.tgrelid = t.oid and not g.tgisinternal
               union all
               select t.name, format('policy %s on %s', p.polname, t.name),
                      concat_ws(' ', p.polcmd, p.polpermissive,
                                (select string_agg(r::regrole::text, ' ' order by r)
                                 from unnest(p.polroles) r),
                                pg_get_expr(p.polqual, p.polrelid),
                                pg_get_expr(p.polwithcheck, p.polrelid))
               from tables t join pg_policy p on p.polrelid = t.oid
               union all
               select t.name, format('constraint %s on %s', c.conname, t.name),
                      pg_get_constraintdef(c.oid)
               from tables t join pg_constraint c on c.conrelid = t.oid
               union all
               select t.name, format('unique index %s on %s', c.relname, t.name),
                      concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid)
               from tables t join pg_index i on i.indrelid = t.oid and i.indisunique
               join pg_class c on c.oid = i.indexrelid
               union all
               select t.name, format('rule %s on %s', r.rulename, t.name),
                      concat_ws(' ', pg_get_ruledef(r.oid), r.ev_enabled)
               from tables t join pg_rewrite r on r.ev_class = t.oid
           ) described"#,
        schema,
    )
    .fetch_all(db)
    .await?;
    let described = rows.into_iter().map(|row| ((row.owner, row.name), row.description));
    Ok(described.collect())
}

/// Returns messages about tables whose foreign keys are not enforced, and about triggers that do
/// not fire.
async fn list_unenforced(db: &mut PgConnection, schema: &str) -> Result<Vec<String>> {
    let actual = sqlx::query_scalar!(
        r#"select 'foreign keys of ' || c.relname || ' are not enforced' as "found!"
           from pg_class c
           where c.relnamespace = $1::text::regnamespace and exists (
               select from pg_trigger t
               where t.tgrelid = c.oid and t.tgisinternal and t.tgenabled not in ('O', 'A'))
           union all
           select 'session_replication_role is ' || current_setting('session_replication_role')
                  || ', so that triggers do not fire'
           where current_setting('session_replication_role') not in ('origin', 'local')
           order by 1"#,
        schema,
    );
    Ok(actual.fetch_all(db).await?)
}

/// Returns messages about functions and operators with the name of one of the system, which they
/// could replace.
async fn list_shadowing(db: &mut PgConnection, schema: &str) -> Result<Vec<String>> {
    let actual = sqlx::query_scalar!(
        r#"select 'function ' || p.proname || ' has the name of one of the system' as "found!"
           from pg_proc p
           where p.pronamespace = $1::text::regnamespace
             and exists (select from pg_proc s where s.pronamespace = 'pg_catalog'::regnamespace
                                                 and s.proname = p.proname)
             and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
           union
           select 'operator ' || o.oprname || ' has the name of one of the system'
           from pg_operator o
           where o.oprnamespace = $1::text::regnamespace
             and exists (select from pg_operator s where s.oprnamespace = 'pg_catalog'::regnamespace
                                                     and s.oprname = o.oprname)
             and not exists (select from pg_depend d where d.objid = o.oid and d.deptype = 'e')
           order by 1"#,
        schema,
    );
    Ok(actual.fetch_all(db).await?)
}

/// Returns the owner of the product's schema, and the roles besides it and the current role that
/// may create objects in it (`public` is every role). There should be no such roles.
pub async fn list_schema_creators(db: &mut PgConnection) -> Result<(String, Vec<String>)> {
    let row = sqlx::query!(
        r#"select pg_get_userbyid(n.nspowner)::text as "owner!",
                  coalesce((select array_agg(distinct case a.grantee when 0 then 'public'
                                                      else pg_get_userbyid(a.grantee)::text end)
                   from aclexplode(n.nspacl) a
                   where a.privilege_type = 'CREATE' and a.grantee <> n.nspowner
                     and (a.grantee = 0 or not pg_has_role(current_user, a.grantee, 'usage'))),
                  '{}') as "creators!"
           from pg_namespace n where n.nspname = current_schema()"#,
    )
    .fetch_one(db)
    .await?;
    Ok((row.owner, row.creators))
}
