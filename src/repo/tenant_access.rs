//! Checks and restores the isolation of tenants in the database: the role, row-level security with
//! its policies, and the role's privileges.
//!
//! Migrations create it once. A database that was restored from a dump without privileges, without
//! the role or under another owner lacks some of it; then requests in an organization's name fail
//! or find nothing. `.ci/prepare` writes the expected statements from a fresh schema.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::error::Result;

/// The statements that create the isolation. A statement that drops an old policy precedes each
/// policy.
const EXPECTED: &str = include_str!("sql/tenant_access_expected.sql");
/// The statements of `sql/tenant_role.sql`, as `sql/tenant_access.sql` returns them.
const ROLE_STATEMENTS: [&str; 3] = [
    "create role tenantry_tenant nologin",
    "grant tenantry_tenant to current_user",
    "grant usage on schema to tenantry_tenant",
];

/// Returns the statements that create what is missing. The conditions of policies are not compared,
/// since versions of Postgres print them differently.
pub async fn list_missing(db: &mut PgConnection) -> Result<Vec<&'static str>> {
    let existing = sqlx::query_file_scalar!("src/repo/sql/tenant_access.sql").fetch_all(db).await?;
    let existing: HashSet<&str> = existing.iter().map(|statement| head(statement)).collect();
    Ok(expected().filter(|statement| !existing.contains(head(statement))).collect())
}

/// Returns whether the role, the privilege to set it, or its usage of the schema is missing.
#[must_use]
pub fn concerns_role(missing: &[&str]) -> bool {
    missing.iter().any(|statement| ROLE_STATEMENTS.contains(statement))
}

/// Creates the role, as far as the current role is allowed to.
///
/// # Errors
/// An administrator is needed. The error contains the statements to run.
pub async fn create_role(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(include_str!("sql/tenant_role.sql")).execute(db).await?;
    Ok(())
}

/// Creates the role, the policies and the privileges. Call this in a transaction.
pub async fn create(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    // If servers start at the same time, one creates them at a time.
    sqlx::raw_sql("select pg_advisory_xact_lock(7305016120412480870)").execute(&mut *db).await?;
    create_role(db).await?;
    sqlx::raw_sql(EXPECTED).execute(db).await?;
    Ok(())
}

/// Returns the expected statements, without those that drop old policies.
fn expected() -> impl Iterator<Item = &'static str> {
    let statements = EXPECTED.lines().map(|line| line.trim_end_matches(';'));
    ROLE_STATEMENTS.into_iter().chain(statements.filter(|line| !line.starts_with("drop policy")))
}

/// Returns the part of a statement before a policy's conditions.
fn head(statement: &str) -> &str {
    let ends = [" using (", " with check ("].iter().filter_map(|word| statement.find(word));
    ends.min().map_or(statement, |end| &statement[..end])
}
