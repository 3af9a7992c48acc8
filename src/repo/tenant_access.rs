//! Whether what keeps tenants apart is there, and making it again: the role, row-level security and
//! its policies, the role's privileges.
//!
//! Migrations make it once. A dump without privileges, or restored where the role was missing or
//! under another owner, lacks some of it, and then requests in an organization's name fail or find
//! nothing. `.ci/prepare` writes what has to be there, from a fresh schema.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::error::Result;

/// The statements that make it, each after one that makes way for it.
const EXPECTED: &str = include_str!("sql/tenant_access_expected.sql");
/// What is made by `sql/tenant_role.sql`, as `sql/tenant_access.sql` names it.
const ROLE_STATEMENTS: [&str; 3] = [
    "create role tenantry_tenant nologin",
    "grant tenantry_tenant to current_user",
    "grant usage on schema to tenantry_tenant",
];

/// Returns the statements that create what is missing. The text of a policy's conditions is not
/// compared: versions of Postgres print it differently.
pub async fn list_missing(db: &mut PgConnection) -> Result<Vec<&'static str>> {
    let existing = sqlx::query_file_scalar!("src/repo/sql/tenant_access.sql").fetch_all(db).await?;
    let existing: HashSet<&str> = existing.iter().map(|statement| head(statement)).collect();
    Ok(expected().filter(|statement| !existing.contains(head(statement))).collect())
}

/// Whether the role, or the right to become it, is among what is missing.
#[must_use]
pub fn concerns_role(missing: &[&str]) -> bool {
    missing.iter().any(|statement| ROLE_STATEMENTS.contains(statement))
}

/// Creates the role, as far as the current role is allowed to.
///
/// # Errors
/// Where an administrator is needed, with the statements to run.
pub async fn create_role(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(include_str!("sql/tenant_role.sql")).execute(db).await?;
    Ok(())
}

/// Creates all of it; call this in a transaction.
pub async fn create(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    // Of servers that start together, one at a time.
    sqlx::raw_sql("select pg_advisory_xact_lock(7305016120412480870)").execute(&mut *db).await?;
    create_role(db).await?;
    sqlx::raw_sql(EXPECTED).execute(db).await?;
    Ok(())
}

/// What has to be there, without what makes way for it.
fn expected() -> impl Iterator<Item = &'static str> {
    let statements = EXPECTED.lines().map(|line| line.trim_end_matches(';'));
    ROLE_STATEMENTS.into_iter().chain(statements.filter(|line| !line.starts_with("drop policy")))
}

/// The part of a statement before a policy's conditions.
fn head(statement: &str) -> &str {
    let ends = [" using (", " with check ("].iter().filter_map(|word| statement.find(word));
    ends.min().map_or(statement, |end| &statement[..end])
}
